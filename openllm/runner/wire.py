"""Messages between front and runner, and how they are framed.

A stream socket (a socketpair on one machine, TCP in a cluster) carries frames: a length of 4 bytes, little
endian, then one msgpack message. One message per engine step carries the new token ids of every sequence.
A stream socket rather than a message queue: its end of file is the news that the peer died.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from openllm.engines.base import AdapterFiles, Delta, EngineConfig, Generation
from openllm.engines.encoding import Encoding, Vector

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 256 * 1024 * 1024
MOST_TOKENS_A_FRAME = 16 * 1024 * 1024  # of texts; one has up to 5 bytes


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Front to runner, once, first: open this engine."""

    config: EngineConfig


class Add(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """Front to runner: generate these sequences."""

    generations: list[Generation]


class Encode(msgspec.Struct, frozen=True, array_like=True, tag="encode"):
    """Front to runner of an encoder: encode these texts."""

    encodings: list[Encoding]


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Front to runner: forget these sequences or texts."""

    ids: list[int]


class LoadAdapter(msgspec.Struct, frozen=True, array_like=True, tag="load_adapter"):
    """Front to runner: load this LoRA adapter; answered by ``AdapterDone``."""

    adapter: AdapterFiles


class UnloadAdapter(msgspec.Struct, frozen=True, array_like=True, tag="unload_adapter"):
    """Front to runner: forget this LoRA adapter, which no sequence uses; answered by ``AdapterDone``."""

    name: str


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Front to runner: end the process."""


class Born(msgspec.Struct, frozen=True, array_like=True, tag="born"):
    """Runner to front, first, if a template forked it: its process id."""

    pid: int


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """Runner to front: what it is doing before it is ready."""

    text: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """Runner to front: the engine is open and has decoded a token, or encoded a text. ``seconds`` since Load."""

    seconds: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """Runner to front: the engine could not be opened, or broke. The process ends after it.

    ``kind`` is the class name in the error tree.
    """

    kind: str
    message: str
    hint: str | None


class AdapterDone(msgspec.Struct, frozen=True, array_like=True, tag="adapter_done"):
    """Runner to front: what was asked for this adapter is done, or why it is not. The engine serves on.

    Sent unasked, before ``Ready``, for each of ``EngineConfig.adapters``.
    """

    name: str
    failed: Failed | None = None


class Step(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """Runner to front: one step of the engine is done; ``deltas`` may be empty."""

    deltas: list[Delta]


class Vectors(msgspec.Struct, frozen=True, array_like=True, tag="vectors"):
    """Runner to front: one step of the encoder is done; ``vectors`` may be empty."""

    vectors: list[Vector]


ToRunner = Load | Add | Encode | Abort | Stop | LoadAdapter | UnloadAdapter
ToFront = Born | Progress | Ready | Failed | Step | Vectors | AdapterDone


def parted(message: ToRunner) -> Iterator[ToRunner]:
    """The message, or several that say the same, as a frame has a limit: sequences with images travel one by one,
    texts up to ``MOST_TOKENS_A_FRAME`` together."""
    if isinstance(message, Add) and any(each.images for each in message.generations):
        yield from (Add([each]) for each in message.generations)
    elif isinstance(message, Encode):
        yield from map(Encode, _texts_a_frame(message.encodings))
    else:
        yield message


def _texts_a_frame(encodings: list[Encoding]) -> Iterator[list[Encoding]]:
    together: list[Encoding] = []
    tokens = 0
    for encoding in encodings:
        tokens += len(encoding.ids)
        if together and tokens > MOST_TOKENS_A_FRAME:
            yield together
            together, tokens = [], len(encoding.ids)
        together.append(encoding)
    yield together


_encoder = msgspec.msgpack.Encoder()
_to_runner = msgspec.msgpack.Decoder(ToRunner)
_to_front = msgspec.msgpack.Decoder(ToFront)


def frame(message: ToRunner | ToFront) -> bytes:
    """The bytes of one message, length first."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """Cuts received bytes into payloads. Raises ``ValueError`` on a frame over ``MAX_FRAME_BYTES``."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(buffer, start)
                if size > MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of {size} bytes is over the limit of {MAX_FRAME_BYTES}")
                end = start + _LENGTH.size + size
                if len(buffer) < end:
                    break
                payload = bytes(buffer[start + _LENGTH.size : end])
                start = end
                yield payload
        finally:
            del buffer[:start]


def decode_to_runner(payload: bytes) -> ToRunner:
    """Parse what the front sent. Raises ``msgspec.DecodeError``."""
    message: ToRunner = _to_runner.decode(payload)
    return message


def decode_to_front(payload: bytes) -> ToFront:
    """Parse what a runner sent. Raises ``msgspec.DecodeError``."""
    message: ToFront = _to_front.decode(payload)
    return message
