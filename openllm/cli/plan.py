"""``openllm plan``: what a start would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.options import Json, ModelName, PlanOptions, takes_plan_options
from openllm.cli.table import print_table

if TYPE_CHECKING:
    from openllm.machine import Machine
    from openllm.plan import Plan


@takes_plan_options
def plan(
    model: ModelName,
    json: Json = False,
    machine: Annotated[
        str | None,
        typer.Option(help="Plan for another machine: a JSON file, or a name such as h100x2."),
    ] = None,
    *,
    options: PlanOptions,
) -> None:
    """Show how a model would run here, or on another machine, and why."""
    from openllm.cli.resolve import resolve, this_machine

    settings = options.settings()
    other = _other_machine(machine)
    made = resolve(model, options.overrides(), settings, machine=other)
    if json:
        print_json(made, other or this_machine(settings))
    else:
        print_plan(made)


def print_plan(plan: Plan) -> None:
    """The plan as a table on stdout: field, value, because."""
    rows = [("model", plan.name, f"{plan.manifest.license or 'unknown licence'}, {plan.manifest.task}")]
    rows += [(decision.field, decision.value, decision.because) for decision in plan.decisions]
    print_table(("field", "value", "because"), rows)


def print_json(plan: Plan, machine: Machine) -> None:
    """The plan and the machine it is for, as one JSON object on stdout."""
    import msgspec

    text = msgspec.json.encode({"plan": plan, "machine": machine})
    print(msgspec.json.format(text, indent=2).decode())


def _other_machine(text: str | None) -> Machine | None:
    if text is None or text == "this":
        return None
    from openllm.machine import find

    return find(text)
