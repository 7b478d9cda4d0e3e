"""What the loaded weights are, against what the plan says that they are.

An engine may take a mode and not apply it: vLLM does so with ``int8_per_channel_weight_only`` and
``nvfp4_per_token`` on dense models. So it is the weights that are looked at, never the setting.
"""

from __future__ import annotations

from openllm.engines.base import EngineConfig
from openllm.errors import RunnerFailed

UNKNOWN = "unknown"
_EIGHT_BIT, _FOUR_BIT = frozenset({"int8"}), frozenset({"int4"})
_FLOATS = frozenset({"float32", "float16", "bfloat16"})
_WANTED = {
    "none": _FLOATS,
    "int8": _EIGHT_BIT, "bnb-int8": _EIGHT_BIT, "gptq-int8": _EIGHT_BIT, "w8a8": _EIGHT_BIT,
    "int4": _FOUR_BIT, "bnb-nf4": _FOUR_BIT, "gptq": _FOUR_BIT, "awq": _FOUR_BIT, "w4a16": _FOUR_BIT,
    "fp8": frozenset({"fp8"}), "mxfp4": frozenset({"fp4"}), "nvfp4": frozenset({"fp4"}),
}  # fmt: skip


def check_forms(config: EngineConfig, forms: dict[str, int]) -> None:
    """Raise ``RunnerFailed`` if most of the weights are something else than the plan says.

    ``forms`` are those of ``Engine.weight_forms``. Weights of which the engine cannot tell are given the benefit of
    the doubt.
    """
    wanted = _WANTED.get(config.quantization)
    if wanted is None:
        return
    others = {form: count for form, count in forms.items() if form not in wanted and form != UNKNOWN}
    total = sum(forms.values())
    wrong = sum(others.values())
    if 2 * wrong <= total:
        return
    most = max(others, key=others.__getitem__)
    said = " or ".join(sorted(wanted)) if config.quantization == "none" else config.quantization
    raise RunnerFailed(
        f"{config.engine} was to run {config.name} in {said}, but {100 * wrong // total} % of its weights"
        f" are not: they are {most}.",
        hint="Leave --quantize out, or use another --backend.",
    )
