"""A runner's life, however its process came to be: load what it is told, prove it, serve until stopped."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import time
from array import array
from collections.abc import Sequence

from openllm.engines.base import Engine, EngineConfig, Generation, Sampling
from openllm.engines.breakage import as_error
from openllm.engines.encoding import Encoder, Encoding
from openllm.engines.open import open_encoder, open_engine
from openllm.errors import OpenLLMError, RunnerFailed
from openllm.machine.gpus import only
from openllm.parent import leave_ending_to_parent
from openllm.runner.adapters import load_adapter
from openllm.runner.loop import FrontGone, Line, encoding_loop, generating_loop
from openllm.runner.wire import Failed, Load, Progress, Ready

_log = logging.getLogger("openllm.runner")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WARM_UP_ID = 0
_WARM_UP_STEPS = 1000


def begin_process() -> None:
    """What a process does before it imports an engine, whose objects last and need no collecting; see _be_ready."""
    logging.basicConfig(level=logging.WARNING, format="runner: %(levelname)s %(name)s: %(message)s")
    leave_ending_to_parent()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a template's group may write to the terminal in any case
    gc.disable()


def live(sock: socket.socket) -> int:
    """Serve the front at the other end of ``sock`` until it says stop or is gone; the exit status. Blocks."""
    line = Line(sock)
    try:
        return _serve(line)
    except FrontGone:
        return 0


def _serve(line: Line) -> int:
    try:
        engine = _run(line)
    except FrontGone:
        raise
    except OpenLLMError as error:
        line.send(Failed(type(error).__name__, error.message, error.hint))
        return error.exit_code
    except Exception as error:
        _log.exception("the engine broke")
        broke = as_error(error, "the engine broke")
        line.send(Failed(type(broke).__name__, broke.message, broke.hint))
        return broke.exit_code
    engine.close()
    return 0


def _run(line: Line) -> Engine | Encoder:
    """Load what the first message says, prove it and serve with it until stopped."""
    config = _first_message(line)
    if config.gpus:
        _see_only(config.gpus[config.replica])
    begun = time.monotonic()

    def report(text: str) -> None:
        line.send(Progress(text))

    if config.encoder is None:
        engine = open_engine(config, report)
        for adapter in config.adapters:
            line.send(load_adapter(engine, adapter))
        _decode_one_token(engine)
        _be_ready(line, begun)
        generating_loop(line, engine).run()
        return engine
    encoder = open_encoder(config, report)
    _encode_one_text(encoder)
    _be_ready(line, begun)
    encoding_loop(line, encoder).run()
    return encoder


def _see_only(gpus: Sequence[int]) -> None:
    """Have the engine find these GPUs alone. Nothing has used one before: importing an engine does not."""
    os.environ[_VISIBLE] = only(gpus, os.environ.get(_VISIBLE))


def _be_ready(line: Line, begun: float) -> None:
    gc.freeze()
    gc.enable()
    line.send(Ready(time.monotonic() - begun))


def _first_message(line: Line) -> EngineConfig:
    while True:
        for message in line.receive(wait=True):
            if isinstance(message, Load):
                return message.config
            raise ValueError(f"the first message to a runner is Load, not {type(message).__name__}")


def _decode_one_token(engine: Engine) -> None:
    """Prove that the engine decodes, and pay its first-step costs before a user does."""
    engine.add(Generation(_WARM_UP_ID, [1, 2, 3], Sampling(max_tokens=1, temperature=0.0)))
    for _ in range(_WARM_UP_STEPS):
        for delta in engine.step():
            if delta.finish == "error":
                raise RunnerFailed(f"the engine cannot decode: {delta.error}")
            if delta.finish is not None:
                return
    raise RunnerFailed(f"the engine did not decode a token in {_WARM_UP_STEPS} steps")


def _encode_one_text(encoder: Encoder) -> None:
    """Prove that the encoder encodes: its vector is made of numbers."""
    encoder.add(Encoding(_WARM_UP_ID, [1, 2, 3]))
    for _ in range(_WARM_UP_STEPS):
        for vector in encoder.step():
            values = array("f", vector.values)
            if vector.error or not values or not all(map(math.isfinite, values)):
                raise RunnerFailed(f"the engine cannot encode: {vector.error or 'its vector is not finite'}")
            return
    raise RunnerFailed(f"the engine did not encode a text in {_WARM_UP_STEPS} steps")
