"""How long until a new runner's first token: ``python -m benchmarks.wake [--only openvino] [--times 5]``.

For each engine the front's part is played by this process: it asks a spawner for a runner, tells it what to load, and
sends a prompt of 40 tokens when it is ready; with a template process, and with a new process for each runner. What HTTP
adds is not in these figures. Each is done once unmeasured, so that files are converted and in the disk cache. Beside
them stand `openllm start` from the command to the first byte and to the first token, and the same of llama.cpp's
``llama-server``, if it is on PATH. Medians, least and greatest.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Callable
from statistics import median

import psutil

from benchmarks.cold import await_first_token
from benchmarks.load import Target
from benchmarks.models import CACHE, smollm2_gguf
from benchmarks.process import HOST, Server, free_port
from benchmarks.setups import OFFLINE, llama_server
from openllm.cli.options import PlanOptions
from openllm.cli.resolve import resolve
from openllm.cli.start import _supply
from openllm.engines.base import EngineConfig, Generation, Sampling
from openllm.fleet.forked import ForkedChild
from openllm.fleet.spawn import PlainSpawner, Spawned, Spawner
from openllm.fleet.template import TemplateSpawner, can_fork
from openllm.runner.wire import Add, Born, Failed, Frames, Ready, Step, Stop, decode_to_front, frame

_MODEL = "smollm2"
_DEADLINE = 180.0
_READ_BYTES = 1 << 20
_PROMPT = list(range(100, 140))
_IDLE_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.wake")
    parser.add_argument("--only", action="append", choices=["openvino", "vllm", "servers"])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    wanted = options.only or ["openvino", "vllm", "servers"]
    for engine in ("openvino", "vllm"):
        if engine in wanted:
            _runners(engine, options.times)
    if "servers" in wanted:
        _servers(options.times)


def _runners(engine: str, times: int) -> None:
    config = _config(engine)
    if can_fork():
        templates = TemplateSpawner(lambda text: print(text, file=sys.stderr))
        _say(f"{engine}: fork to first token", _lives(templates, config, times))
        print(f"{engine}: template at rest: {_rest(templates.pids())}", flush=True)
        templates.close()
    _say(f"{engine}: new process to first token", _lives(PlainSpawner(), config, times))


def _config(engine: str) -> EngineConfig:
    """What `openllm start smollm2 --backend ENGINE` would load."""
    options = PlanOptions(backend=engine)
    settings = options.settings()
    supply = _supply(resolve(_MODEL, options.overrides(), settings), settings, {})
    weights = supply.here()
    if weights is None:
        raise SystemExit(f"fetch the model first: openllm pull {_MODEL}")
    return supply.config(weights)


def _lives(spawner: Spawner, config: EngineConfig, times: int) -> list[float]:
    return [_life(spawner, config) for _ in range(times + 1)][1:]


def _life(spawner: Spawner, config: EngineConfig) -> float:
    """Seconds from asking for a runner to its first token; it has ended then."""
    begun = time.perf_counter()
    spawned = spawner.spawn(config.engine)
    spawned.load(config)
    with spawned.sock as sock:
        sock.settimeout(_DEADLINE)
        first = _first_token(spawned) - begun
        sock.sendall(frame(Stop()))
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(_READ_BYTES):
                pass
    while spawned.child.poll() is None:
        time.sleep(0.01)
    return first


def _first_token(spawned: Spawned) -> float:
    frames = Frames()
    while True:
        data = spawned.sock.recv(_READ_BYTES)
        now = time.perf_counter()
        if not data:
            raise SystemExit("the runner ended; see above")
        for message in map(decode_to_front, frames.feed(data)):
            if isinstance(message, Born) and isinstance(spawned.child, ForkedChild):
                spawned.child.born(message.pid)
            elif isinstance(message, Ready):
                sampling = Sampling(max_tokens=1, temperature=0.0)
                spawned.sock.sendall(frame(Add([Generation(1, _PROMPT, sampling)])))
            elif isinstance(message, Failed):
                raise SystemExit(message.message)
            elif isinstance(message, Step) and any(delta.tokens for delta in message.deltas):
                return now


def _rest(pids: list[int]) -> str:
    """Memory and processor time of processes that wait."""
    processes = [psutil.Process(pid) for pid in pids]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(_IDLE_SECONDS)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    memory = [process.memory_full_info() for process in processes]
    own, shared = sum(each.uss for each in memory) >> 20, sum(each.pss for each in memory) >> 20
    return f"{own} MiB of its own, {shared} MiB with its share; {100 * used / _IDLE_SECONDS:.1f} % of a core"


def _servers(times: int) -> None:
    gguf = str(smollm2_gguf())

    def ours(port: int) -> list[str]:
        return [sys.executable, "-m", "openllm", "start", gguf, "--port", str(port)]

    _starts("openllm start", ours, gguf, times)
    if shutil.which("llama-server"):
        _starts("llama-server", lambda port: llama_server().command(gguf, port, 1), gguf, times)


def _starts(name: str, command: Callable[[int], list[str]], model: str, times: int) -> None:
    bytes_, tokens = [], []
    for _ in range(times + 1):
        port = free_port()
        with Server(command(port), OFFLINE, port, CACHE / "logs" / "wake.log") as server:
            bytes_.append(_first_byte(server))
            tokens.append(await_first_token(server, Target(HOST, port, model), _DEADLINE).first_token)
    _say(f"{name}: command to first byte", bytes_[1:])
    _say(f"{name}: command to first token", tokens[1:])


def _first_byte(server: Server) -> float:
    """Seconds from the command to the first byte of any answer."""
    while True:
        server.check_alive()
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), _DEADLINE) as link:
            link.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            if link.recv(1):
                return time.perf_counter() - server.started
        time.sleep(0.005)


def _say(what: str, seconds: list[float]) -> None:
    print(
        f"{what}: {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} times)",
        flush=True,
    )


if __name__ == "__main__":
    main()
