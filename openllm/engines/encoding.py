"""The contract of an encoder: a step machine that turns token ids into vectors.

A vector is a text's embedding, or one number: what a cross-encoder makes of a pair of texts.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

EncoderTask = Literal["embedding", "rerank"]
ENCODER_TASKS: tuple[EncoderTask, ...] = ("embedding", "rerank")


class Encoding(msgspec.Struct, frozen=True, array_like=True):
    """One text, or pair of texts, to be encoded: ``ids`` are its tokens, special ones included.

    ``second`` is where the second text of a pair begins, for models that mark it by token types; 0 if there is
    none. ``id`` is unique within the runner's life.
    """

    id: int
    ids: list[int]
    second: int = 0


class Vector(msgspec.Struct, frozen=True, array_like=True):
    """What became of one ``Encoding``: ``values`` are float32, little endian, the whole vector or one score.

    ``error`` is set if there is none; ``kind`` is then the class in the error tree and ``param`` the request's field,
    if they are known.
    """

    id: int
    values: bytes
    error: str = ""
    kind: str = ""
    param: str = ""


class Encoder(Protocol):
    """A step machine over texts. Not thread-safe; made and used in one process by one thread."""

    def add(self, request: Encoding) -> None:
        """Queue a text. Raises ``errors.RequestError`` if it has no tokens or an id that is not in the vocabulary,
        ``errors.ContextLengthExceeded`` if it is too long."""

    def abort(self, request_id: int) -> None:
        """Forget a text that was not encoded yet. Unknown ids are ignored."""

    def step(self) -> list[Vector]:
        """Encode one batch of what is queued, texts of similar length together. Blocks; may return none."""

    def busy(self) -> bool:
        """Is a text queued?"""

    def close(self) -> None:
        """Give back memory and threads."""
