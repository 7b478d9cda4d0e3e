"""How long a sleeping model takes to answer: ``python -m benchmarks.wake [--only openvino] [--times 5]``.

Each server is started once unmeasured, so that files are converted and in the disk cache. Then it is put to sleep and
asked, over and over: from sending the request to the first event with text. Beside it stand the same with a new
process for each runner, and what has no sleep: a start of llama.cpp's ``llama-server``, if it is on PATH, until its
first token. What is left of each server while it sleeps is shown too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from benchmarks.cold import await_first_token
from benchmarks.load import Target
from benchmarks.models import CACHE, smollm2_gguf, smollm2_safetensors
from benchmarks.process import HOST, Server, free_port
from benchmarks.setups import OFFLINE, llama_server

_MODEL = "smollm2"
_DEADLINE = 180.0
_IDLE_SECONDS = 10.0


@dataclass
class Figures:
    """Seconds, except as named."""

    name: str
    wakes: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    asleep_mib: float | None = None
    asleep_cpu: float | None = None  # of one core, in percent

    def line(self) -> str:
        cells = [_middle(each) for each in (self.wakes, self.starts, self.first_bytes)]
        left = "" if self.asleep_mib is None else f"{self.asleep_mib:.0f}"
        cpu = "" if self.asleep_cpu is None else f"{self.asleep_cpu:.1f}"
        return f"| {self.name} | {' | '.join(cells)} | {left} | {cpu} |"


HEADER = (
    "| server | wake to first token, s | command to first token, s | command to first byte, s "
    "| asleep, MiB (PSS) | asleep, % of a core |\n|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.wake")
    parser.add_argument("--only", action="append", choices=["openvino", "vllm", "llama-server"])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct's GGUF file")
    options = parser.parse_args()
    wanted = options.only or ["openvino", "vllm", "llama-server"]
    gguf = options.gguf or smollm2_gguf()
    print(HEADER, flush=True)
    for backend in ("openvino", "vllm"):
        if backend in wanted:
            model = gguf if backend == "openvino" else smollm2_safetensors(gguf)
            for how in ("--template", "--no-template"):
                print(_ours(backend, str(model), how, options.times).line(), flush=True)
    if "llama-server" in wanted and shutil.which("llama-server"):
        print(_llama_server(str(gguf), options.times).line(), flush=True)


def _ours(backend: str, model: str, how: str, times: int) -> Figures:
    figures = Figures(f"openllm, {backend}, {how[2:]}")
    for number in range(times + 1):
        with _start(backend, model, how) as server:
            _begin(figures, server, model, measured=number > 0)
            if number == times:
                with httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=_DEADLINE) as http:
                    figures.wakes = list(_wakes(http, model, times))
                    figures.asleep_mib, figures.asleep_cpu = _idle(server)
    return figures


def _start(backend: str, model: str, how: str) -> Server:
    port = free_port()
    argv = [sys.executable, "-m", "openllm", "start", model, "--backend", backend, "--port", str(port)]
    return Server([*argv, how, "--idle-timeout", "1h"], OFFLINE, port, CACHE / "logs" / "wake.log")


def _begin(figures: Figures, server: Server, model: str, *, measured: bool) -> None:
    byte = _first_byte(server)
    cold = await_first_token(server, Target(HOST, server.port, model), _DEADLINE)
    if measured:
        figures.first_bytes.append(byte)
        figures.starts.append(cold.first_token)


def _first_byte(server: Server) -> float:
    """Seconds from the command to the first byte of any answer."""
    while True:
        server.check_alive()
        try:
            with socket.create_connection((HOST, server.port), timeout=_DEADLINE) as link:
                link.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                if link.recv(1):
                    return time.perf_counter() - server.started
        except OSError:
            time.sleep(0.005)


def _wakes(http: httpx.Client, model: str, times: int) -> Iterator[float]:
    """Seconds from each request to its first text; it leaves the model asleep."""
    _asked(http, model)
    for _ in range(times):
        while http.get("/readyz").json()["state"] != "asleep":
            time.sleep(0.05)
        time.sleep(0.5)  # whatever is done after a runner's end is over
        yield _asked(http, model)
    while http.get("/readyz").json()["state"] != "asleep":
        time.sleep(0.05)


def _asked(http: httpx.Client, model: str) -> float:
    body = {
        "model": model, "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0, "stream": True,
        "keep_alive": 0,
    }  # fmt: skip
    begun = time.perf_counter()
    first = 0.0
    with http.stream("POST", "/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if not first and line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                first = time.perf_counter() - begun
    if not first:
        raise SystemExit(f"no token came, status {answer.status_code}")
    return first


def _idle(server: Server) -> tuple[float, float]:
    """MiB and percent of a core of all that is left of it."""
    processes = server.tree()
    before = [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(_IDLE_SECONDS)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - sum(before)
    return server.proportional_bytes() / (1 << 20), 100 * used / _IDLE_SECONDS


def _llama_server(gguf: str, times: int) -> Figures:
    figures = Figures("llama-server, started anew")
    setup = llama_server()
    for number in range(times + 1):
        port = free_port()
        with Server(
            setup.command(gguf, port, 1), setup.environment(), port, CACHE / "logs" / "wake.log"
        ) as server:
            _begin(figures, server, _MODEL, measured=number > 0)
    return figures


def _middle(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


if __name__ == "__main__":
    main()
