"""Which dtype the arithmetic and the KV cache have."""

from __future__ import annotations

from openllm.errors import UnsupportedOption
from openllm.machine import Machine
from openllm.plan.route import Route
from openllm.plan.values import Decision, Overrides

_SHORT = {"fp32": "float32", "f32": "float32", "fp16": "float16", "f16": "float16", "half": "float16",
          "bf16": "bfloat16", "int8": "u8"}  # fmt: skip
_DTYPES = {
    "vllm": ("auto", "bfloat16", "float16", "float32"),
    "openvino": ("auto", "bfloat16", "float16", "float32"),
    "transformers": ("auto", "bfloat16", "float16", "float32"),
    "echo": ("auto",),
}
_KV_DTYPES = {
    ("vllm", "cuda"): ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    ("vllm", "cpu"): ("auto",),
    ("openvino", "cpu"): ("auto", "u8", "bfloat16", "float16", "float32"),
    ("transformers", "cpu"): ("auto",),
    ("transformers", "cuda"): ("auto",),
    ("echo", "cpu"): ("auto",),
}
_HALF_ONLY = frozenset({"gptq", "gptq-int8", "awq"})
_BF16_CAPABILITY = (8, 0)
_FP8_CAPABILITY = (8, 9)
_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "amx_tile", "bf16"})
_HALF_FEATURES = _BF16_FEATURES | {"avx512_fp16", "asimdhp"}


def decide_dtype(route: Route, machine: Machine, overrides: Overrides) -> Decision:
    """The dtype of weights and activations. Raises ``UnsupportedOption`` for one that the engine has not."""
    if overrides.dtype is None or overrides.dtype.lower() == "auto":
        value, because = _best_dtype(route, machine)
        return Decision("dtype", value, because)
    value = _full(overrides.dtype)
    allowed = _DTYPES[route.engine]
    if value not in allowed:
        raise _not_a_dtype("--dtype", overrides.dtype, route.engine, allowed, "dtype")
    if value == "float32" and route.engine == "vllm" and route.quantization in _HALF_ONLY:
        raise UnsupportedOption(
            f"{route.quantization} weights have no float32 kernels in vLLM.",
            hint="Use --dtype float16 or bfloat16.",
            param="dtype",
        )
    if value == "bfloat16" and route.device == "cuda" and not _has_bf16(machine):
        raise UnsupportedOption(
            f"{machine.gpus[0].name} has no bfloat16.", hint="Use --dtype float16.", param="dtype"
        )
    return Decision("dtype", value, "asked for")


def decide_kv_dtype(route: Route, machine: Machine, overrides: Overrides) -> Decision:
    """The dtype of the KV cache. Raises ``UnsupportedOption`` for one that the engine has not."""
    asked = overrides.kv_cache_dtype
    if not route.caches:
        if asked is not None:
            raise UnsupportedOption(
                f"{route.manifest.name} keeps no KV cache.",
                hint="Leave --kv-cache-dtype out.",
                param="kv_cache_dtype",
            )
        return Decision("kv_cache_dtype", "auto", "the model keeps no cache")
    if asked is None or asked.lower() == "auto":
        why = "OpenVINO keeps it in 8 bit" if route.engine == "openvino" else "the engine's own choice"
        return Decision("kv_cache_dtype", "auto", why)
    value = _full(asked)
    allowed = _KV_DTYPES[route.engine, route.device]
    if value not in allowed:
        raise _not_a_dtype(
            "--kv-cache-dtype", asked, f"{route.engine} ({route.device})", allowed, "kv_cache_dtype"
        )
    if value.startswith("fp8") and not _has_fp8(machine):
        raise UnsupportedOption(
            f"{machine.gpus[0].name} has no fp8.", hint="Leave --kv-cache-dtype out.", param="kv_cache_dtype"
        )
    return Decision("kv_cache_dtype", value, "asked for")


def computing_dtype(dtype: str, machine: Machine) -> str:
    """What OpenVINO's CPU plugin holds floats in where it picks for itself: without arithmetic in 16 bit, float32."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if _HALF_FEATURES & set(machine.cpu_features) else "float32"


def stored_kv_dtype(route: Route, dtype: str, kv_cache_dtype: str) -> str:
    """The dtype that the cache really has, for sizes: vLLM's "auto" is that of the activations."""
    if kv_cache_dtype != "auto":
        return kv_cache_dtype
    return "u8" if route.engine == "openvino" else dtype


def _best_dtype(route: Route, machine: Machine) -> tuple[str, str]:
    stored = route.manifest.dtype
    if route.engine == "openvino":
        if route.quantization == "int8":
            return "auto", "int8 weights meet activations of 8 bit where the CPU can, the rest is float32"
        return "auto", "OpenVINO picks the precision that this CPU computes fastest"
    if route.engine == "echo":
        return "auto", "nothing is computed"
    if route.device == "cuda":
        if not _has_bf16(machine):
            return "float16", f"{machine.gpus[0].name} has no bfloat16"
        if stored == "float16":
            return "float16", "as the weights are stored"
        return "bfloat16", "half the size of float32, and its range"
    if _BF16_FEATURES & set(machine.cpu_features):
        return "bfloat16", "this CPU computes in bfloat16"
    if route.quantization in _HALF_ONLY:
        return "bfloat16", f"{route.quantization} has no float32 kernels"
    return "float32", "this CPU has no bfloat16 arithmetic"


def _has_bf16(machine: Machine) -> bool:
    capability = machine.gpus[0].capability
    return capability is None or capability >= _BF16_CAPABILITY


def _has_fp8(machine: Machine) -> bool:
    capability = machine.gpus[0].capability
    return capability is None or capability >= _FP8_CAPABILITY


def _full(name: str) -> str:
    return _SHORT.get(name.lower(), name.lower())


def _not_a_dtype(
    option: str, value: str, engine: str, allowed: tuple[str, ...], param: str
) -> UnsupportedOption:
    return UnsupportedOption(
        f"{option} {value} cannot be honoured by {engine}.", hint=f"Choose {', '.join(allowed)}.", param=param
    )
