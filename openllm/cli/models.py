"""``openllm models``: the recipes, and which weights are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from openllm.cli.options import Json
from openllm.cli.table import print_table
from openllm.errors import UsageError

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.plan import Option
    from openllm.recipes.registry import Found, Registry
    from openllm.weights.manifest import Manifest


class Entry(NamedTuple):
    """A model of a recipe, the names of its variants whose weights are here, and what was made of it here."""

    found: Found
    pulled: frozenset[str]
    made: tuple[Manifest, ...]


def models(
    name: Annotated[
        str | None, typer.Argument(help="Show only models with this in their names.", show_default=False)
    ] = None,
    json: Json = False,
    machine: Annotated[
        str | None,
        typer.Option(help="With NAME: what another machine runs of it, as in `openllm plan --machine`."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of recipe files, for editors.")
    ] = False,
) -> None:
    """List the models that have a recipe; of a single one, what this machine can run."""
    if schema:
        from openllm.recipes.json_schema import json_schema

        print(json_schema(), end="")
        return
    from openllm.cli.settings import read_settings
    from openllm.recipes.registry import Registry

    settings = read_settings(offline=True)
    registry = Registry.open(settings.recipes)
    entries = [_entry(found, registry, settings) for found in _matching(registry, name)]
    if machine is not None and len(entries) > 1:
        raise UsageError(
            "--machine wants the name of one model.", hint="Add it: openllm models NAME --machine MACHINE"
        )
    if json:
        _print_json(entries, _options(entries[0].found, machine, settings) if len(entries) == 1 else [])
    elif len(entries) == 1:
        _print_variants(entries[0])
        _print_options(_options(entries[0].found, machine, settings), machine)
    else:
        _print_models(entries)
    _say_problems(registry)


def _matching(registry: Registry, name: str | None) -> list[Found]:
    """Models with ``name`` in one of their names, else the one that it means. Raises ``UnknownModel``."""
    if name is None:
        return list(registry.models())
    from openllm.recipes.names import normal

    wanted = normal(name)
    named = [found for found in registry.models() if any(wanted in each for each in names_of(found))]
    return named or [registry.find(name)]


def names_of(found: Found) -> list[str]:
    """What a model is called, in normal form."""
    from openllm.recipes.names import normal

    names = [found.name, found.family.title, *found.model.aliases]
    if normal(found.model.name) == normal(found.family.default):
        names += found.family.aliases
    return [normal(each) for each in names]


def pulled(found: Found, registry: Registry, settings: Settings) -> frozenset[str]:
    """The variants of a model whose weights are here."""
    return _entry(found, registry, settings).pulled


def _entry(found: Found, registry: Registry, settings: Settings) -> Entry:
    from openllm.weights.inspect import manifests
    from openllm.weights.made import made_manifests
    from openllm.weights.store import Store

    store = Store(settings.cache)
    known = manifests(found.name, registry, hub=settings.hub, offline=True)
    here = frozenset(manifest.variant for manifest in known if store.ready(manifest) is not None)
    return Entry(found, here, tuple(made_manifests(settings.cache, known)))


def _print_models(entries: list[Entry]) -> None:
    rows = [
        (
            found.name,
            _count(found.model.shape.parameters),
            str(found.model.context),
            ", ".join([*(f"{variant.name}*" if variant.name in pulled else variant.name
                         for variant in found.model.variants), *(f"{each.variant}*" for each in made)]),
            found.license + (", gated" if found.gated else ""),
        )
        for found, pulled, made in entries
    ]  # fmt: skip
    print_table(("model", "size", "context", "variants (* here)", "licence"), rows)


def _print_variants(entry: Entry) -> None:
    found, pulled, made = entry
    print(f"{found.name}: {found.family.title}, {_count(found.model.shape.parameters)} parameters, "
          f"{found.model.context} tokens of context, {found.license}{', gated' if found.gated else ''}")  # fmt: skip
    from openllm.weights.sizes import size_text

    rows = [
        (
            variant.name,
            f"{variant.format} {variant.quantization}",
            size_text(variant.bytes) if variant.bytes else "",
            ", ".join(variant.engines),
            _source(variant.source.model_dump()),
            "here" if variant.name in pulled else "",
        )
        for variant in found.model.variants
    ]
    rows += [
        (
            each.variant,
            f"{each.format} {each.quantization}",
            size_text(each.bytes),
            ", ".join(each.engines),
            "made by openllm quantize",
            "here",
        )
        for each in made
    ]
    print_table(("variant", "weights", "bytes", "engines", "source", ""), rows)


def _options(found: Found, machine: str | None, settings: Settings) -> list[Option]:
    """What a machine can make of the model, each form of its weights in each mode."""
    from openllm.cli.resolve import other_machine, this_machine
    from openllm.machine import EVERYTHING, engines_installed
    from openllm.plan import options
    from openllm.weights.inspect import recipe_manifests
    from openllm.weights.made import made_manifests

    known = recipe_manifests(found)
    other = other_machine(machine)
    if other is not None:
        return options(known, other, EVERYTHING)
    known = (*known, *made_manifests(settings.cache, known))
    return options(known, this_machine(settings), engines_installed())


def _print_options(found: list[Option], machine: str | None) -> None:
    from openllm.memory import readable

    print(f"\nWhat {'this machine' if machine in (None, 'this') else machine} can run, best first:")
    rows = [
        (
            option.variant,
            option.quantize,
            f"{option.engine} ({option.device})",
            readable(option.weight_bytes) if not option.why_not else "",
            readable(option.needed) if not option.why_not else "",
            str(option.context) if not option.why_not else "",
            option.why_not and f"no: {option.why_not}",
        )
        for option in found
    ]
    print_table(("variant", "--quantize", "engine", "weights", "in all", "context", ""), rows)


def _print_json(entries: list[Entry], found: list[Option]) -> None:
    import json

    import msgspec

    listed = [_as_json(entry) for entry in entries]
    if len(listed) == 1:
        listed[0]["options"] = msgspec.to_builtins(found)
    print(json.dumps(listed, indent=2, ensure_ascii=False))


def _as_json(entry: Entry) -> dict[str, Any]:
    found, pulled, made = entry
    return {
        "name": found.name,
        "title": found.family.title,
        "publisher": found.family.publisher,
        "license": found.license,
        "gated": found.gated,
        "task": found.model.task,
        "context": found.model.context,
        "aliases": list(found.model.aliases),
        "shape": found.model.shape.model_dump(exclude_none=True),
        "variants": [
            {**variant.model_dump(exclude_none=True), "pulled": variant.name in pulled}
            for variant in found.model.variants
        ],
        "made": [
            {
                "name": each.variant,
                "format": each.format,
                "quantization": each.quantization,
                "bytes": each.bytes,
                "engines": list(each.engines),
                "path": getattr(each.source, "path", ""),
            }
            for each in made
        ],
    }


def _say_problems(registry: Registry) -> None:
    """Broken recipes are left out of the list: say so, and end with their error's code."""
    from openllm.cli.say import say_failure

    problems = registry.problems
    for problem in problems:
        say_failure(problem)
    if problems:
        raise typer.Exit(problems[0].exit_code)


def _count(parameters: int) -> str:
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)


def _source(source: dict[str, Any]) -> str:
    if "hub" in source:
        return str(source["hub"])
    return f"PyPI {source['pypi']}" if "pypi" in source else str(source["path"])
