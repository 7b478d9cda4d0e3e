"""From a model's files to its manifests, without reading a tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec

from openllm.errors import CorruptFile, WeightsError
from openllm.formats import gguf_header, safetensors_header
from openllm.formats.gguf_header import GgufHeader
from openllm.formats.sentence_model import TRANSFORMER_FILES
from openllm.weights.chat_guess import guess_chat, guess_task
from openllm.weights.config_quantization import (
    SETTINGS_FILES,
    quantization_from_config,
    quantization_from_types,
)
from openllm.weights.config_shape import Config, shape_from_config
from openllm.weights.encoder_facts import ENCODER_TASKS, embedding_format, encoder_context, is_built
from openllm.weights.gguf_facts import GgufFacts, quantization_in_name, rank
from openllm.weights.hub_files import RepoFile, gguf_weights, safetensors_weights
from openllm.weights.local import IR_MODEL, shards
from openllm.weights.manifest import Manifest, Source
from openllm.weights.model_tree import ModelTree, has

# Builds the source of a manifest from the patterns of its files; no patterns: what the format needs.
Sources = Callable[[tuple[str, ...]], Source]

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_GGUF_DTYPES = {"gguf-f32": "float32", "gguf-bf16": "bfloat16"}
# Types of constants in an IR's graph -> what its weights are; the narrowest tells.
_IR_TYPES = (
    (b'element_type="u4"', "int4"),
    (b'element_type="i4"', "int4"),
    (b'element_type="nf4"', "int4"),
    (b'element_type="u8"', "int8"),
    (b'element_type="i8"', "int8"),
)
# Bytes of a GGUF header to ask for; vocabularies take 2 to 20 MB.
_HEADER_STEPS = (4 << 20, 16 << 20, 64 << 20)


def tree_manifests(tree: ModelTree, name: str, sources: Sources) -> tuple[Manifest, ...]:
    """Every form of weights in ``tree``: safetensors, OpenVINO IR, GGUF, best first.

    Raises ``WeightsError`` if there is none, or a file that tells its facts is missing; ``CorruptFile`` if such a
    file is damaged.
    """
    found: list[Manifest] = []
    if safetensors_weights(tree.files) and has(tree, "config.json") and not has(tree, IR_MODEL):
        found.append(_safetensors_manifest(tree, name, sources))
    if has(tree, IR_MODEL):
        found.append(_ir_manifest(tree, name, sources))
    found.extend(_gguf_manifests(tree, name, sources))
    if not found:
        raise WeightsError(
            f"{name} holds no weights that can be served.",
            hint="Wanted are config.json with .safetensors files, an OpenVINO IR, or a .gguf file.",
        )
    return tuple(found)


def gguf_manifest(
    facts: GgufFacts, name: str, variant: str, source: Source, *, size: int, parameters: int | None = None
) -> Manifest:
    """The manifest of a GGUF model of ``size`` bytes; ``parameters`` if it lies in several files."""
    return Manifest(
        name=name,
        variant=variant,
        format="gguf",
        quantization=facts.quantization,
        dtype=facts.dtype,
        bytes=size,
        context=facts.context,
        shape=facts.shape(parameters),
        source=source,
        engines=facts.engines,
        chat=guess_chat(facts.template),
        task=facts.task,
        license=facts.license,
    )


def _safetensors_manifest(tree: ModelTree, name: str, sources: Sources) -> Manifest:
    raw = _json(tree, "config.json", name)
    config = Config(raw, name)
    quantization = quantization_from_config(raw, _quantization_settings(tree, name))
    weights = safetensors_weights(tree.files)
    counts = _numbers_by_dtype(tree, weights, name)
    if quantization == "none":
        quantization = quantization_from_types(counts)
    plain = quantization == "none" and bool(counts) and counts.keys() <= _DTYPES.keys()
    dtype = config.dtype
    if plain and dtype is None:
        dtype = _DTYPES[max(counts, key=counts.__getitem__)]
    template = _template(tree, name)
    task = _task(tree, config, template)
    encodes = task in ENCODER_TASKS
    return Manifest(
        name=name,
        variant="safetensors",
        format="safetensors",
        quantization=quantization,
        dtype=dtype or "float32",  # as transformers reads it
        bytes=sum(file.bytes for file in weights),
        context=_encoder_context(tree, config, name) if encodes else config.context,
        shape=shape_from_config(config, sum(counts.values()) if plain else None),
        source=sources(()),
        engines=(
            *(["openvino"] if encodes and plain and is_built(config.architecture) else []),
            "vllm",
            "transformers",
        ),
        chat=guess_chat(template),
        embedding=embedding_format(raw),
        task=task,
        sees=isinstance(raw.get("vision_config"), dict),
    )


def _ir_manifest(tree: ModelTree, name: str, sources: Sources) -> Manifest:
    raw = _json(tree, "config.json", name)
    config = Config(raw, name)
    graph = tree.read(IR_MODEL)
    template = _template(tree, name)
    task = _task(tree, config, template)
    weights = IR_MODEL.replace(".xml", ".bin")
    return Manifest(
        name=name,
        variant="openvino",
        format="openvino",
        quantization=next((kind for sign, kind in _IR_TYPES if sign in graph), "none"),
        dtype="float16" if b'element_type="f16"' in graph else "float32",
        bytes=sum(file.bytes for file in tree.files if file.path == weights),
        context=_encoder_context(tree, config, name) if task in ENCODER_TASKS else config.context,
        shape=shape_from_config(config),
        source=sources(()),
        engines=("openvino",),
        chat=guess_chat(template),
        embedding=embedding_format(raw),
        task=task,
    )


def _gguf_manifests(tree: ModelTree, name: str, sources: Sources) -> list[Manifest]:
    """One manifest for each quantization that the folder has; the shape comes from the header of the best."""
    models: dict[tuple[str, ...], int] = {}
    sizes = {file.path: file.bytes for file in tree.files}
    for file in gguf_weights(tree.files):
        parent, _, base = file.path.rpartition("/")
        parts = tuple(f"{parent}/{part}" if parent else part for part in shards(base))
        if file.path == parts[0]:
            models[parts] = sum(sizes.get(part, 0) for part in parts)
    if not models:
        return []
    kinds = {parts: quantization_in_name(parts[0]) for parts in models}
    best = min(models, key=lambda parts: (rank(kinds[parts] or ""), parts))
    facts = GgufFacts(_gguf_header(tree, best[0], sizes[best[0]], name), f"{name}/{best[0]}")
    held = sum(tensor.bytes for tensor in facts.header.tensors)
    whole = facts.shape().parameters  # of the first file: the others hold the rest of the bytes
    parameters = round(whole * models[best] / held) if len(best) > 1 and held else whole
    first = gguf_manifest(facts, name, "", sources(best), size=models[best], parameters=parameters)
    found = []
    for parts, size in models.items():
        kind = kinds[parts] or (facts.quantization if parts == best else "gguf-unknown")
        changed = msgspec.structs.replace(
            first,
            variant=kind.removeprefix("gguf-"),
            quantization=kind,
            dtype=_GGUF_DTYPES.get(kind, "float16"),
            bytes=size,
            source=sources(parts),
        )
        found.append(changed)
    return sorted(found, key=lambda manifest: rank(manifest.quantization))


def _gguf_header(tree: ModelTree, path: str, size: int, name: str) -> GgufHeader:
    """The header of a file that may be far away: the reader is given its beginning, and nothing after it."""
    with NamedTemporaryFile(suffix=".gguf") as copy:
        copy.truncate(size)  # sparse: as long as the file, for the reader's check of its tensors' places
        have = 0
        for step in _HEADER_STEPS:
            step = min(step, size)
            copy.seek(have)
            copy.write(tree.read(path, have, step))
            copy.flush()
            have = step
            try:
                header = gguf_header.read_header(Path(copy.name), skip_arrays=True)
            except CorruptFile:
                if have == size:
                    break
                continue
            if header.data_offset <= have:
                return header
    raise CorruptFile(
        f"{name}/{path} is not a GGUF file that can be read.", hint="Use another file of the model."
    )


def _numbers_by_dtype(tree: ModelTree, weights: Sequence[RepoFile], name: str) -> Mapping[str, int]:
    """Numbers of each type in safetensors files; empty for the older format, which has no header to ask."""
    if tree.safetensors_counts is not None:
        return tree.safetensors_counts
    counts: Counter[str] = Counter()
    for file in weights:
        if not file.path.endswith(".safetensors"):
            return {}
        label = f"{name}/{file.path}"
        length = safetensors_header.header_length(
            tree.read(file.path, 0, safetensors_header.LENGTH_BYTES), label
        )
        text = tree.read(file.path, safetensors_header.LENGTH_BYTES, length)
        header = safetensors_header.parse_header(text, label)
        safetensors_header.check_size(header, file.bytes, label)
        for tensor in header.tensors.values():
            counts[tensor.dtype] += tensor.numbers
    return counts


def _quantization_settings(tree: ModelTree, name: str) -> dict[str, Any]:
    path = next((path for path in SETTINGS_FILES if has(tree, path)), None)
    return _json(tree, path, name) if path else {}


def _template(tree: ModelTree, name: str) -> str | None:
    """The chat template, from any of the three places where it may be."""
    if has(tree, "chat_template.jinja"):
        return tree.read("chat_template.jinja").decode(errors="replace")
    for path in ("chat_template.json", "tokenizer_config.json"):
        found = _json(tree, path, name).get("chat_template") if has(tree, path) else None
        if isinstance(found, list):  # several, by name
            found = next((each.get("template") for each in found if each.get("name") == "default"), None)
        if isinstance(found, str):
            return found
    return None


def _task(tree: ModelTree, config: Config, template: str | None) -> str:
    sentence_transformer = has(tree, "modules.json")
    return guess_task(config.architecture, template=bool(template), sentence_transformer=sentence_transformer)


def _encoder_context(tree: ModelTree, config: Config, name: str) -> int:
    path = next((path for path in TRANSFORMER_FILES if has(tree, path)), None)
    longest = _json(tree, path, name).get("max_seq_length") if path else None
    return encoder_context(config, longest)


def _json(tree: ModelTree, path: str, name: str) -> dict[str, Any]:
    if not has(tree, path):
        raise WeightsError(
            f"{name} has no {path}.", hint="Its facts stand there; use the model's complete folder."
        )
    try:
        return msgspec.json.decode(tree.read(path), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CorruptFile(f"{path} of {name} is damaged.", hint="Fetch the file again.") from None
