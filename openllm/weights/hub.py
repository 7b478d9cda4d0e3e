"""Files of a hub repository, fetched into the shared cache of all hub clients on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from openllm.errors import OfflineMiss, WeightsError
from openllm.weights.disk import HUB_HINT, disk_errors, require_space
from openllm.weights.hub_cache import CachedRepo, files_under
from openllm.weights.hub_files import RepoFile, needed_files
from openllm.weights.local import is_whole, main_path
from openllm.weights.manifest import HubFiles, Manifest, Weights
from openllm.weights.progress import Reporter
from openllm.weights.settings import HubSettings
from openllm.weights.store import Store, key, write_atomically

if TYPE_CHECKING:
    from openllm.weights.hub_client import Repository
    from openllm.weights.hub_download import Download

# Files fetched at once. One connection seldom fills a fast line; many make the hub slow us down.
_AT_ONCE = 4


def fetch_hub(
    source: HubFiles,
    manifest: Manifest,
    store: Store,
    *,
    reporter: Reporter,
    offline: bool,
    settings: HubSettings,
) -> Weights:
    """Fetch the files that ``manifest`` needs and mark them. Needs the store's lock. Blocks.

    ``offline`` takes what any hub client has fetched before and opens no socket. Raises a ``WeightsError``,
    or ``UnknownModel`` when the hub has no such repository.
    """
    find = _cached_folder if offline else _download
    folder = find(source, manifest, settings, reporter)
    files = needed_files(files_under(folder), manifest.format, source.patterns)
    path = str(main_path(folder, manifest.format, files))
    weights = Weights(
        path=path, format=manifest.format, tokenizer=path if manifest.format == "gguf" else str(folder)
    )
    return store.mark(key(manifest), weights, [folder / file.path for file in files])


def _cached_folder(source: HubFiles, manifest: Manifest, settings: HubSettings, _reporter: Reporter) -> Path:
    folder = CachedRepo(settings.cache, source.repo).known_snapshot(source.revision)
    if folder is None or not is_whole(folder, manifest.format, source.patterns):
        raise OfflineMiss(
            f"{source.repo} is not whole on this machine, and --offline forbids fetching it.",
            hint=f"Run once without --offline: openllm pull {manifest.name}",
        )
    return folder


def _download(source: HubFiles, manifest: Manifest, settings: HubSettings, reporter: Reporter) -> Path:
    from openllm.weights.hub_client import Repository

    repository = Repository(source.repo, source.revision, settings)
    cached = CachedRepo(settings.cache, source.repo)
    files = needed_files(repository.files, manifest.format, source.patterns)
    if not files:
        wanted = ", ".join(source.patterns) or manifest.format
        raise WeightsError(
            f"{source.repo} has no files for {wanted} at {source.revision or 'main'}.",
            hint="Correct the file patterns in the recipe, or name another repository.",
        )
    with disk_errors(Path(settings.cache), hint=HUB_HINT):
        _fetch_files(repository, files, cached, reporter)
        if source.revision is None or source.revision != repository.commit:
            write_atomically(cached.ref(source.revision or "main"), repository.commit.encode())
    return cached.snapshot(repository.commit)


def _fetch_files(
    repository: Repository, files: Sequence[RepoFile], cached: CachedRepo, reporter: Reporter
) -> None:
    from openllm.weights.hub_download import Download

    snapshot = cached.snapshot(repository.commit)
    missing = [file for file in files if not (snapshot / file.path).exists()]
    downloads = [Download(repository, file, cached) for file in missing]
    if not downloads:
        return
    total = sum(download.file.bytes for download in downloads)
    here = sum(download.here() for download in downloads)
    require_space(cached.folder, total - here, hint=HUB_HINT)
    reporter.start(total, repository.repo, here)
    try:
        with repository.errors():
            _run_all(downloads, _Shared(reporter))
    finally:
        reporter.finish()


def _run_all(downloads: Sequence[Download], reporter: Reporter) -> None:
    """Fetch several files at once; when one fails the others stop, and its error is raised."""
    stop = Event()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
        try:
            futures = [pool.submit(download.run, reporter, stop) for download in downloads]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    _raise_first(futures)


def _raise_first(futures: Sequence[Future[None]]) -> None:
    from openllm.weights.hub_download import StoppedError

    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, StoppedError):
            raise error


class _Shared:
    """A reporter that several threads may tell."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lock = Lock()

    def start(self, total: int, label: str, done: int = 0) -> None:
        with self._lock:
            self._reporter.start(total, label, done)

    def advance(self, count: int) -> None:
        with self._lock:
            self._reporter.advance(count)

    def finish(self) -> None:
        with self._lock:
            self._reporter.finish()

    def note(self, text: str) -> None:
        with self._lock:
            self._reporter.note(text)
