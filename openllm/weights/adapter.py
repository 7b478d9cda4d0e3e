"""LoRA adapters: where one is, and what its two files tell before an engine sees them.

The layout is PEFT's: ``adapter_config.json`` and ``adapter_model.safetensors``, whose tensors are pairs of matrices
``<module>.lora_A.weight`` (rank x inputs) and ``<module>.lora_B.weight`` (outputs x rank).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from openllm.errors import CorruptFile, InvalidAdapter, OfflineMiss, UsageError
from openllm.formats import safetensors_header
from openllm.formats.safetensors_header import SafetensorsHeader
from openllm.recipes import reference
from openllm.weights.hub_cache import CachedRepo
from openllm.weights.hub_files import ADAPTER_FILES
from openllm.weights.local import is_whole
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, Shape
from openllm.weights.model_tree import FolderTree, ModelTree, has
from openllm.weights.settings import HubSettings

CONFIG, TENSORS = ADAPTER_FILES
MOST_RANK = 512
"""The largest rank that an engine of ours can hold."""

_NAME = re.compile(r"\w[\w.:/@-]{0,127}", re.ASCII)
_MATRIX = re.compile(r"(?:base_model\.model\.)?(.+?)\.lora_(?:embedding_)?([AB])(?:\.weight)?")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.self_attn\.(?:q|k|v)_proj$")
_NOT_TEXT = ("vision", "visual", "audio")
# What PEFT can save and no engine of ours can apply: (key, values that are harmless, what it is).
_REFUSED: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("bias", ("none", None), "trained biases"),
    ("use_dora", (False, None), "DoRA"),
    ("modules_to_save", (None, []), "whole modules in place of the model's (modules_to_save)"),
    ("lora_bias", (False, None), "biases of its own (lora_bias)"),
    ("layer_replication", (None, []), "replicated layers"),
)


class AdapterRef(NamedTuple):
    """An adapter as it was asked for: the name that requests use, and a folder or ``org/name[@revision]``."""

    name: str
    reference: str


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one adapter.

    ``rank`` is that of its widest matrix; ``base`` what its author names as the model, maybe empty; ``hidden`` the
    width of the model's residual stream and ``layers`` the least number of layers, 0 where it does not tell.
    """

    name: str
    reference: str
    source: HubFiles | LocalPath
    rank: int
    bytes: int
    base: str = ""
    hidden: int = 0
    layers: int = 0

    def manifest(self) -> Manifest:
        """The manifest by which its files are fetched."""
        return adapter_manifest(self.reference, self.source)


def parse_adapter(text: str) -> AdapterRef:
    """Read ``NAME=PATH``. Raises ``UsageError``."""
    name, equals, where = text.partition("=")
    if not equals or not where.strip():
        raise UsageError(
            f"--adapter {text!r} is not NAME=PATH.", hint="Write --adapter sql=./folder or sql=org/name."
        )
    return AdapterRef(check_name(name.strip()), where.strip())


def check_name(name: str) -> str:
    """The name, if requests can use it. Raises ``InvalidAdapter``."""
    if not _NAME.fullmatch(name):
        raise InvalidAdapter(
            f"{name[:80]!r} cannot be an adapter's name.",
            hint="Use up to 128 letters, digits and . _ - : / @, a letter or digit first.",
            param="lora_name",
        )
    return name


def adapter_source(where: str) -> HubFiles | LocalPath:
    """Tell a folder from a hub id. Raises ``InvalidAdapter`` for what can be neither."""
    folder = Path(os.path.expanduser(where))  # pathlib's own raises for the ~ of an unknown user
    try:
        if folder.is_dir():
            return LocalPath(path=str(folder.absolute()))
    except OSError as error:
        raise _missing(f"{where[:200]} cannot be read: {error.strerror}.") from error
    try:
        match reference.parse_reference(where):
            case reference.HubId(repo=repo, revision=revision):
                return HubFiles(repo=repo, revision=revision)
            case reference.LocalPath(path=path):
                raise _missing(f"There is no folder {path}.")
    except UsageError as error:
        if isinstance(error, InvalidAdapter):
            raise
    raise _missing(f"{where[:200]!r} is neither a folder nor a hub id.")


def adapter_manifest(name: str, source: HubFiles | LocalPath) -> Manifest:
    """By which the store and the fetching child know an adapter; it has no shape of a model."""
    shape = Shape(
        architecture="", parameters=0, layers=0, hidden=0, heads=0, kv_heads=0, head_size=0, vocabulary=0
    )
    return Manifest(
        name=name, variant="lora", format="lora", quantization="none", dtype="auto", bytes=0, context=0,
        shape=shape, source=source, engines=("vllm",),
    )  # fmt: skip


def inspect_adapter(ref: AdapterRef, *, hub: HubSettings, offline: bool) -> Adapter:
    """Read an adapter's settings and the header of its tensors; downloads neither.

    Quick for a folder and for what is in the shared cache; else blocks for a few answers of the hub. Raises
    ``InvalidAdapter`` for what is damaged or cannot be applied, and what the hub answers.
    """
    source = adapter_source(ref.reference)
    if isinstance(source, LocalPath):
        return read_adapter(ref, source, FolderTree(Path(source.path)))
    folder = CachedRepo(hub.cache, source.repo).known_snapshot(source.revision)
    if folder is not None and is_whole(folder, "lora", ()):
        return read_adapter(ref, source, FolderTree(folder))
    if offline:
        raise OfflineMiss(
            f"The adapter {source.repo} is not on this machine, and --offline forbids fetching it.",
            hint="Run once without --offline, or name a folder.",
        )
    from openllm.weights.hub_client import Repository

    return read_adapter(ref, source, Repository(source.repo, source.revision, hub))


def read_adapter(ref: AdapterRef, source: HubFiles | LocalPath, tree: ModelTree) -> Adapter:
    """The facts of the adapter whose files are ``tree``. Raises as ``inspect_adapter``."""
    for path in ADAPTER_FILES:
        if not has(tree, path):
            raise _missing(f"{ref.reference} has no {path}.")
    config = _config(tree, ref)
    header = _header(tree, ref)
    modules = _modules(header, ref)
    hidden, layers = _text_shape(modules)
    return Adapter(
        name=ref.name,
        reference=ref.reference,
        source=source,
        rank=_rank(config, modules, ref),
        bytes=header.data_bytes,
        base=str(config.get("base_model_name_or_path") or ""),
        hidden=hidden,
        layers=layers,
    )


class _Pair(msgspec.Struct):
    """The shapes of one module's matrices."""

    a: tuple[int, ...] = ()
    b: tuple[int, ...] = ()
    embedding: bool = False


def _config(tree: ModelTree, ref: AdapterRef) -> Mapping[str, Any]:
    try:
        config = msgspec.json.decode(tree.read(CONFIG), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _wrong(ref, f"has a damaged {CONFIG}", "Copy or fetch the file again.") from None
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise _wrong(
            ref, f"is of the type {kind or 'unknown'}, not LORA", "Only LoRA adapters can be served."
        )
    for key, harmless, what in _REFUSED:
        if config.get(key) not in harmless:
            raise _wrong(ref, f"holds {what}", "Merge it into the model, or train it without.")
    return config


def _header(tree: ModelTree, ref: AdapterRef) -> SafetensorsHeader:
    label = f"{ref.reference}/{TENSORS}"
    size = next(file.bytes for file in tree.files if file.path == TENSORS)
    start = tree.read(TENSORS, 0, safetensors_header.LENGTH_BYTES)
    try:
        length = safetensors_header.header_length(start, label)
        text = tree.read(TENSORS, safetensors_header.LENGTH_BYTES, length)
        header = safetensors_header.parse_header(text, label)
        safetensors_header.check_size(header, size, label)
    except CorruptFile as error:
        raise InvalidAdapter(error.message, hint=error.hint, param="adapter") from None
    return header


def _modules(header: SafetensorsHeader, ref: AdapterRef) -> dict[str, _Pair]:
    modules: dict[str, _Pair] = {}
    for name, tensor in header.tensors.items():
        if name.endswith(".base_layer.weight"):
            continue  # PEFT keeps a copy of a model's own embedding beside a LoRA of it
        found = _MATRIX.fullmatch(name)
        if found is None or len(tensor.shape) != 2:
            raise _wrong(
                ref, f"holds {name[:100]!r}, which is no LoRA matrix", "Save it with PEFT as a LoRA."
            )
        pair = modules.setdefault(found[1], _Pair(embedding=".lora_embedding_" in name))
        setattr(pair, found[2].lower(), tensor.shape)
    if not modules:
        raise _wrong(ref, "holds no matrices", "Save it again.")
    for module, pair in modules.items():
        if not pair.a or not pair.b or pair.a[0] != pair.b[1]:
            raise _wrong(ref, f"has matrices of {module[:100]!r} that do not go together", "Save it again.")
    return modules


def _rank(config: Mapping[str, Any], modules: Mapping[str, _Pair], ref: AdapterRef) -> int:
    """The largest rank that is said or held: engines believe the one or the other."""
    said, patterns = config.get("r"), config.get("rank_pattern") or {}
    ranks = [said, *(patterns.values() if isinstance(patterns, dict) else ())]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise _wrong(ref, f"has no valid rank in {CONFIG}", "Save it again with PEFT.")
    rank = max(*ranks, *(pair.a[0] for pair in modules.values()))
    if rank > MOST_RANK:
        raise _wrong(ref, f"has the rank {rank}; the largest is {MOST_RANK}", "Train it with a smaller rank.")
    return int(rank)


def _text_shape(modules: Mapping[str, _Pair]) -> tuple[int, int]:
    """(hidden, layers) of the language model that it was made for, as far as its attention's inputs tell."""
    hidden = layers = 0
    for module, pair in modules.items():
        found = _LAYER.search(module)
        if found and not any(word in module for word in _NOT_TEXT):
            hidden = pair.a[1]
            layers = max(layers, int(found[1]) + 1)
    return hidden, layers


def _missing(message: str) -> InvalidAdapter:
    return InvalidAdapter(
        message,
        hint=f"Wanted is a folder, or a hub id org/name, with {CONFIG} and {TENSORS}.",
        param="adapter",
    )


def _wrong(ref: AdapterRef, what: str, hint: str) -> InvalidAdapter:
    return InvalidAdapter(f"The adapter {ref.name} ({ref.reference}) {what}.", hint=hint, param="adapter")
