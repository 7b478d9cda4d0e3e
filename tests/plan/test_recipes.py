"""Every shipped recipe on every known machine: a plan, or an error that says what to do."""

from __future__ import annotations

import pytest

from openllm.errors import OpenLLMError
from openllm.machine import named, names
from openllm.plan import Overrides, make_plan
from openllm.recipes.registry import Registry, shipped_folder
from openllm.weights.inspect import recipe_manifests
from tests.plan.examples import ALL, BASE

MODELS = Registry.open([shipped_folder()]).models()


@pytest.mark.parametrize("machine", [*names(), "h100x8", "b200x8"])
@pytest.mark.parametrize("installed", [ALL, BASE], ids=["all", "base"])
def test_planned_or_refused_with_a_hint(machine: str, installed: frozenset[str]) -> None:
    planned, refused = 0, list[OpenLLMError]()
    for found in MODELS:
        try:
            made = make_plan(recipe_manifests(found), named(machine), Overrides(), installed=installed)
        except OpenLLMError as error:
            refused.append(error)
            continue
        planned += 1
        decoder = made.engine == "vllm" and made.manifest.shape.architecture.endswith("ForCausalLM")
        encodes = found.model.task in ("embedding", "rerank")
        assert (made.kv_cache_bytes > 0) == (decoder or not encodes)
        assert 1 <= made.concurrency <= 256
        assert made.context <= found.model.context
        assert made.engine in made.manifest.engines
    assert planned >= 15
    assert all(error.hint for error in refused)


def test_the_largest_machine_runs_every_model() -> None:
    for found in MODELS:
        made = make_plan(recipe_manifests(found), named("b200x8"), Overrides(), installed=ALL)
        assert made.device == "cuda"
