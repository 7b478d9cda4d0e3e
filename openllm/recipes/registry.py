"""All recipes of this machine, and the model that a name means.

A name is looked up folder by folder, the user's own before the shipped ones. Only files that could hold the
name are parsed, so that a look-up costs milliseconds however many recipes there are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import openllm
from openllm.errors import InvalidRecipe, UnknownModel
from openllm.recipes import names
from openllm.recipes.names import Query, normal
from openllm.recipes.recipe_file import RecipeFile
from openllm.recipes.schema import Chat, Family, HubSource, Model, Variant


def shipped_folder() -> Path:
    """The recipes that come with the package: inside a wheel, or ``models/`` of a checkout."""
    package = Path(openllm.__file__).parent
    inside = package / "_models"
    return inside if inside.is_dir() else package.parent / "models"


def user_folder() -> Path:
    """Where a user's own recipes are looked for. It may not exist."""
    import platformdirs  # not needed by those who name their folders

    return platformdirs.user_config_path("openllm") / "models"


@dataclass(frozen=True)
class Found:
    """A model of a recipe; ``variant`` only if the name said which."""

    family: Family
    model: Model
    variant: Variant | None = None

    @property
    def name(self) -> str:
        """The full name, ``family:model``."""
        return f"{self.family.family}:{self.model.name}"

    @property
    def chat(self) -> Chat:
        return self.model.chat or self.family.chat

    @property
    def license(self) -> str:
        return self.model.license or self.family.license

    @property
    def gated(self) -> bool:
        """``gated_for`` the named variant, or the first."""
        return self.gated_for(self.variant or self.model.variants[0])

    def gated_for(self, variant: Variant) -> bool:
        """Must a licence be accepted on the hub before these weights can be fetched?"""
        nearest = (variant.gated, self.model.gated, self.family.gated)
        return next(value for value in nearest if value is not None)


class Registry:
    """Recipe files of several folders. Reads their text once; parses a file when a look-up needs it."""

    def __init__(self, folders: Sequence[Sequence[RecipeFile]]) -> None:
        self._folders = folders

    @staticmethod
    def open(folders: Sequence[Path]) -> Registry:
        """Recipes of ``folders``; earlier folders win.

        A file replaces the file of the same name in every later folder, as a whole, and a name that an
        earlier folder gives is not looked for in a later one. Folders that do not exist are skipped. Blocks
        for reading.
        """
        taken: set[str] = set()
        kept: list[list[RecipeFile]] = []
        for folder in folders:
            files = [RecipeFile.open(path) for path in _recipes_in(folder)]
            kept.append([file for file in files if file.stem not in taken])
            taken.update(file.stem for file in files)
        return Registry(kept)

    def find(self, text: str) -> Found:
        """The model that a name means.

        Names, in any case and with ``_`` or ``-``: a family (its default model), an alias, ``family:model``,
        ``family-model``, ``family:start-of-model`` where one model only starts so, the hub id of a variant;
        each with ``@variant``. Raises UnknownModel with the nearest names, and InvalidRecipe for a broken
        file that could hold the name.
        """
        query = names.parse(text)
        found = self.find_hub(query.name) if "/" in query.name else self._first(query)
        if found is None:
            raise self._unknown(text, query)
        return _with_variant(found, query) if query.variant else found

    def find_hub(self, repo: str) -> Found | None:
        """The model and variant whose weights are the hub repository ``repo``; None if no recipe knows it."""
        wanted = normal(repo)
        for file in chain.from_iterable(self._folders):
            if not file.could_hold(wanted):
                continue
            for model in file.family.models:
                for variant in model.variants:
                    if isinstance(variant.source, HubSource) and normal(variant.source.hub) == wanted:
                        return Found(file.family, model, variant)
        return None

    def models(self) -> tuple[Found, ...]:
        """Every model of every sound file, in the order of their families' names."""
        families = sorted(self._families, key=lambda family: family.family)
        return tuple(Found(family, model) for family in families for model in family.models)

    @property
    def problems(self) -> tuple[InvalidRecipe, ...]:
        """What is wrong with the files that are left out of ``models()``, and names given in two files."""
        broken: list[InvalidRecipe] = []
        for file in chain.from_iterable(self._folders):
            try:
                _ = file.family
            except InvalidRecipe as error:
                broken.append(error)
        return (*broken, *self._twins())

    @property
    def _families(self) -> Iterator[Family]:
        return (file.family for folder in self._folders for file in _sound(folder))

    def _first(self, query: Query) -> Found | None:
        for folder in self._folders:
            files = [file for file in folder if file.could_hold(query.name)]
            given = [(file, model) for file in files if (model := names_of(file.family).get(query.name))]
            if len(given) > 1:
                raise _given_twice(given[0][0], given[1][0], query.name)
            meant = given or [(file, model) for file in files if (model := _derived(file.family, query.name))]
            if meant:
                file, model = meant[0]
                return Found(file.family, model)
        return None

    def _twins(self) -> Iterator[InvalidRecipe]:
        """Names that two files of one folder give."""
        for folder in self._folders:
            first: dict[str, RecipeFile] = {}
            for file in _sound(folder):
                for name in names_of(file.family):
                    if name in first:
                        yield _given_twice(first[name], file, name)
                    first.setdefault(name, file)

    def _unknown(self, text: str, query: Query) -> UnknownModel:
        families = list(self._families)
        tags = [
            model.name for family in families if _is_family(family, query.family) for model in family.models
        ]
        if query.tag and tags:
            meant = [tag for tag in tags if normal(tag).startswith(f"{query.tag}-")]
            choices = _listed([f"{query.family}:{tag}" for tag in meant or tags])
            return UnknownModel(
                f"'{text}' means more than one model" if meant else f"no model '{text}'",
                hint=f"Say which: {choices}.",
            )
        known = sorted({name for family in families for name in (*names_of(family), *_hub_ids(family))})
        near = difflib.get_close_matches(query.name, known, n=3, cutoff=0.6)
        near = near or [name for name in known if query.name and query.name in name][:3]
        hint = f"Did you mean {_listed(near)}? " if near else ""
        return UnknownModel(
            f"no model '{text}'",
            hint=f"{hint}'openllm models' lists all; org/name is one of the hub, ./folder one of your own.",
        )


def _sound(folder: Sequence[RecipeFile]) -> Iterator[RecipeFile]:
    """The files without a fault of their own; ``Registry.problems`` tells of the others."""
    for file in folder:
        try:
            _ = file.family
        except InvalidRecipe:
            continue
        yield file


def names_of(family: Family) -> dict[str, Model]:
    """Every name that the file gives, in normal form, and the model that it means."""
    given: dict[str, Model] = {}
    tags = {normal(model.name): model for model in family.models}
    for name in map(normal, (family.family, *family.aliases)):
        given[name] = tags[normal(family.default)]
        given |= {f"{name}:{tag}": model for tag, model in tags.items()}
    return given | {normal(alias): model for model in family.models for alias in model.aliases}


def _derived(family: Family, name: str) -> Model | None:
    """A model that is meant though the file does not spell the name out.

    ``family-model`` for ``family:model``, and the start of a model's name where one model only starts so.
    """
    joined = {f"{normal(family.family)}-{normal(model.name)}": model for model in family.models}
    if name in joined:
        return joined[name]
    base, _, tag = name.partition(":")
    if not tag or not _is_family(family, base):
        return None
    starts = [model for model in family.models if normal(model.name).startswith(f"{tag}-")]
    return starts[0] if len(starts) == 1 else None


def _is_family(family: Family, name: str) -> bool:
    return name in map(normal, (family.family, *family.aliases))


def _hub_ids(family: Family) -> Iterator[str]:
    for model in family.models:
        for variant in model.variants:
            if isinstance(variant.source, HubSource):
                yield normal(variant.source.hub)


def _with_variant(found: Found, query: Query) -> Found:
    for variant in found.model.variants:
        if normal(variant.name) == query.variant:
            return Found(found.family, found.model, variant)
    known = _listed([f"{found.name}@{variant.name}" for variant in found.model.variants])
    raise UnknownModel(f"{found.name} has no variant '{query.variant}'", hint=f"It has {known}.")


def _given_twice(first: RecipeFile, second: RecipeFile, name: str) -> InvalidRecipe:
    place = _place_of(second.family, name)
    message = f"the name {name} is given by {first.path} too"
    return second.error(message, line=second.line_of(*place), place=place)


def _place_of(family: Family, name: str) -> tuple[str | int, ...]:
    """The key of a file that gives a name."""
    for index, alias in enumerate(family.aliases):
        if normal(alias) == name.partition(":")[0]:
            return ("aliases", index)
    for at, model in enumerate(family.models):
        for index, alias in enumerate(model.aliases):
            if normal(alias) == name:
                return ("models", at, "aliases", index)
    return ("family",)


def _recipes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
