"""What is known of a file and of a batch, and how OpenAI's API shows it. Times are seconds since 1970."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

import msgspec

DAY = 24 * 3600
KEPT_SECONDS = 30 * DAY  # of a batch's input and output, unless the client says otherwise

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Outcome = Literal["completed", "expired", "cancelled"]
_ENDED = ("failed", "completed", "expired", "cancelled")


def now() -> int:
    """The wall clock: these times outlive the process."""
    return int(time.time())


def file_id() -> str:
    """A new one that cannot be guessed."""
    return f"file-{secrets.token_hex(12)}"


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of ``owner`` (an API key's name). ``expires_at`` None keeps it until it is deleted."""

    id: str
    owner: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's ``file`` object."""
        body: dict[str, Any] = {"object": "file", "status": "processed", **msgspec.structs.asdict(self)}
        del body["owner"]
        return body


class LineError(msgspec.Struct, frozen=True):
    """What is wrong with a line of an input file; lines count from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Usage(msgspec.Struct):
    """Tokens of all answers so far."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def body(self) -> dict[str, Any]:
        """OpenAI's ``usage`` of a batch."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.input_tokens + self.output_tokens,
        }


class BatchRecord(msgspec.Struct, kw_only=True):
    """One batch. Changed by its run only.

    ``output_id`` and ``errors_id`` are the ids that its two files have from the beginning; clients see them when
    the batch has ended and there is something in them. ``outcome`` is what it will end as, once that is decided.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_id: str = msgspec.field(default_factory=file_id)
    errors_id: str = msgspec.field(default_factory=file_id)
    metadata: dict[str, str] | None = None
    output_seconds: int = KEPT_SECONDS
    status: Status = "validating"
    outcome: Outcome | None = None
    model: str | None = None
    errors: list[LineError] = msgspec.field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    output_file_id: str | None = None
    error_file_id: str | None = None
    times: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    def become(self, status: Status) -> None:
        """Enter a status, and note when, the first time."""
        self.status = status
        self.times.setdefault(f"{status}_at", now())

    def body(self) -> dict[str, Any]:
        """OpenAI's ``batch`` object."""
        stamps = {
            f"{status}_at": self.times.get(f"{status}_at")
            for status in (
                "in_progress",
                "finalizing",
                "completed",
                "failed",
                "expired",
                "cancelling",
                "cancelled",
            )
        }
        problems = [msgspec.structs.asdict(error) for error in self.errors]
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": problems} if problems else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **stamps,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": self.usage.body(),
            "metadata": self.metadata,
        }
