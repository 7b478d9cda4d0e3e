"""``openllm plan``: what a start would do, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.options import Json, ModelName, PlanOptions, takes_plan_options
from openllm.cli.table import print_table

if TYPE_CHECKING:
    from openllm.machine import Machine
    from openllm.memory import Term
    from openllm.plan import Plan


@takes_plan_options
def plan(
    model: ModelName,
    json: Json = False,
    machine: Annotated[
        str | None,
        typer.Option(help="Plan for another machine: a JSON file, or a name such as h100x2."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the arithmetic of the memory too.")
    ] = False,
    *,
    options: PlanOptions,
) -> None:
    """Show how a model would run here, or on another machine, and why."""
    from openllm.cli.resolve import other_machine, resolve, this_machine
    from openllm.plan import NoRoom

    settings = options.settings()
    other = other_machine(machine)
    try:
        made = resolve(model, options.overrides(), settings, machine=other)
    except NoRoom as error:
        if explain:
            print_arithmetic(error.terms)
        raise
    if json:
        print_json(made, other or this_machine(settings))
        return
    print_plan(made)
    if explain:
        print()
        print_arithmetic(made.arithmetic)


def print_plan(plan: Plan) -> None:
    """The plan as a table on stdout: field, value, because."""
    rows = [("model", plan.name, f"{plan.manifest.license or 'unknown licence'}, {plan.manifest.task}")]
    rows += [(decision.field, decision.value, decision.because) for decision in plan.decisions]
    print_table(("field", "value", "because"), rows)


def print_arithmetic(terms: Sequence[Term]) -> None:
    """The sums behind a plan, or behind why there is none."""
    from openllm.memory import readable

    print_table(
        ("memory", "sum", "bytes", ""),
        ((term.what, term.sum, f"{term.bytes:,}", readable(abs(term.bytes))) for term in terms),
    )


def print_json(plan: Plan, machine: Machine) -> None:
    """The plan and the machine it is for, as one JSON object on stdout."""
    import msgspec

    text = msgspec.json.encode({"plan": plan, "machine": machine})
    print(msgspec.json.format(text, indent=2).decode())
