"""What the loaded weights are, against what the plan says that they are.

An engine may take a mode and not apply it: vLLM does so with ``int8_per_channel_weight_only`` and
``nvfp4_per_token`` on dense models. So it is the weights that are looked at, never the setting.
"""

from __future__ import annotations

from openllm.engines.base import EngineConfig
from openllm.errors import RunnerFailed

UNKNOWN = "unknown"
_FLOATS = frozenset({"float32", "float16", "bfloat16"})
# Where only bits can be counted, fp8 and fp4 look like whole numbers.
_EIGHT_BIT, _FP8 = frozenset({"int8"}), frozenset({"fp8", "int8"})
_FOUR_BIT, _FP4 = frozenset({"int4"}), frozenset({"fp4", "int4"})
_WANTED = {
    "none": _FLOATS,
    "int8": _EIGHT_BIT, "bnb-int8": _EIGHT_BIT, "gptq-int8": _EIGHT_BIT, "w8a8": _EIGHT_BIT,
    "int4": _FOUR_BIT, "bnb-nf4": _FOUR_BIT, "gptq": _FOUR_BIT, "awq": _FOUR_BIT, "w4a16": _FOUR_BIT,
    "fp8": _FP8, "mxfp4": _FP4, "nvfp4": _FP4,
}  # fmt: skip
_LEAST = 0.1  # of the weights: checkpoints mix what they are named after with 8 bit
_MOST_FLOATS = 0.5


def check_forms(config: EngineConfig, forms: dict[str, int]) -> None:
    """Raise ``RunnerFailed`` if the weights are not what the plan says.

    ``forms`` are those of ``Engine.weight_forms``. Weights of which the engine cannot tell are given the benefit of
    the doubt.
    """
    wanted = _WANTED.get(config.quantization)
    total = sum(forms.values())
    if wanted is None or not total:
        return
    right = sum(count for form, count in forms.items() if form in wanted or form == UNKNOWN)
    floats = sum(count for form, count in forms.items() if form in _FLOATS - wanted)
    if right >= _LEAST * total and floats <= _MOST_FLOATS * total:
        return
    others = {form: count for form, count in forms.items() if form not in wanted}
    said = "floats" if config.quantization == "none" else config.quantization
    raise RunnerFailed(
        f"{config.engine} was to run {config.name} in {said}, but {100 * (total - right) // total} % of its weights"
        f" are not: they are {max(others, key=others.__getitem__)}.",
        hint="Leave --quantize out, or use another --backend.",
    )
