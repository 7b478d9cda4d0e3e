"""Plans whose every sum is kept in tests/plan/golden. ``python -m tests.plan.golden_plans`` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openllm.errors import OpenLLMError
from openllm.machine import EVERYTHING, named
from openllm.memory import Term, readable
from openllm.plan import NoRoom, Overrides, make_plan
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.inspect import recipe_manifests

FOLDER = Path(__file__).with_name("golden")
MODELS = (
    "llama2:70b-chat",
    "qwen3:32b",
    "mixtral:8x7b-instruct-v0.1",
    "deepseek-r1:671b-0528",
    "gpt-oss:120b",
)
MACHINES = (
    "rtx4090",
    "h100",
    "h100x2",
    "h100x8",
    "laptop-16gb",
)  # 24, 80, 160 and 640 GB of GPU memory, and none
_SHOWN = ("variant", "engine", "device", "quantization", "dtype", "context", "concurrency", "tensor_parallel")


def golden(model: str) -> str:
    """The plans of a model on each machine, as text."""
    found = Registry.open([shipped_folder()]).find(model)
    parts = [f"{model}: {found.model.shape.parameters:,} parameters"]
    for machine in MACHINES:
        parts += ["", f"== {machine}"]
        try:
            plan = make_plan(recipe_manifests(found), named(machine), Overrides(), installed=EVERYTHING)
        except OpenLLMError as error:
            parts += [error.message, f"hint: {error.hint}"]
            parts += _lines(error.terms) if isinstance(error, NoRoom) else []
            continue
        shown = [f"{each.field} {each.value}" for each in plan.decisions if each.field in _SHOWN]
        parts += [", ".join(shown), *_lines(plan.arithmetic)]
    return "\n".join(parts) + "\n"


def path(model: str) -> Path:
    return FOLDER / f"{model.replace(':', '-')}.txt"


def _lines(terms: tuple[Term, ...]) -> Iterator[str]:
    for term in terms:
        yield f"  {term.what:26} {term.sum} = {term.bytes:,} B ({_readable(term.bytes)})"


def _readable(size: int) -> str:
    return f"-{readable(-size)}" if size < 0 else readable(size)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in MODELS:
        path(each).write_text(golden(each))
