"""``openllm models``: the recipes, and which weights are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from openllm.cli.model_options import options_of, print_forms, print_options
from openllm.cli.options import Json
from openllm.cli.table import print_table
from openllm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        str | None,
        typer.Argument(
            help="Show only models with this in their names; or a hub id, a folder or a .gguf file.",
            show_default=False,
        ),
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
    """List the models that have a recipe; of a single one, or of any other model, what this machine can run."""
    if schema:
        from openllm.recipes.json_schema import json_schema

        print(json_schema(), end="")
        return
    from openllm.cli.settings import read_settings
    from openllm.recipes.reference import RecipeName, parse_reference
    from openllm.recipes.registry import Registry

    if name is not None and not isinstance(parse_reference(name), RecipeName):
        _show_unlisted(name, machine, json, read_settings())
        return
    settings = read_settings(offline=True)
    registry = Registry.open(settings.recipes)
    entries = [_entry(found, registry, settings) for found in _matching(registry, name)]
    if machine is not None and len(entries) > 1:
        raise UsageError(
            "--machine wants the name of one model.", hint="Add it: openllm models NAME --machine MACHINE"
        )
    one = _options(entries[0], machine, settings) if len(entries) == 1 else []
    if json:
        _print_json(entries, one)
    elif len(entries) == 1:
        _print_variants(entries[0])
        print_options(one, machine)
    else:
        _print_models(entries)
    _say_problems(registry)


def _show_unlisted(name: str, machine: str | None, json: bool, settings: Settings) -> None:
    """A model that was not named as recipes are: its forms, as its files tell, and what can be made of them."""
    from openllm.cli.resolve import find_published
    from openllm.weights.made import made_manifests

    published = find_published(name, settings)
    made = made_manifests(settings.cache, published)
    found = options_of(published, made, machine, settings)
    if json:
        import msgspec

        listed = {"name": published[0].name, "forms": published, "made": made, "options": found}
        print(msgspec.json.format(msgspec.json.encode([listed]), indent=2).decode())
        return
    first = published[0]
    print(f"{first.name}: {first.shape.architecture}, {_count(first.shape.parameters)} parameters, "
          f"{first.context} tokens of context, {first.license or 'unknown licence'}")  # fmt: skip
    print_forms(published, made, _here(published, settings))
    print_options(found, machine)


def _options(entry: Entry, machine: str | None, settings: Settings) -> list[Option]:
    from openllm.weights.inspect import recipe_manifests

    return options_of(recipe_manifests(entry.found), entry.made, machine, settings)


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

    known = manifests(found.name, registry, hub=settings.hub, offline=True)
    return Entry(found, _here(known, settings), tuple(made_manifests(settings.cache, known)))


def _here(known: Sequence[Manifest], settings: Settings) -> frozenset[str]:
    """The variants whose weights need no download."""
    from openllm.weights.store import Store

    store = Store(settings.cache)
    return frozenset(manifest.variant for manifest in known if store.ready(manifest) is not None)


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
    from openllm.weights.inspect import recipe_manifests

    found, pulled, made = entry
    print(f"{found.name}: {found.family.title}, {_count(found.model.shape.parameters)} parameters, "
          f"{found.model.context} tokens of context, {found.license}{', gated' if found.gated else ''}")  # fmt: skip
    print_forms(recipe_manifests(found), made, pulled)


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
