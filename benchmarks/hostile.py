"""Bodies that are meant to do harm, and a process that sends them without a pause."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

MODEL = "smollm2"
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "la la", "max_tokens": 2}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
HEADERS = {"content-type": "application/json"}
_TEXTS, _CHAT = "/v1/completions", "/v1/chat/completions"
# Patterns that a matcher which goes back tries exponentially often, or that become large automata.
_PATTERNS = ("^(a|a)*$", "^(([a-z])+.)+[A-Z]([a-z])+$", "^(a?){500}a{500}$", "^((a{1,100}){1,100}){1,100}$")


def bodies() -> Iterator[tuple[str, bytes]]:
    """(path, body) of requests that cannot be served: each is to be answered with a 4xx."""
    yield from _wrong_values()
    yield from _large()
    yield from _no_json()
    for pattern in _PATTERNS:
        schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        yield _CHAT, _json(CHAT, response_format=form)


def costly() -> Iterator[tuple[str, bytes]]:
    """(path, body) of requests that are right, and take long."""
    yield "/tokenize", _json({"model": MODEL, "prompt": "word " * 800_000})
    yield "/tokenize", _json({"model": MODEL, "prompt": "\u00e9\n" * 500_000, "return_token_strs": True})
    yield "/detokenize", _json({"model": MODEL, "tokens": [5000] * 399_000})
    yield _CHAT, _json(CHAT, messages=[{"role": "user", "content": "Hi"}] * 1_500)
    yield _TEXTS, _json(TEXT, prompt="a long text, " * 1_800)


def _json(body: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**body, **changes}).encode()


def _wrong_values() -> Iterator[tuple[str, bytes]]:
    for change in (
        {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 10**30}, {"n": 10**9}, {"n": -1}, {"n": 1.5},
        {"temperature": -1}, {"top_p": 0}, {"seed": 2**70}, {"stop_token_ids": [-1]}, {"min_tokens": -5},
        {"stop": ["x"] * 100_000}, {"stop_token_ids": list(range(100_000))}, {"stop": "x" * 100_000},
        {"model": "x" * 15_000_000},
    ):  # fmt: skip
        yield _TEXTS, _json(TEXT, **change)


def _large() -> Iterator[tuple[str, bytes]]:
    many = [{"role": "user", "content": "x"}] * 1_000_000
    yield _CHAT, _json(CHAT, messages=many)
    yield _CHAT, _json(CHAT, messages=many[:9_900])
    yield _CHAT, _json(CHAT, messages=[1] * 1_000_000)
    yield _CHAT, _json(CHAT, messages=[{"role": "x" * 15_000_000, "content": "Hi"}])
    yield _TEXTS, _json(TEXT, prompt=[1] * 1_000_000)
    yield _TEXTS, _json(TEXT, prompt=[1] * 390_000)
    yield _TEXTS, _json(TEXT, prompt=[1.5e-300] * 390_000)
    yield _TEXTS, _json(TEXT, prompt=["x"] * 300_000)
    for text in ("word ", "\n", "\u00e9", '"\\', "\U0001f999"):  # the last as escapes of six bytes
        yield _TEXTS, _json(TEXT, prompt=text * (15_000_000 // len(json.dumps(text))))
    yield _TEXTS, json.dumps({**TEXT, "prompt": "\U0001f999" * 5_000_000}, ensure_ascii=False).encode()
    yield _CHAT, _json(CHAT, messages=[{"role": "user", "content": " " * 20_000_000}])
    yield _TEXTS, _json(TEXT, **{f"key{number}": 1 for number in range(15_000)})
    yield _TEXTS, _json(TEXT, **{"k" * 15_000_000: 1})
    yield "/v1/responses", _json({"model": MODEL, "input": many[:9_900], "max_output_tokens": 2})
    yield "/v1/messages", _json({"model": MODEL, "messages": many[:9_900], "max_tokens": 0})


def _no_json() -> Iterator[tuple[str, bytes]]:
    yield _TEXTS, b'{"model": "smollm2", "prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield _CHAT, b'{"a":' * 500_000
    yield _TEXTS, b'{"model": "smollm2", "prompt": "\xff\xfe\x80"}'
    yield _TEXTS, b'{"model": "smollm2", "prompt": "\\ud800"}'
    yield _TEXTS, b'{"model": "\\ud800", "prompt": "Hi"}'
    yield _TEXTS, b'{"model": "smollm2", "prompt": "Hi", "\\ud800": 1}'
    yield _TEXTS, b'{"model": "smollm2", "prompt": "Hi", "temperature": NaN}'
    yield _TEXTS, b'{"model": "smollm2", "prompt": "Hi", "temperature": 1e999}'
    yield _TEXTS, b'{"model": "smollm2", "prompt": "Hi", "temperature": -Infinity}'
    yield _CHAT, b'{"model": "smollm2", "messages": [{"role": "user", "content": NaN}]}'
    yield _TEXTS, json.dumps(TEXT).encode("utf-16")
    yield _TEXTS, b"[" + b"{}," * 1_000_000 + b"{}]"
    yield _TEXTS, b'"' * 5_000_000
    yield _TEXTS, b"0" * 5_000_000
    yield _TEXTS, b"x" * 40_000_000  # over the limit


class Attackers:
    """``count`` clients in a process of their own, each sending all bodies again and again without a pause. A context
    manager; ``statuses`` counts the answers afterwards, 0 for a connection that was closed."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self.statuses: Counter[int] = Counter()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_attack, args=(theirs, host, port, count), daemon=True)

    def __enter__(self) -> Attackers:
        self._process.start()
        self._pipe.recv()  # the bodies are made
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self.statuses = self._pipe.recv()
        self._process.join()


def _attack(pipe: Connection, host: str, port: int, count: int) -> None:
    made = [*bodies(), *costly()]
    statuses: Counter[int] = Counter()
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_send_all, args=(host, port, made[number * 7 :] + made[: number * 7], stop, statuses)
        )
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    pipe.send(None)
    pipe.recv()
    stop.set()
    for thread in threads:
        thread.join()
    pipe.send(statuses)


def _send_all(
    host: str, port: int, made: list[tuple[str, bytes]], stop: threading.Event, statuses: Counter[int]
) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=120)
    while not stop.is_set():
        for path, body in made:
            if stop.is_set():
                return
            try:
                connection.request("POST", path, body, HEADERS)
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] += 1
            except (OSError, http.client.HTTPException):
                statuses[0] += 1
                connection.close()
                time.sleep(0.01)
