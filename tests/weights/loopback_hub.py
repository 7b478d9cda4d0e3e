"""A small model hub on loopback, for the real hub client: what the public one answers, and faults on demand.

The answers' form is that of the hub's HTTP API: file listing with sizes and hashes, files with ETag, commit and
ranges, and X-Error-Code with what is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?$")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)$")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")
_PIECE = 64 * 1024


@dataclass
class LoopbackRepo:
    """A repository: files by path; those named ``large`` have their sha256 as ETag, others git's blob id."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    branches: tuple[str, ...] = ("main",)
    token: str | None = None
    gated: bool = False
    tells_hashes: bool = True

    def etag(self, path: str) -> str:
        content = self.files[path]
        if self.large(path):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    def large(self, path: str) -> bool:
        return path.endswith((".safetensors", ".gguf", ".bin"))

    def listing(self, name: str) -> dict[str, object]:
        siblings = []
        for path, content in self.files.items():
            entry: dict[str, object] = {"rfilename": path, "size": len(content)}
            if self.tells_hashes:
                entry["blobId"] = self.etag(path)
            if self.tells_hashes and self.large(path):
                entry["lfs"] = {"sha256": self.etag(path), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        gated = "manual" if self.gated else False
        return {"id": name, "sha": self.commit, "gated": gated, "private": False, "siblings": siblings}

    def tree(self) -> list[dict[str, object]]:
        """The other form of the listing, which the client's snapshot_download asks for."""
        entries = []
        for path, content in self.files.items():
            entry: dict[str, object] = {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": self.etag(path),
            }
            if self.large(path):
                entry["lfs"] = {"oid": self.etag(path), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries


@dataclass
class Asked:
    """One request as the hub saw it, and how many bytes of the body it sent."""

    method: str
    path: str
    begin: int = 0
    end: int | None = None
    sent: int = 0


@dataclass
class Faults:
    """What goes wrong. ``cuts``: for each path, after how many bytes of its next answers the line is cut."""

    cuts: dict[str, list[int]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    status: int | None = None
    without_ranges: bool = False
    seconds_per_piece: float = 0.0
    silent: bool = False


class LoopbackHub:
    """The hub. As a context manager it serves on a free port; ``url`` is its endpoint."""

    def __init__(self) -> None:
        self.repos: dict[str, LoopbackRepo] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def bytes_sent(self, path: str) -> int:
        """Bytes of the file's content sent in all answers."""
        return sum(asked.sent for asked in self.asked if asked.path.endswith("/" + path))

    def files_asked(self) -> set[str]:
        """Paths of files whose content was asked for."""
        matches = [_FILE.match(asked.path) for asked in self.asked if asked.method == "GET"]
        return {match["path"] for match in matches if match}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = Asked(self.command, path)
        self.hub.asked.append(asked)
        if self.hub.faults.silent:
            time.sleep(30)
        if self.hub.faults.status:
            self._refuse(self.hub.faults.status, None)
        elif found := _TREE.match(path):
            self._list_tree(found["repo"], found["revision"])
        elif found := _API.match(path):
            self._list(found["repo"], found["revision"])
        elif found := _FILE.match(path):
            self._send_file(found["repo"], found["revision"], found["path"], asked)
        else:
            self._refuse(404, None)

    def _list(self, name: str, revision: str | None) -> None:
        repo = self._open(name, revision, gate=False)
        if repo is not None:
            self._send_all(200, {"Content-Type": "application/json"}, json.dumps(repo.listing(name)).encode())

    def _list_tree(self, name: str, revision: str) -> None:
        repo = self._open(name, revision, gate=False)
        if repo is not None:
            self._send_all(200, {"Content-Type": "application/json"}, json.dumps(repo.tree()).encode())

    def _open(self, name: str, revision: str | None, *, gate: bool) -> LoopbackRepo | None:
        """The repository if it may be read; otherwise it has been refused. A gate closes only the files."""
        repo = self.hub.repos.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None:
            self._refuse(401 if not given else 404, "RepoNotFound")
        elif repo.gated and gate and given != repo.token:
            self._refuse(403 if given else 401, "GatedRepo")
        elif revision is not None and revision not in (*repo.branches, repo.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return repo
        return None

    def _send_file(self, name: str, revision: str, path: str, asked: Asked) -> None:
        repo = self._open(name, revision, gate=True)
        if repo is None:
            return
        if path not in repo.files:
            self._refuse(404, "EntryNotFound")
            return
        content = repo.files[path]
        etag = repo.etag(path)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if path in self.hub.faults.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, begin, end = 200, 0, len(content)
        wanted = _RANGE.match(self.headers.get("Range", ""))
        if wanted and not self.hub.faults.without_ranges:
            begin = int(wanted[1])
            end = min(int(wanted[2]) + 1 if wanted[2] else end, end)
            if begin >= len(content):
                self._refuse(416, None)
                return
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        asked.begin, asked.end = begin, end
        self._send_head(status, headers, end - begin)
        if self.command == "GET":
            self._send_body(path, content[begin:end], asked)

    def _send_body(self, path: str, body: bytes, asked: Asked) -> None:
        faults = self.hub.faults
        cuts = faults.cuts.get(path)
        limit = cuts.pop(0) if cuts else len(body)
        try:
            for start in range(0, min(limit, len(body)), _PIECE):
                piece = body[start : min(start + _PIECE, limit)]
                self.wfile.write(piece)
                asked.sent += len(piece)
                time.sleep(faults.seconds_per_piece)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if limit < len(body):
            self.close_connection = True

    def _refuse(self, status: int, code: str | None) -> None:
        self._send_all(status, {"X-Error-Code": code} if code else {}, b"{}")

    def _send_all(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._send_head(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _send_head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
