"""The hub's own client, set up for us: what it is asked, and with which token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from time import sleep
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, but not in an __all__
    build_hf_headers,
    disable_progress_bars,
    hf_raise_for_status,
)

from openllm.weights.hub_errors import hub_errors
from openllm.weights.hub_files import RepoFile
from openllm.weights.settings import HubSettings

# The client would name installed packages in its user agent and ask the public hub which program runs it,
# whatever endpoint it was given. It looks at this whenever it builds a request.
constants.HF_HUB_DISABLE_TELEMETRY = True

_WAITS = (0.5, 1.5)  # seconds before the second and the third question
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PASSING = (408, 429, 500, 502, 503, 504)
T = TypeVar("T")

if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
    disable_progress_bars()  # ours are shown instead


class Repository:
    """One repository of the hub at one commit: its files, and how to read them. Every method blocks.

    All of them raise what ``hub_errors`` raises.
    """

    def __init__(self, repo: str, revision: str | None, settings: HubSettings) -> None:
        """Ask the hub which commit ``revision`` (None is the default branch) means, and for its files."""
        self.repo = repo
        self.revision = revision
        self.settings = settings
        with self.errors():
            self.info = again(self._model_info)
        self.commit: str = self.info.sha or ""
        counted = self.info.safetensors
        self.safetensors_counts: Mapping[str, int] | None = counted.parameters if counted else None
        self.files = tuple(_repo_file(sibling) for sibling in self.info.siblings or ())

    def errors(self) -> AbstractContextManager[None]:
        return hub_errors(self.repo, self.revision, self.settings)

    def _model_info(self) -> ModelInfo:
        settings = self.settings
        api = HfApi(endpoint=settings.endpoint, token=settings.token or False)
        return api.model_info(
            self.repo, revision=self.revision, files_metadata=True, timeout=settings.timeout
        )

    @contextmanager
    def open(self, path: str, begin: int = 0, end: int | None = None) -> Iterator[httpx2.Response]:
        """Stream the file from byte ``begin`` to before ``end``; status 200 means that all of it comes."""
        headers = build_hf_headers(token=self.settings.token or False)
        headers["Accept-Encoding"] = "identity"  # else its length, and a range, would be those of a gzip
        if begin or end is not None:
            headers["Range"] = f"bytes={begin}-{'' if end is None else end - 1}"
        url = hf_hub_url(self.repo, path, revision=self.commit, endpoint=self.settings.endpoint)
        with get_session().stream("GET", url, headers=headers, timeout=self.settings.timeout) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            yield response

    def read(self, path: str, begin: int = 0, end: int | None = None) -> bytes:
        """A piece of the file, or all of a small one."""

        def ask() -> bytes:
            with self.open(path, begin, end) as response:
                content = response.read()
            whole = response.status_code == 200
            return content[begin:end] if whole else content

        with self.errors():
            return again(ask)


def passing(error: Exception) -> bool:
    """May the same question be answered a moment later?"""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError)


def again(ask: Callable[[], T]) -> T:
    """Ask up to three times while the failure may pass."""
    for wait in _WAITS:
        try:
            return ask()
        except (HfHubHTTPError, httpx2.TransportError) as error:
            if not passing(error):
                raise
            sleep(wait)
    return ask()


def _repo_file(sibling: RepoSibling) -> RepoFile:
    lfs = sibling.lfs
    etag = (lfs.sha256 if lfs else sibling.blob_id) or ""
    return RepoFile(
        path=sibling.rfilename,
        bytes=(lfs.size if lfs else sibling.size) or 0,
        etag=etag if _HASH.fullmatch(etag) else "",  # it becomes a file name: nothing else may
        large=lfs is not None,
    )
