"""``openllm pull``: fetch a model's weights without starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openllm.cli.options import Json, ModelName, PlanOptions, takes_plan_options

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.weights.adapter import Adapter
    from openllm.weights.manifest import Manifest, Weights


@takes_plan_options
def pull(model: ModelName, json: Json = False, *, options: PlanOptions) -> None:
    """Fetch the weights that `start` would take with the same options, and print where they are."""
    from openllm.weights.fetch import fetch
    from openllm.weights.progress import reporter_for
    from openllm.weights.store import Store

    settings = options.settings()

    def fetched(manifest: Manifest) -> Weights:
        return fetch(
            manifest,
            Store(settings.cache),
            reporter=reporter_for(),
            offline=settings.offline,
            hub=settings.hub,
            fresh=True,
        )

    manifest, adapters = _chosen(model, options, settings)
    weights = fetched(manifest)
    for adapter in adapters:
        fetched(adapter.manifest())
    if json:
        import msgspec

        found = {"name": manifest.name, "variant": manifest.variant, "weights": weights}
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(weights.path)


def _chosen(model: str, options: PlanOptions, settings: Settings) -> tuple[Manifest, tuple[Adapter, ...]]:
    """What ``start`` would run here, and its LoRA adapters. A variant asked for by name alone is taken as it
    is: it may be for another machine."""
    from openllm.cli.resolve import find_manifests, resolve

    overrides = options.overrides()
    if overrides.variant is not None and overrides == type(overrides)(variant=overrides.variant):
        from openllm.plan import of_variant

        return of_variant(find_manifests(model, settings, fresh=True), overrides.variant)[0], ()
    plan = resolve(model, overrides, settings, fresh=True)
    return plan.manifest, plan.adapters
