"""What a pulling child process is told, and what it tells: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from openllm import errors
from openllm.errors import OpenLLMError
from openllm.weights.manifest import Manifest, Weights
from openllm.weights.settings import HubSettings


class PullRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``store`` is the root of the store; the rest as in ``fetch``."""

    manifest: Manifest
    store: str
    hub: HubSettings
    offline: bool = False
    fresh: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """``done`` of ``total`` bytes of ``label`` are here; ``rate`` in bytes a second."""

    label: str
    done: int
    total: int
    rate: float = 0.0


class Note(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="note"):
    """A line for people."""

    text: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """The last event of a pull that went well."""

    weights: Weights


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="error"):
    """The last event of a pull that did not; the fields are those of ``OpenLLMError``."""

    code: str
    message: str
    hint: str | None = None
    param: str | None = None


Event = Progress | Note | Done | Failed

_encoder = msgspec.json.Encoder()
_events = msgspec.json.Decoder(Event)
_requests = msgspec.json.Decoder(PullRequest)


def encode(message: PullRequest | Event) -> bytes:
    """One line, with its end."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> PullRequest:
    """Raises ``msgspec.DecodeError`` for anything else."""
    return _requests.decode(line)


def decode_event(line: bytes) -> Event:
    """Raises ``msgspec.DecodeError`` for anything else."""
    event: Event = _events.decode(line)
    return event


def failed(error: OpenLLMError) -> Failed:
    return Failed(code=error.code, message=error.message, hint=error.hint, param=error.param)


def as_error(event: Failed) -> OpenLLMError:
    """The error that ended the child, as it was raised there."""
    kind = _KINDS.get(event.code, OpenLLMError)
    return kind(event.message, hint=event.hint, param=event.param)


def _tree(kind: type[OpenLLMError]) -> Iterator[type[OpenLLMError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _tree(each)


# Codes are unique among the errors that fetching raises.
_KINDS = {kind.code: kind for root in (errors.UsageError, errors.WeightsError) for kind in _tree(root)}
