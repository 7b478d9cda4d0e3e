"""LoRA adapters as the runner handles them: an adapter that fails is answered for, and the engine serves on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from openllm.engines.base import AdapterFiles, ServesAdapters
from openllm.errors import InvalidAdapter, OpenLLMError
from openllm.runner.wire import AdapterDone, Failed

_log = logging.getLogger(__name__)


def load_adapter(engine: object, adapter: AdapterFiles) -> AdapterDone:
    """Load it, and say how that went. Blocks while its weights are read."""
    return _done(adapter.name, lambda: _able(engine).load_adapter(adapter))


def unload_adapter(engine: object, name: str) -> AdapterDone:
    """Unload it, and say how that went."""
    return _done(name, lambda: _able(engine).unload_adapter(name))


def _able(engine: object) -> ServesAdapters:
    if not isinstance(engine, ServesAdapters):
        raise InvalidAdapter("This engine cannot serve LoRA adapters.", hint="Use --backend vllm.")
    return engine


def _done(name: str, act: Callable[[], None]) -> AdapterDone:
    try:
        act()
    except OpenLLMError as error:
        return AdapterDone(name, Failed(type(error).__name__, error.message, error.hint))
    except Exception as error:
        _log.exception("the adapter %s failed", name)
        return AdapterDone(name, Failed(InvalidAdapter.__name__, f"{type(error).__name__}: {error}", None))
    return AdapterDone(name)
