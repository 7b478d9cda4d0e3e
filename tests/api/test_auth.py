"""Keys and their limits on a real server, with the official clients."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from openllm.api.key_file import Entry, KeyFile, digest
from tests.serving import MODEL, Served, serving

BODY = {"model": MODEL, "prompt": "la la", "max_tokens": 2}
LONG = {**BODY, "max_tokens": 100}
SINGLE = "key-of-the-environment"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.toml")
    for entry in (
        Entry("plain", digest("plain")),
        Entry("busy", digest("busy")),
        Entry("one", digest("one"), concurrency=1),
        Entry("few", digest("few"), requests_per_minute=3),
        Entry("short", digest("short"), tokens_per_minute=300),
    ):
        file.add(entry)
    return file


@pytest.fixture(scope="module")
def guarded(keys: KeyFile) -> Iterator[Served]:
    """10 ms a step, two sequences at once."""
    options = ("--concurrency", "2", "--engine-option", "delay=0.01", "--access-log", "text")
    with serving(
        MODEL, "--backend", "echo", *options, "--api-key-file", str(keys.path),
        "--cors-origin", "https://chat.example.org", environ={"OPENLLM_API_KEY": SINGLE},
    ) as server:  # fmt: skip
        server.until_ready()
        yield server


def client(server: Served, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60)


def post(server: Served, key: str, body: dict[str, object] = BODY) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=60)


def test_without_a_key_only_the_probes_answer(guarded: Served) -> None:
    with guarded.http() as http:
        assert http.get("/livez").status_code == 200
        assert http.get("/readyz").status_code == 200
        for method, path in (
            ("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
            ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"),
            ("GET", "/livez/"), ("GET", "//livez"),
        ):  # fmt: skip
            answer = http.request(method, path, json=BODY)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")


@pytest.mark.parametrize("key", ["plain", SINGLE])
def test_openais_client_is_let_in_with_its_key(guarded: Served, key: str) -> None:
    with client(guarded, key) as made:
        assert made.completions.create(model=MODEL, prompt="la la", max_tokens=2).choices[0].text == "la la"


def test_openais_client_gets_its_exception_for_a_wrong_key(guarded: Served) -> None:
    with client(guarded, "wrong") as made, pytest.raises(openai.AuthenticationError, match="not known"):
        made.models.list()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "plain"}, 200),
        ({"Authorization": "bearer plain"}, 200),
        ({"Authorization": "Basic plain"}, 401),
        ({"Authorization": "Bearer " + "x" * 5000}, 401),
        ({"Authorization": b"Bearer \xff\xfe"}, 401),
        ({"Authorization": "Bearer wrong", "x-api-key": "plain"}, 401),
    ],
)
def test_the_headers_that_hold_a_key(guarded: Served, headers: dict[str, str], status: int) -> None:
    assert httpx.get(f"{guarded.url}/v1/models", headers=headers).status_code == status


def test_a_key_without_limits_has_no_headers_of_them(guarded: Served) -> None:
    assert not [name for name in post(guarded, "plain").headers if name.startswith("x-ratelimit")]


def test_requests_a_minute(guarded: Served) -> None:
    left = [post(guarded, "few").headers["x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = post(guarded, "few")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["x-ratelimit-limit-requests"] == "3"
    with client(guarded, "few") as made, pytest.raises(openai.RateLimitError):
        made.completions.create(model=MODEL, prompt="la la", max_tokens=2)
    with client(guarded, "few") as made:
        assert made.models.list().data  # what makes no work is not counted


def test_tokens_a_minute(guarded: Served) -> None:
    answer = post(guarded, "short", {**BODY, "max_tokens": 50})
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit-tokens"] == "300"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) <= 255
    assert post(guarded, "short", {**BODY, "max_tokens": 240}).status_code == 200
    with client(guarded, "short") as made, pytest.raises(openai.RateLimitError, match="300 tokens a minute"):
        list(made.completions.create(model=MODEL, prompt="la la", max_tokens=240, stream=True))


def test_requests_at_once(guarded: Served) -> None:
    with client(guarded, "one") as made:
        stream = made.completions.create(model=MODEL, prompt="la la", max_tokens=500, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="1 requests open"):
            made.completions.create(model=MODEL, prompt="la la", max_tokens=2)
        stream.close()
        time.sleep(0.3)
        assert made.completions.create(model=MODEL, prompt="la la", max_tokens=2).choices


def test_a_key_that_sends_little_does_not_wait_behind_one_that_sends_much(guarded: Served) -> None:
    with concurrent.futures.ThreadPoolExecutor(31) as pool:
        begun = time.monotonic()
        many = [pool.submit(post, guarded, "busy", LONG) for _ in range(30)]
        time.sleep(0.2)
        few = pool.submit(post, guarded, "plain", LONG)
        few.result()
        waited = time.monotonic() - begun
        for answer in many:
            assert answer.result().status_code == 200
        whole = time.monotonic() - begun
    # 30 answers, some three at once, take about ten turns; the one waits for two or three of them.
    assert waited < whole / 2


def test_a_key_that_is_removed_stops_working_and_one_that_is_added_works(
    guarded: Served, keys: KeyFile
) -> None:
    keys.add(Entry("late", digest("late")))
    time.sleep(1.1)
    assert post(guarded, "late").status_code == 200
    keys.remove("late")
    time.sleep(1.1)
    assert post(guarded, "late").status_code == 401


def test_pages_of_an_origin_that_is_allowed_may_ask(guarded: Served) -> None:
    preflight = {
        "Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }  # fmt: skip
    with guarded.http() as http:
        answer = http.options("/v1/chat/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example.org"
        other = http.options("/v1/chat/completions", headers={**preflight, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        refused = http.get("/v1/models", headers={"Origin": "https://chat.example.org"})
        assert refused.headers["access-control-allow-origin"] == "https://chat.example.org"
        assert "x-request-id" in refused.headers["access-control-expose-headers"]


def test_the_access_log_names_the_key_and_cannot_be_forged(guarded: Served) -> None:
    httpx.get(
        f"{guarded.url}/v1/models/a%0Aforged%1b[31m", headers={"x-api-key": "plain", "x-request-id": "i-1"}
    )
    post(guarded, "plain")
    time.sleep(0.3)
    lines = [line for line in guarded.lines if " i-1 " in line]
    assert len(lines) == 1
    assert r"plain GET /v1/models/a\nforged\u001b[31m 404" in lines[0]
    assert any(
        " plain POST /v1/completions 200 " in line and "tokens 2+2 length" in line for line in guarded.lines
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "word"),
    [
        (("--host", "0.0.0.0"), {}, "Anyone who reaches 0.0.0.0"),
        (("--host", "::"), {}, "Anyone who reaches"),
        (("--no-auth",), {"OPENLLM_API_KEY": "x"}, "--no-auth"),
        (("--api-key-file", "/nothing/keys.toml"), {}, "/nothing/keys.toml: No such file"),
        (("--ssl-certfile", "/nothing/cert.pem"), {}, "/nothing/cert.pem is not a file"),
        (("--ssl-certfile", __file__), {}, "cannot be used"),
        (("--ssl-keyfile", __file__), {}, "--ssl-certfile"),
        (("--otel-endpoint", "localhost"), {}, "no address"),
    ],
)
def test_what_would_not_be_safe_is_refused_before_anything_starts(
    arguments: tuple[str, ...], environ: dict[str, str], word: str, tmp_path: Path
) -> None:
    server = Served((MODEL, "--backend", "echo", *arguments), environ=environ)
    assert server.process.wait(60) == 2
    server.join()
    assert word in server.log
    assert "listening" not in server.log
