"""vLLM, below its ``LLMEngine``: requests go straight into the ``EngineCore`` of this process.

``LLMEngine`` adds detokenizing, request output objects and statistics around the same core; here ids go in and
ids come out, so none of that is needed, and a step of a small model is shorter.

Refused: an empty or too long prompt, ids outside the vocabulary, more than 20 logprobs a place, guides that
llguidance cannot compile, and what vLLM's ``SamplingParams`` finds out of range. Everything else in ``Sampling``
is honoured.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# ruff: noqa: E402
# Read by torch and vLLM at import and later. One process, whose threads the kernel places, and which is quiet.
os.environ.update(
    TORCH_CPP_LOG_LEVEL="ERROR",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL=os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
)

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMClientError
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine import FinishReason as CoreFinish
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor

from openllm.engines.base import AdapterFiles, Delta, EngineConfig, FinishReason, Generation, Sampling
from openllm.engines.limits import check_biases, check_ids, check_lengths, check_logprobs, refuse_images
from openllm.engines.refusal import refusal
from openllm.engines.safetensors_convert import converted
from openllm.engines.torch_forms import torch_forms
from openllm.engines.vllm_adapters import VLLMAdapters
from openllm.engines.vllm_guides import VLLMGuides
from openllm.engines.vllm_logprobs import rows
from openllm.engines.vllm_memory import pages_on_demand
from openllm.engines.vllm_seeds import protect_seeds
from openllm.errors import EngineMissing, RequestError, RunnerFailed, UnsupportedOption

_DTYPES = ("auto", "float32", "bfloat16", "float16")
_PREFILL_TOKENS = 512
_TOY_BYTES = 64 << 20
_PAUSE_SECONDS = 0.001
MOST_LOGPROBS = 20
_FINISH: dict[Any, FinishReason] = {
    CoreFinish.STOP: "stop",
    CoreFinish.LENGTH: "length",
    CoreFinish.ABORT: "abort",
    CoreFinish.ERROR: "error",
}


class VLLMEngine:
    """See ``engines.base.Engine``."""

    def __init__(self, config: EngineConfig, report: Callable[[str], None]) -> None:
        _refuse_options(config)
        path = Path(config.path)
        if path.suffix == ".gguf":
            path = converted(path, Path(config.cache), report)
        report(f"loading {config.name} with vLLM")
        if config.device == "cpu" and config.threads:
            torch.set_num_threads(config.threads)
        with _no_garbage_collection(), pages_on_demand():
            settings = _settings(config, path)
            self._core: Any = EngineCore(settings, Executor.get_class(settings), log_stats=False)
        if config.device == "cpu":
            protect_seeds(self._core)
        self._context = config.context
        self._vocabulary: int = settings.model_config.get_vocab_size()
        self._guides = VLLMGuides(self._core, config, self._vocabulary)
        self._sampling: dict[str, Sampling] = {}
        self._sized: list[Delta] = []  # the lengths of prompts with images, not told yet
        self._adapters = VLLMAdapters(self._core, config.max_adapters)
        self._vision: Any = None
        if config.max_images:
            from openllm.engines.vllm_vision import VLLMVision  # brings Pillow and processors

            self._vision = VLLMVision(settings, config.context, config.max_images)

    def load_adapter(self, adapter: AdapterFiles) -> None:
        """See ``engines.base.ServesAdapters``."""
        self._adapters.load(adapter)

    def unload_adapter(self, name: str) -> None:
        """See ``engines.base.ServesAdapters``."""
        self._adapters.unload(name)

    def add(self, request: Generation) -> None:
        check_lengths(request, self._context)
        check_ids(request, self._vocabulary)
        check_biases(request, self._vocabulary)
        check_logprobs(request, MOST_LOGPROBS)
        name = str(request.id)
        params, lora = self._sampling_params(request), self._adapters.request(request.adapter)
        if self._vision is None:
            refuse_images(request)
        else:
            self._vision.check(request)
        core_request, wave = self._core.preprocess_add_request(
            self._vision.core_request(request, params, lora)
            if request.images
            else EngineCoreRequest(
                request_id=name,
                prompt_token_ids=request.prompt,
                mm_features=None,
                sampling_params=params,
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=lora,
                cache_salt=None,
                data_parallel_rank=None,
            )
        )
        self._core.add_request(core_request, wave)
        self._sampling[name] = request.sampling
        if request.images:
            self._sized.append(Delta(request.id, [], prompt=core_request.num_prompt_tokens))

    def abort(self, request_id: int) -> None:
        if self._sampling.pop(str(request_id), None) is not None:
            self._core.abort_requests([str(request_id)])
            self._guides.forget(str(request_id))

    def step(self) -> list[Delta]:
        known = self._sampling
        sized, self._sized = [each for each in self._sized if str(each.id) in known], []
        outputs, executed = self._core.step_fn()
        self._core.post_step(model_executed=executed)
        mine = outputs.get(0) if outputs else None
        if mine is None:
            if not executed:
                time.sleep(_PAUSE_SECONDS)  # all that there is waits for its guide to be compiled
            return sized
        return sized + [self._delta(output) for output in mine.outputs if output.request_id in known]

    def busy(self) -> bool:
        return bool(self._sampling)

    def weight_forms(self) -> dict[str, int]:
        worker = getattr(self._core.model_executor, "driver_worker", None)
        runner = getattr(getattr(worker, "worker", None), "model_runner", None)
        return {} if runner is None else torch_forms(runner.get_model())

    def close(self) -> None:
        if self._core is not None:
            self._core.shutdown()
        self._core = None
        self._sampling.clear()

    def _delta(self, output: Any) -> Delta:
        name, tokens = output.request_id, output.new_token_ids
        stats = output.prefill_stats
        cached = stats.num_cached_tokens if stats is not None else 0
        sampling = self._sampling[name]
        logprobs = prompt_logprobs = None
        if sampling.logprobs is not None and output.new_logprobs is not None:
            logprobs = rows(output.new_logprobs, sampling.logprobs)
        if sampling.prompt_logprobs is not None and output.new_prompt_logprobs_tensors is not None:
            prompt_logprobs = rows(output.new_prompt_logprobs_tensors.tolists(), sampling.prompt_logprobs)
        if output.finish_reason is None:
            return Delta(int(name), tokens, None, cached, "", "", logprobs, prompt_logprobs)
        del self._sampling[name]
        why = self._guides.forget(name)
        finish = _FINISH.get(output.finish_reason, "error")
        if finish == "error":
            return refusal(int(name), why or RunnerFailed("vLLM could not go on with this sequence."))
        if tokens and tokens[-1] in sampling.stop_ids and finish == "stop":
            tokens = tokens[:-1]
            logprobs = logprobs and logprobs[:-1]
        return Delta(int(name), tokens, finish, cached, "", "", logprobs, prompt_logprobs)

    def _sampling_params(self, request: Generation) -> Any:
        params = _sampling_params(request.sampling)
        if request.sampling.guide is not None:
            params.structured_outputs = self._guides.params(request, request.sampling.guide)
        return params


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Building the engine makes hundreds of thousands of lasting objects: collecting among them takes 1 s."""
    gc.freeze()
    gc.disable()
    collect = gc.collect
    gc.collect = _collect_nothing  # vLLM asks for it several times
    try:
        yield
    finally:
        gc.collect = collect
        gc.enable()


def _collect_nothing(generation: int = 2) -> int:
    return 0


def _refuse_options(config: EngineConfig) -> None:
    if Path(config.path).suffix == ".gguf" and config.quantization != "none":
        raise UnsupportedOption(
            f"The vllm engine runs a GGUF file unquantized, not as {config.quantization}.",
            hint="Leave --quantize out, or use --backend openvino.",
            param="quantize",
        )
    if config.dtype not in _DTYPES:
        raise UnsupportedOption(
            f"The vllm engine has no dtype {config.dtype}.",
            hint=f"Choose {', '.join(_DTYPES)}.",
            param="dtype",
        )
    if config.device == "cpu" and config.kv_cache_dtype != "auto":
        raise UnsupportedOption(
            f"vLLM on a CPU keeps its KV cache in the model's dtype, not in {config.kv_cache_dtype}.",
            hint="Leave --kv-cache-dtype out.",
            param="kv_cache_dtype",
        )
    if config.device == "cpu" and config.tensor_parallel != 1:
        raise UnsupportedOption(
            "vLLM on a CPU runs in one process here.",
            hint="Leave --tensor-parallel out.",
            param="tensor_parallel",
        )


def _settings(config: EngineConfig, path: Path) -> Any:
    try:
        return _engine_args(config, path).create_engine_config()
    except ValueError as error:
        if "failed to be inspected" not in str(error) or find_spec("torchvision") is not None:
            raise
        raise EngineMissing(
            f"vLLM cannot load the architecture of {config.name} without torchvision.",
            hint="Install the build of torchvision that matches torch.",
            param="backend",
        ) from error


def _engine_args(config: EngineConfig, path: Path) -> Any:
    cpu = config.device == "cpu"
    return EngineArgs(
        model=str(path),
        dtype=config.dtype,
        max_model_len=config.context,
        max_num_seqs=config.max_sequences,
        enforce_eager=config.eager,
        kv_cache_memory_bytes=config.kv_cache_bytes or None,
        kv_cache_dtype=config.kv_cache_dtype,
        gpu_memory_utilization=config.memory_fraction,
        tensor_parallel_size=config.tensor_parallel,
        distributed_executor_backend="uni" if cpu or config.tensor_parallel == 1 else "mp",
        generation_config="vllm",
        disable_log_stats=True,
        enable_prefix_caching=True,
        use_tqdm_on_load=False,
        max_logprobs=MOST_LOGPROBS,
        max_num_batched_tokens=_prefill_tokens(config, path),
        **_adapter_args(config),
        **_image_args(config),
    )


def _adapter_args(config: EngineConfig) -> dict[str, Any]:
    """Room for LoRA adapters, only if there may be some: it costs memory, and time in every step.

    All that are loaded stay in memory: what vLLM evicted it would read from its folder again in the middle of a
    step of all requests, and a folder that is gone by then would end them.
    """
    if not config.max_adapters:
        return {}
    return {
        "enable_lora": True,
        "max_loras": config.adapter_slots,
        "max_cpu_loras": config.max_adapters,
        "max_lora_rank": config.max_adapter_rank,
    }


def _image_args(config: EngineConfig) -> dict[str, Any]:
    if not config.max_images:
        return {"skip_tokenizer_init": True}
    from openllm.engines.vllm_vision import engine_args

    return engine_args(config.max_images)


def _prefill_tokens(config: EngineConfig, path: Path) -> int | None:
    """Tokens of prompts in one step; None leaves it to vLLM (2,048 on a CPU).

    On a CPU a step of 2,048 takes a second for even a small model, and all its prompts wait for the last one.
    Measured with 64 prompts of 40 tokens: 512 takes a fifth off the median time to first token and nothing off
    the throughput. For a toy the steps' own cost is larger than what is gained.
    """
    weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    if config.device != "cpu" or weights < _TOY_BYTES:
        return None
    return max(_PREFILL_TOKENS, config.max_sequences)


def _sampling_params(sampling: Sampling) -> Any:
    try:
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            stop_token_ids=list(sampling.stop_ids),
            logprobs=sampling.logprobs,
            prompt_logprobs=sampling.prompt_logprobs,
            logit_bias=dict(sampling.logit_bias) or None,
            ignore_eos=True,  # the front puts the end ids among stop_ids
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
    except (VLLMClientError, ValueError) as error:
        raise RequestError(
            str(error).splitlines()[0],
            hint="See the API reference for the range.",
            param=getattr(error, "parameter", None),
        ) from error
