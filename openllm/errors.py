"""The one error tree.

OpenLLMError
├── UsageError                 what was asked for cannot be right            exit 2, HTTP 400
│   ├── UnknownModel           no recipe, file or hub id of that name                 404
│   ├── InvalidRecipe          a recipe file does not fit the schema
│   ├── InvalidAdapter         a LoRA adapter that is damaged or was made for another model
│   ├── NoSuchServer           no running server of that name
│   ├── InvalidKeyFile         a file of API keys does not fit the schema
│   └── UnsupportedOption      an option the chosen backend cannot honour
├── RequestError               a request body that cannot be served                   400
│   ├── UnsupportedParameter   a parameter we do not implement
│   ├── ContextLengthExceeded  prompt + max_tokens do not fit the context
│   ├── TaskNotServed          the model does something else than was asked for
│   ├── NotAllowed             what the server was not started to allow               403
│   ├── ModelNotServed         the ``model`` field names another model                404
│   ├── ObjectNotFound         no stored object of that id                            404
│   ├── PreviousResponseNotFound   ``previous_response_id`` names no stored response
│   ├── Conflict               not in the state that it is in                         409
│   ├── InvalidApiKey          no key, or none that is known                          401
│   ├── TooLarge               more bytes than are taken                              413
│   ├── TooSlow                the body does not come in                              408
│   ├── RateLimited            more than the key's limits allow                       429
│   └── DeadlineExceeded       it would have taken longer than the request may        504
├── WeightsError               weights cannot be had or cannot be trusted    exit 3   502
│   ├── GatedModel             the hub wants a licence accepted and a token           403
│   ├── MissingRevision        the pinned revision is not on the hub                  404
│   ├── SourceUnavailable      the hub or the package index does not answer           503
│   ├── OfflineMiss            --offline and not in the cache                         503
│   ├── CorruptFile            a checksum or a header is wrong                        502
│   └── DiskFull               not enough free bytes                                  507
├── MachineError               this machine cannot run the plan              exit 4   503
│   ├── DoesNotFit             more memory needed than is free
│   ├── PortInUse              the address is taken
│   └── EngineMissing          the engine's package is not installed
└── RunnerError                the engine process                            exit 5   503
    ├── RunnerFailed           it could not be started
    │   └── OutOfMemory        memory ran out, while it loaded or later
    ├── RunnerDied             it ended while it held the request
    │   └── AnswerLost         the answer had begun
    └── Overloaded             the queue is full                                      429

Raised inside, rendered at two edges only: the CLI as one line and a hint, the API as OpenAI's error JSON.
"""

from __future__ import annotations

import reprlib
from typing import ClassVar

_QUOTES = reprlib.Repr()
_QUOTES.maxstring = _QUOTES.maxother = _QUOTES.maxlong = 120


def quoted(value: object) -> str:
    """``repr(value)``, with the middle left out where it is long: what a client sent may be megabytes."""
    return _QUOTES.repr(value)


class OpenLLMError(Exception):
    """Base of every error that a user may meet.

    ``message`` says what is wrong, ``hint`` names the next thing to do, ``param`` the offending option or
    request field, ``retry_after`` the seconds after which it may go better, where that is known.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.message = message
        self.hint = hint
        self.param = param

    @property
    def told(self) -> str:
        """Message and hint."""
        return self.message if self.hint is None else f"{self.message} {self.hint}"


class UsageError(OpenLLMError):
    code = "usage_error"
    status = 400
    exit_code = 2


class UnknownModel(UsageError):
    code = "model_not_found"
    status = 404


class InvalidRecipe(UsageError):
    code = "invalid_recipe"


class InvalidAdapter(UsageError):
    code = "invalid_adapter"


class NoSuchServer(UsageError):
    code = "server_not_found"
    status = 404


class InvalidKeyFile(UsageError):
    code = "invalid_key_file"


class UnsupportedOption(UsageError):
    code = "unsupported_option"


class RequestError(OpenLLMError):
    code = "invalid_request"
    status = 400


class UnsupportedParameter(RequestError):
    code = "unsupported_parameter"


class ContextLengthExceeded(RequestError):
    code = "context_length_exceeded"


class TaskNotServed(RequestError):
    code = "task_not_served"


class NotAllowed(RequestError):
    code = "not_allowed"
    status = 403


class ModelNotServed(RequestError):
    code = "model_not_found"
    status = 404


class ObjectNotFound(RequestError):
    code = "not_found"
    status = 404


class PreviousResponseNotFound(RequestError):
    code = "previous_response_not_found"


class Conflict(RequestError):
    code = "conflict"
    status = 409


class InvalidApiKey(RequestError):
    code = "invalid_api_key"
    status = 401


class TooLarge(RequestError):
    code = "too_large"
    status = 413


class TooSlow(RequestError):
    code = "request_timeout"
    status = 408


class RateLimited(RequestError):
    code = "rate_limit_exceeded"
    status = 429


class DeadlineExceeded(RequestError):
    code = "deadline_exceeded"
    status = 504


class WeightsError(OpenLLMError):
    code = "weights_error"
    status = 502
    exit_code = 3


class GatedModel(WeightsError):
    code = "gated_model"
    status = 403


class MissingRevision(WeightsError):
    code = "missing_revision"
    status = 404


class SourceUnavailable(WeightsError):
    code = "source_unavailable"
    status = 503


class OfflineMiss(WeightsError):
    code = "offline"
    status = 503


class CorruptFile(WeightsError):
    code = "corrupt_file"


class DiskFull(WeightsError):
    code = "disk_full"
    status = 507


class MachineError(OpenLLMError):
    code = "machine_error"
    status = 503
    exit_code = 4


class DoesNotFit(MachineError):
    code = "does_not_fit"


class PortInUse(MachineError):
    code = "port_in_use"


class EngineMissing(MachineError):
    code = "engine_missing"


class RunnerError(OpenLLMError):
    code = "runner_error"
    status = 503
    exit_code = 5


class RunnerFailed(RunnerError):
    code = "runner_failed"


class OutOfMemory(RunnerFailed):
    """Its hint is always the same."""

    code = "out_of_memory"
    HINT: ClassVar[str] = (
        "Give the engine less: a smaller --kv-cache, --context or --concurrency, or smaller weights (--quantize);"
        " or stop what else uses memory."
    )

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message, hint=hint or self.HINT, param=param)


class RunnerDied(RunnerError):
    code = "runner_died"


class AnswerLost(RunnerDied):
    """A whole answer is asked for again, a stream cannot be."""


class Overloaded(RunnerError):
    code = "overloaded"
    status = 429
