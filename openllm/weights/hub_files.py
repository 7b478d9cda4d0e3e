"""Which files of a repository are needed to run it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import msgspec

from openllm.weights.manifest import Format


class RepoFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a repository: its path, bytes, and what proves its content (the hub's ETag).

    ``etag`` is the sha256 of a large file and the git blob id of a small one; empty if the hub does not tell.
    """

    path: str
    bytes: int
    etag: str = ""
    large: bool = False


# Tokenizer and settings. The folders are those of sentence-transformers (1_Pooling, 2_Dense).
_SETTINGS = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "vocab.txt", "merges.txt", "[0-9]_*/*")
_NEVER = ("adapter_*", "training_args*", "optimizer*", "*.index.fp*.json", "*.onnx*", "mmproj*")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_OLD_WEIGHTS = ("pytorch_model*.bin", "model*.bin")


def needed_files(
    files: Sequence[RepoFile], format: Format, patterns: Sequence[str] = ()
) -> tuple[RepoFile, ...]:
    """The files to fetch: those that match ``patterns``, or, without any, what ``format`` needs."""
    if patterns:
        return tuple(file for file in files if any(fnmatchcase(file.path, each) for each in patterns))
    match format:
        case "safetensors":
            return _safetensors_files(files)
        case "gguf":
            return gguf_weights(files)
        case "openvino":
            return tuple(file for file in files if _is_ir(file) or _is_setting(file))
        case "lora":
            return tuple(file for file in files if file.path in ADAPTER_FILES)


def safetensors_weights(files: Sequence[RepoFile]) -> tuple[RepoFile, ...]:
    """The weights themselves: safetensors, else the older .bin files; one copy of each, no other precision.

    Left out: folders (``original/``, ``onnx/``), Mistral's ``consolidated*`` beside the usual files, and
    variants such as ``model.fp16.safetensors`` beside ``model.safetensors``.
    """
    top = [file for file in files if "/" not in file.path and not _matches(file, _NEVER)]
    found = [file for file in top if file.path.endswith(".safetensors")]
    usual = [file for file in found if not file.path.startswith("consolidated")]
    plain = [file for file in usual if file.path.removesuffix(".safetensors").count(".") == 0]
    return tuple(plain or usual or found or [file for file in top if _matches(file, _OLD_WEIGHTS)])


def gguf_weights(files: Sequence[RepoFile]) -> tuple[RepoFile, ...]:
    """Every .gguf file that holds a model; not the vision parts and importance matrices beside it."""
    return tuple(
        file
        for file in files
        if file.path.endswith(".gguf") and not _matches(file, _NEVER) and "imatrix" not in file.path.lower()
    )


def _safetensors_files(files: Sequence[RepoFile]) -> tuple[RepoFile, ...]:
    weights = safetensors_weights(files)
    old = any(_matches(file, _OLD_WEIGHTS) for file in weights)
    unused = "*.safetensors.index.json" if old else "*.bin.index.json"
    settings = [file for file in files if _is_setting(file) and not _matches(file, (unused,))]
    return (*settings, *weights)


def _is_setting(file: RepoFile) -> bool:
    inside = "/" in file.path
    shaped = any(fnmatchcase(file.path, each) and inside == ("/" in each) for each in _SETTINGS)
    return shaped and not _matches(file, _NEVER)


def _is_ir(file: RepoFile) -> bool:
    return "/" not in file.path and PurePosixPath(file.path).suffix in (".xml", ".bin")


def _matches(file: RepoFile, patterns: Sequence[str]) -> bool:
    name = PurePosixPath(file.path).name
    return any(fnmatchcase(name, each) for each in patterns)
