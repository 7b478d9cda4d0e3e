"""``openllm chat`` against a server of the standard library, which can fail where a real one seldom does."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from openllm.cli.chat import Conversation
from openllm.cli.chat_client import ChatClient
from openllm.errors import OpenLLMError, RequestError
from tests.cli.conftest import Run


class Handler(BaseHTTPRequestHandler):
    """Answers with what was asked, word by word; some questions make it fail."""

    asked: list[dict[str, Any]]
    keys: list[str | None]
    gone: threading.Event

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.keys.append(self.headers["Authorization"])
        question = body["messages"][-1]["content"]
        if body["model"] != "tiny":
            self._send(404, {"error": {"message": "The model is not served."}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": keep-alive\n\n")
        self._event({"delta": {"role": "assistant", "content": ""}})
        self._event({"delta": {"reasoning_content": "hm"}})
        for word in question.split():
            if word == "FAIL":
                self.wfile.write(b'data: {"error": {"message": "the engine died"}}\n\n')
                return
            if word == "CUT":
                return
            if word == "ENDLESS":
                self._go_on()
            self._event({"delta": {"content": word + "."}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _go_on(self) -> None:
        try:
            while True:
                self._event({"delta": {"content": "on "}})
                time.sleep(0.01)
        except OSError:
            self.gone.set()
            raise

    def _event(self, choice: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def _send(self, code: int, body: dict[str, Any]) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away are what is tested


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"asked": [], "keys": [], "gone": threading.Event()})
    found = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", handler
    found.shutdown()
    thread.join()
    found.server_close()


def conversation(base: str, system: str | None = None) -> Conversation:
    return Conversation(ChatClient(base, None), "tiny", system, {"temperature": 0.0, "max_tokens": None})


def said(talk: Conversation, question: str) -> str:
    return "".join(piece.text for piece in talk.ask(question) if not piece.reasoning)


def test_piped(openllm: Run, server: tuple[str, type[Handler]]) -> None:
    base, handler = server
    done = openllm("chat", base + "/v1/", "--system", "be brief", "--temperature", "0", "--max-tokens", "9",
                   stdin="hello\nthere\n", OPENAI_API_KEY="k")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello.there.\n", "")
    assert handler.asked == [{
        "model": "tiny", "stream": True, "temperature": 0.0, "max_tokens": 9,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello\nthere"}],
    }]  # fmt: skip
    assert handler.keys == ["Bearer k"]


def test_errors_when_piped(openllm: Run, server: tuple[str, type[Handler]]) -> None:
    base, _ = server
    lost = openllm("chat", "http://127.0.0.1:9", stdin="hi")
    assert lost.returncode == 1
    assert lost.stderr.startswith(
        "error: The server at http://127.0.0.1:9 does not answer.\nhint: Start one with"
    )
    other = openllm("chat", "other", "--url", base, stdin="hi")
    assert (other.returncode, other.stderr) == (1, "error: The model is not served.\n")
    empty = openllm("chat", base, stdin=" \n")
    assert empty.returncode == 2
    broken = openllm("chat", base, stdin="well FAIL")
    assert (broken.returncode, broken.stdout) == (1, "well.")
    assert broken.stderr.splitlines()[-1] == "error: the engine died"


def test_turns_are_remembered(server: tuple[str, type[Handler]]) -> None:
    base, handler = server
    talk = conversation(base, system="s")
    assert said(talk, "one") == "one."
    assert said(talk, "two") == "two."
    assert [message["content"] for message in handler.asked[1]["messages"]] == ["s", "one", "one.", "two"]
    talk.clear()
    said(talk, "three")
    assert [message["content"] for message in handler.asked[2]["messages"]] == ["s", "three"]


def test_a_stopped_answer_frees_the_server_and_is_remembered(server: tuple[str, type[Handler]]) -> None:
    base, handler = server
    talk = conversation(base)
    pieces = talk.ask("so ENDLESS")
    for _ in range(5):
        next(pieces)
    pieces.close()
    assert handler.gone.wait(5)
    said(talk, "two")
    contents = [message["content"] for message in handler.asked[1]["messages"]]
    assert contents[0] == "so ENDLESS"
    assert contents[1].startswith("so.on ")


def test_failures_raise_and_leave_no_trace(server: tuple[str, type[Handler]]) -> None:
    base, handler = server
    talk = conversation(base)
    with pytest.raises(OpenLLMError, match="the engine died"):
        said(talk, "FAIL")
    with pytest.raises(OpenLLMError, match="closed the connection before"):
        said(talk, "CUT")
    said(talk, "two")
    assert [message["content"] for message in handler.asked[2]["messages"]] == ["two"]
    with pytest.raises(RequestError, match="not served"):
        list(Conversation(ChatClient(base, None), "other", None, {}).ask("x"))


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://h:1/v1", "http://h:1"),
        ("https://h/proxy/v1/", "https://h/proxy"),
        ("h:80", "http://h:80"),
        ("http://h", "http://h"),
    ],
)
def test_addresses(text: str, base: str) -> None:
    assert ChatClient(text, None).base == base


class Terminal:
    """A child on a terminal of its own."""

    def __init__(self, args: list[str], environ: dict[str, str]) -> None:
        self._master, child = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openllm.cli.main", *args],
            stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Read until ``text`` appears, and forget all up to there."""
        end = time.monotonic() + seconds
        while text not in self._seen:
            ready = select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"{text!r} did not appear; seen: {self._seen!r}"
            self._seen += os.read(self._master, 4096).decode(errors="replace")
        self._seen = self._seen.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_reasoning_is_dimmed(environ: dict[str, str], server: tuple[str, type[Handler]]) -> None:
    terminal = Terminal(["chat", server[0]], {**environ, "NO_COLOR": "", "TERM": "xterm"})
    try:
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("\x1b[2mhm\x1b[0m\r\n\r\nhello.")
    finally:
        terminal.close()


def test_on_a_terminal(environ: dict[str, str], server: tuple[str, type[Handler]]) -> None:
    base, handler = server
    terminal = Terminal(["chat", base], environ)
    try:
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("hm\r\n\r\nhello.")
        terminal.wait_for("> ")
        terminal.type("ENDLESS\n")
        terminal.wait_for("on on on")
        os.kill(terminal.process.pid, signal.SIGINT)  # stops the answer, not the program
        terminal.wait_for("stopped")
        assert handler.gone.wait(5)
        terminal.wait_for("> ")
        terminal.type("FAIL\n")
        terminal.wait_for("error: the engine died")
        terminal.wait_for("> ")
        terminal.type("/clear\n")
        terminal.wait_for("forgotten")
        terminal.wait_for("> ")
        terminal.type("again\n")
        terminal.wait_for("again.")
        assert len(handler.asked[-1]["messages"]) == 1
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()
