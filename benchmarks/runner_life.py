"""One runner from the request for it to its first token; this process plays the front."""

from __future__ import annotations

import contextlib
import time

from openllm.cli.options import PlanOptions
from openllm.cli.resolve import resolve
from openllm.cli.start import _supply
from openllm.engines.base import EngineConfig, Generation, Sampling
from openllm.fleet.forked import ForkedChild
from openllm.fleet.spawn import Spawned, Spawner
from openllm.runner.wire import Add, Born, Failed, Frames, Ready, Step, Stop, decode_to_front, frame

_DEADLINE = 180.0
_READ_BYTES = 1 << 20
_PROMPT = list(range(100, 140))


def config_of(model: str, engine: str) -> EngineConfig:
    """What `openllm start MODEL --backend ENGINE` would load. Exits if its weights are not here."""
    options = PlanOptions(backend=engine)
    settings = options.settings()
    supply = _supply(resolve(model, options.overrides(), settings), settings, {})
    weights = supply.here()
    if weights is None:
        raise SystemExit(f"fetch the model first: openllm pull {model}")
    return supply.config(weights)


def lives(spawner: Spawner, config: EngineConfig, times: int) -> list[float]:
    """Seconds to the first token of so many runners, one after the other; one more goes before, unmeasured."""
    return [_life(spawner, config) for _ in range(times + 1)][1:]


def _life(spawner: Spawner, config: EngineConfig) -> float:
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
