"""Names of models as people type them: ``family``, ``family:model``, ``family:model@variant``, a hub id."""

from __future__ import annotations

from dataclasses import dataclass


def normal(name: str) -> str:
    """The one spelling of a name: lower case, ``-`` for ``_``. Idempotent."""
    return name.strip().lower().replace("_", "-")


@dataclass(frozen=True)
class Query:
    """A name taken apart. Every part is normal; ``variant`` is empty when none was asked for."""

    name: str
    variant: str

    @property
    def family(self) -> str:
        """What stands before the colon; the whole name if there is none."""
        return self.name.partition(":")[0]

    @property
    def tag(self) -> str:
        """What stands after the colon; empty if there is none."""
        return self.name.partition(":")[2]


def parse(text: str) -> Query:
    """Take ``name[@variant]`` apart."""
    name, _, variant = normal(text).partition("@")
    return Query(name=name.strip(), variant=variant.strip())
