"""The floats that a checkpoint is made from: which of a model's variants, and as a folder that every tool reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from openllm.chat.tokenizer import ChatTokenizer
from openllm.errors import OpenLLMError, UnsupportedOption, WeightsError
from openllm.formats.gguf_header import read_header
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, PypiFile, PypiFolder, Weights

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "generation_config.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
# Of a GGUF's types, the one that lost least first.
_PRECISION = ("f32", "bf16", "f16", "q8_0", "q6_k", "q5", "q4", "q3", "q2")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that are here: their manifest, where they lie, and what identifies them."""

    manifest: Manifest
    weights: Weights
    origin: str
    sha256: str

    @property
    def is_gguf(self) -> bool:
        return self.weights.format == "gguf"


def candidates(manifests: Sequence[Manifest], variant: str | None) -> list[Manifest]:
    """Variants that floats can be taken from, the most exact first. Raises ``UnsupportedOption`` if there is none."""
    named = [each for each in manifests if variant is None or each.variant.lower() == variant.lower()]
    if not named:
        raise UnsupportedOption(
            f"{manifests[0].name} has no variant {variant!r}.",
            hint=f"It has {', '.join(each.variant for each in manifests)}.",
            param="variant",
        )
    able = [each for each in named if _exactness(each) is not None]
    if manifests[0].task not in ("chat", "completion") or manifests[0].sees or not able:
        what = ", ".join(dict.fromkeys(f"{each.format} {each.quantization}" for each in named))
        raise UnsupportedOption(
            f"{manifests[0].name} ({manifests[0].task}, {what}) cannot be quantized here.",
            hint="Quantized are language models, from float safetensors or a GGUF file.",
            param="model",
        )
    return sorted(able, key=lambda each: _exactness(each) or 0)


def _exactness(manifest: Manifest) -> int | None:
    if manifest.format == "safetensors" and manifest.quantization == "none":
        return 1
    if manifest.format != "gguf":
        return None
    kind = manifest.quantization.removeprefix("gguf-")
    return next((place for place, start in enumerate(_PRECISION, 2) if kind.startswith(start)), 99)


def first_to_be_had(
    able: Sequence[Manifest], fetch: Callable[[Manifest], Weights], note: Callable[[str], None]
) -> Source:
    """The first of ``able`` that can be fetched. Says what was passed over; raises what the first one raised."""
    errors: list[OpenLLMError] = []
    for manifest in able:
        try:
            weights = fetch(manifest)
        except WeightsError as error:
            errors.append(error)
            note(f"{manifest.name}@{manifest.variant} cannot be had: {error.message}")
            continue
        if errors:
            note(f"using {manifest.variant} ({manifest.quantization}) instead: what it has lost stays lost")
        return Source(
            manifest=manifest, weights=weights, origin=_origin(manifest, weights), sha256=_digest(weights)
        )
    raise errors[0]


def _origin(manifest: Manifest, weights: Weights) -> str:
    match manifest.source:
        case HubFiles(repo=repo):
            return f"hub {repo}@{_snapshot(weights)}"
        case PypiFile(package=package, version=version, file=file):
            return f"PyPI {package} {version}, {file}"
        case PypiFolder(package=package, version=version, folder=folder):
            return f"PyPI {package} {version}, {folder}"
        case LocalPath(path=path):
            return path


def _snapshot(weights: Weights) -> str:
    """The commit: the hub's cache has a folder of its name."""
    parts = Path(weights.path).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown"


def _digest(weights: Weights) -> str:
    path = Path(weights.path)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while piece := stream.read(8 << 20):
                digest.update(piece)
    return digest.hexdigest()


def inner_widths(source: Source) -> tuple[int, ...]:
    """The input widths of the model's matrices, which groups must divide."""
    shape = source.manifest.shape
    widths = [shape.hidden, shape.heads * shape.head_size]
    if source.is_gguf:
        header = read_header(Path(source.weights.path), skip_arrays=True)
        inner = header.metadata.get(f"{header.metadata.get('general.architecture')}.feed_forward_length")
    else:
        config = json.loads((Path(source.weights.path) / "config.json").read_text())
        inner = config.get("intermediate_size")
    if isinstance(inner, int):
        widths.append(inner)
    return tuple(dict.fromkeys(widths))


def link_folder(floats: Path, source: Source, tokenizer: ChatTokenizer, folder: Path) -> None:
    """Fill ``folder`` with what tools read: the files of ``floats`` (without copies, where the disk allows it) and the
    tokenizer's."""
    for file in floats.iterdir():
        if file.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt") and file.is_file():
            _link(file.resolve(), folder / file.name)
    write_tokenizer(source, tokenizer, folder)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, target)


def write_tokenizer(source: Source, tokenizer: ChatTokenizer, folder: Path) -> None:
    """Put the tokenizer's files into ``folder``: those of the source, or, of a GGUF, the same as files."""
    origin = Path(source.weights.tokenizer)
    if origin.is_dir():
        for name in TOKENIZER_FILES:
            if (origin / name).is_file() and not (folder / name).exists():
                shutil.copyfile(origin / name, folder / name)
        return
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **tokenizer.special_tokens}
    config["model_max_length"] = source.manifest.context
    _write(folder / "tokenizer_config.json", config)
    if tokenizer.chat_template:
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    generation = folder / "generation_config.json"
    known = json.loads(generation.read_text()) if generation.is_file() else {}
    generation.unlink(missing_ok=True)  # it may be a link to the cached one
    _write(generation, {**known, "eos_token_id": list(tokenizer.stop_ids)})


def copy_config(source: Source, folder: Path) -> None:
    """Put the source's config.json into ``folder``; of a GGUF file, the facts that a reader of the folder needs."""
    if not source.is_gguf:
        shutil.copyfile(Path(source.weights.path) / "config.json", folder / "config.json")
        return
    shape = source.manifest.shape
    header = read_header(Path(source.weights.path), skip_arrays=True)
    family = str(header.metadata.get("general.architecture"))
    facts = {
        "architectures": [shape.architecture],
        "model_type": family,
        "hidden_size": shape.hidden,
        "intermediate_size": header.metadata.get(f"{family}.feed_forward_length"),
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": source.manifest.context,
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in header.tensors),
    }
    _write(folder / "config.json", facts)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
