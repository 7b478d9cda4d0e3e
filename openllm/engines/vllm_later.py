"""What vLLM imports and does when it loads a model, whichever model it is. For a process that loads none itself."""

from __future__ import annotations

import contextlib
import importlib

# Sets what vLLM reads from the environment, so it comes before vLLM.
# ruff: noqa: I001
import openllm.engines.vllm_engine  # noqa: F401

from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging_if_needed
from vllm.platforms import current_platform
from vllm.plugins import load_general_plugins

_MODULES = (
    "vllm.distributed.ec_transfer.ec_connector.metrics",
    "vllm.distributed.kv_transfer.kv_connector.v1.metrics",
    "vllm.model_executor.layers.quantization.compressed_tensors.utils",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.model_executor.models.config",
    "vllm.model_executor.models.llama",  # and what is like it
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.v1.core.kv_cache_manager",
    "vllm.v1.core.sched.scheduler",
)
_ON_A_CPU = ("vllm.v1.attention.backends.cpu_attn", "vllm.v1.worker.cpu_worker")


def preload() -> None:
    """Do it now; no GPU is touched. Blocks for some seconds."""
    load_general_plugins()
    for name in (*_MODULES, *(_ON_A_CPU if current_platform.is_cpu() else ())):
        with contextlib.suppress(
            ImportError
        ):  # another release of vLLM may not have it: it is not needed here
            importlib.import_module(name)
    configure_logging_if_needed(LoggingConfig())
    if current_platform.is_cpu():
        _replace_kernels()


def _replace_kernels() -> None:
    """Have vLLM look for the kernels that a CPU replaces in all modules now, not in each worker: once is enough."""
    current_platform.register_triton_kernel_overrides()
    type(current_platform).register_triton_kernel_overrides = classmethod(lambda _: None)
