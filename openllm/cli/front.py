"""Options of how a server serves, whatever the model: shared by every command that serves."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from openllm.cli.options import takes


class FrontChoices(NamedTuple):
    """What a caller chooses of ``api.options.FrontOptions``. A field's annotation is its option."""

    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that open answers have to end after SIGTERM.")
    ] = 30.0
    stall_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds without a step after which a busy engine is not ready.")
    ] = 60.0
    queue: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Most sequences that wait, 429 beyond; by default 16 for each that can run.",
        ),
    ] = None


takes_front_choices = takes(FrontChoices, "front")
