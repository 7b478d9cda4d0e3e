"""Starts `openllm start` as a user would, and knows how to ask it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import httpx
import openai
import psutil

_LISTENING = re.compile(r"listening on (https?://\S+)")
MODEL = "smollm2"


class Served:
    """A running `openllm start`."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        port: int | None = 0,
        environ: Mapping[str, str] | None = None,
        *,
        leads: bool = False,
    ) -> None:
        """``leads`` makes it the leader of a process group."""
        argv = [sys.executable, "-m", "openllm", "start", *arguments]
        if port is not None:
            argv += ["--port", str(port)]
        self.process = subprocess.Popen(
            argv,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environ or {})},
            process_group=0 if leads else None,
        )
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._url = ""
        self._clients = ExitStack()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where it listens; waits for it to say so."""
        assert self._listening.wait(60), self.log
        assert self._url, self.log
        return self._url

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def client(self) -> openai.OpenAI:
        """A new one; closed when the server has ended, if not before."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)
        return self._clients.enter_context(client)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)

    def close(self) -> None:
        """Let go of what talked to it and read its log; it has ended."""
        self._clients.close()
        self.join()

    def join(self) -> None:
        """Read the log to its end."""
        self._reader.join(5)

    def until_ready(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        with self.http() as http:
            while http.get("/readyz").status_code != 200:
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)

    def runner(self) -> psutil.Process:
        """The runner's process."""
        return self._child("openllm-runner")

    def template(self) -> psutil.Process:
        """The template process; there is but one."""
        return self._child("openllm-templat")

    def _child(self, name: str, seconds: float = 30) -> psutil.Process:
        """Waits for it, as a process just started bears its parent's name until it gives itself its own."""
        deadline = time.monotonic() + seconds
        while True:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if child.name() == name:
                        return child
            assert time.monotonic() < deadline, f"no {name}: {self.log}"
            time.sleep(0.01)

    @contextmanager
    def still_loading(self) -> Iterator[None]:
        """For the length of a block at the start the engine does not become ready, however slow the machine is."""
        assert self.url  # said before the server is imported, and so long before the engine is ready
        runner = self.runner()
        runner.suspend()
        try:
            yield
        finally:
            runner.resume()

    def metric(self, name: str) -> float:
        with self.http() as http:
            for line in http.get("/metrics").text.splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def stop(self, seconds: float = 30) -> int:
        """End it politely; its exit status. Nothing of it is left."""
        family = [
            self.process.pid,
            *(c.pid for c in psutil.Process(self.process.pid).children(recursive=True)),
        ]
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self.close()
        assert not [pid for pid in family if psutil.pid_exists(pid)]
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(line)
                found = _LISTENING.search(line)
                if found:
                    self._url = found[1]
                    self._listening.set()
        self._listening.set()


@contextmanager
def serving(
    *arguments: str, environ: Mapping[str, str] | None = None, leads: bool = False
) -> Iterator[Served]:
    """A server for the length of a block; killed if the block leaves it running."""
    served = Served(arguments, environ=environ, leads=leads)
    try:
        yield served
        if served.process.poll() is None:
            assert served.stop() == 0, served.log
    finally:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()
        served.close()
