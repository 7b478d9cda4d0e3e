"""Uploaded files, with OpenAI's own client."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serving import MODEL, Served, serving

FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def keeping(folder: Path) -> Iterator[Served]:
    """At most 300 kB a file and 1 MB together."""
    options = ("--data-dir", str(folder), "--max-upload", "300kB", "--data-limit", "1MB")
    with serving(MODEL, "--backend", "echo", *options) as server:
        server.until_ready()
        yield server


@pytest.fixture
def client(keeping: Served) -> Iterator[openai.OpenAI]:
    with keeping.client as made:
        yield made
        for file in made.files.list():
            made.files.delete(file.id)


def upload(client: openai.OpenAI, content: bytes = b"hello", name: str = "a.jsonl", **more: Any) -> Any:
    return client.files.create(file=(name, content), **{"purpose": "batch", **more})


def part(name: str, value: str, filename: str | None = None) -> str:
    named = "" if filename is None else f'; filename="{filename}"'
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n'


def test_a_file_from_its_upload_to_its_end(client: openai.OpenAI, folder: Path) -> None:
    content = bytes(range(256)) * 1000
    before = int(time.time())
    file = upload(client, content, "Größe.bin", purpose="user_data")
    assert (file.bytes, file.filename, file.purpose) == (256_000, "Größe.bin", "user_data")
    assert before <= file.created_at <= time.time()
    assert file.expires_at is None
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    assert (folder / "files" / file.id).read_bytes() == content
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    assert not (folder / "files" / file.id).exists()
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=file.id):
            call(file.id)


def test_when_a_file_expires(client: openai.OpenAI) -> None:
    assert upload(client, purpose="user_data").expires_at is None
    file = upload(client)
    assert file.expires_at == file.created_at + 30 * 24 * 3600
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


def test_pages_of_files(client: openai.OpenAI) -> None:
    made = [upload(client, name=f"{number}").id for number in range(5)]
    other = upload(client, purpose="user_data").id
    page = client.files.list(limit=2, purpose="batch")
    assert ([file.id for file in page.data], page.has_more) == ([made[4], made[3]], True)
    assert [file.id for file in client.files.list(limit=2, purpose="batch")] == made[::-1]
    assert [file.id for file in client.files.list(limit=4, order="asc")] == [*made, other]
    assert [file.id for file in client.files.list(after=made[1])] == [made[0]]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"order": "up"}, "order"),
        ({"purpose": "vision"}, "purpose"),
        ({"page": 2}, "page"),
    ],
)
def test_a_bad_page_is_refused(keeping: Served, query: dict[str, Any], param: str) -> None:
    answer = httpx.get(f"{keeping.url}/v1/files", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    answer = httpx.get(f"{keeping.url}/v1/files", params={"after": "file-none"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "after")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (part("file", "x", "f") + "--x--", 400, "purpose"),
        (part("purpose", "batch") + "--x--", 400, "file"),
        (part("purpose", "vision") + part("file", "x", "f") + "--x--", 400, "purpose"),
        (part("purpose", "batch") + part("file", "x", "f") + part("more", "1") + "--x--", 400, "more"),
        (part("purpose", "batch") + part("file", "x", "f") + part("file", "x", "f") + "--x--", 400, "file"),
        (part("purpose", "b" * 5000) + part("file", "x", "f") + "--x--", 400, "purpose"),
        (part("expires_after[anchor]", "created_at") + part("purpose", "batch") + part("file", "x", "f") + "--x--",
         400, "expires_after.seconds"),
        (part("expires_after[anchor]", "created_at") + part("expires_after[seconds]", "60")
         + part("purpose", "batch") + part("file", "x", "f") + "--x--", 400, "expires_after.seconds"),
        (part("purpose", "batch") + part("file", "x", "f"), 400, None),
        ("no form", 400, None),
        ("", 400, None),
        (part("purpose", "batch") + part("file", "x" * 300_001, "f") + "--x--", 413, "file"),
        (part("purpose", "batch") + part("file", "x" * 1_000_001, "f") + "--x--", 507, None),
    ],
)  # fmt: skip
def test_a_bad_upload_is_refused_and_leaves_nothing(
    keeping: Served, folder: Path, body: str, status: int, param: str | None
) -> None:
    answer = httpx.post(f"{keeping.url}/v1/files", content=body, headers=FORM)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert not list((folder / "parts").iterdir())
    assert not list((folder / "files").iterdir())


def test_a_body_that_is_no_form_is_refused(keeping: Served) -> None:
    answer = httpx.post(f"{keeping.url}/v1/files", json={"purpose": "batch"})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["error"]["message"]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(keeping: Served, folder: Path) -> None:
    host, port = keeping.url.removeprefix("http://").split(":")
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n"
    head += f"Content-Type: {FORM['Content-Type']}\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall((head + part("file", "x" * 1000, "f")).encode())
        deadline = time.monotonic() + 5
        while not list((folder / "parts").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    while list((folder / "parts").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "Traceback" not in keeping.log


def test_all_files_together_are_bounded(client: openai.OpenAI) -> None:
    files = [upload(client, b"x" * 300_000) for _ in range(3)]
    with pytest.raises(openai.APIStatusError, match="Delete files") as caught:
        upload(client, b"x" * 300_000)
    assert caught.value.status_code == 507
    client.files.delete(files[0].id)
    upload(client, b"x" * 300_000)


def test_uploads_at_once_do_not_mix(client: openai.OpenAI) -> None:
    contents = [bytes([number]) * 50_000 for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda content: upload(client, content), contents))
    assert [client.files.content(file.id).read() for file in files] == contents


def test_a_server_without_a_folder_says_so(keeping: Served, folder: Path) -> None:
    second = Served((MODEL, "--backend", "echo", "--data-dir", str(folder)))
    assert second.process.wait(30) == 4
    second.join()
    assert "is used by another server" in second.log


def test_a_second_server_with_the_default_folder_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with serving(MODEL, "--backend", "echo") as first:
        assert httpx.get(f"{first.url}/v1/files").json()["data"] == []
        with serving(MODEL, "--backend", "echo") as second:
            answer = httpx.get(f"{second.url}/v1/files")
            assert answer.status_code == 503
            assert "--data-dir" in answer.json()["error"]["message"]
            second.until_ready()


def test_files_survive_a_restart(tmp_path: Path) -> None:
    options = (MODEL, "--backend", "echo", "--data-dir", str(tmp_path))
    with serving(*options) as server, server.client as client:
        file = upload(client, b"kept")
    (tmp_path / "parts" / "left").write_bytes(b"x")
    (tmp_path / "files" / "file-left").write_bytes(b"x")
    with serving(*options) as server, server.client as client:
        assert client.files.retrieve(file.id) == file
        assert client.files.content(file.id).read() == b"kept"
        assert {path.name for path in (tmp_path / "files").iterdir()} == {file.id}
        assert not list((tmp_path / "parts").iterdir())
