"""The named states of a model's runner, as the front sees it."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """``Keeper`` is the one writer."""

    PULLING = "pulling"  # the weights are being fetched
    QUEUED = "queued"  # it waits until other models have made room in memory
    STARTING = "starting"  # a process loads the engine
    READY = "ready"  # the engine has decoded a token
    UNLOADING = "unloading"  # it had nothing to do, or makes room for another, and is being ended
    ASLEEP = "asleep"  # there is no runner; a request starts one
    WAITING = "waiting"  # it ended, and is started again after a delay
    FAILED = "failed"  # it ended too often: requests are refused while it is tried again
    STOPPED = "stopped"  # the front is shutting down, or it could never be started
