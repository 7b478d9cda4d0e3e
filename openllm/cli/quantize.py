"""``openllm quantize``: make a quantized checkpoint of a model where none is published."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openllm.cli.options import Json, ModelName
from openllm.cli.say import note
from openllm.cli.table import print_table

if TYPE_CHECKING:
    from openllm.cli.settings import Settings
    from openllm.quantize.make import Made
    from openllm.quantize.order import Order, Place
    from openllm.quantize.record import Record, Worth

_EVERY_SECONDS = 5.0


def quantize(
    model: ModelName,
    mode: Annotated[
        str,
        typer.Option(
            help="gptq, awq, w4a16, w8a8 or fp8 (for vLLM), int8 or int4 (for OpenVINO).", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the checkpoint; unless given it is kept where the model's name finds it."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="A .txt or .jsonl file of what the model will be asked for; unless given, texts that "
                     "come along."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Most samples of calibration, of 512 tokens; 64 by default.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale: 32, 64 or 128.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the samples; 0 by default.")] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the recipe to start from.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the tool.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that was made here.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure perplexity and speed, before and after.")
    ] = True,
    offline: Annotated[bool, typer.Option("--offline", help="Open no connection: use what is here.")] = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of fetched and made weights.")] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Quantize a model: afterwards `openllm start MODEL --quantize MODE` serves it."""
    from openllm.cli.resolve import find_published
    from openllm.cli.settings import read_settings
    from openllm.quantize.make import quantize as make
    from openllm.quantize.modes import mode_named
    from openllm.quantize.order import Order
    from openllm.weights.progress import reporter_for

    wanted = mode_named(mode)
    settings = read_settings(cache=cache_dir, offline=offline)
    order = Order(
        mode=wanted,
        output=output and output.expanduser().absolute(),
        calibration=calibration and calibration.expanduser(),
        samples=samples,
        group_size=group_size,
        seed=seed,
        variant=variant,
        threads=threads,
        force=force,
        measure=measure,
    )
    published = find_published(model, settings)
    try:
        made = make(order, published, _place(settings), reporter_for(), _Teller())
    except KeyboardInterrupt:
        note(
            "interrupted: no checkpoint was made. The same command goes on where the tool can, else from the start"
        )
        raise
    _show(made, model, order, json)


def _place(settings: Settings) -> Place:
    import os

    from openllm.cli.resolve import this_machine
    from openllm.cli.settings import installer_environment
    from openllm.machine import engines_installed
    from openllm.quantize.order import Place

    return Place(
        cache=settings.cache,
        hub=settings.hub,
        machine=this_machine(settings),
        engines=engines_installed(),
        environ=installer_environment(os.environ),
        offline=settings.offline,
    )


class _Teller:
    """Lines on stderr; of layers one every few seconds, redrawn in place on a terminal."""

    def __init__(self) -> None:
        self._redraws = sys.stderr.isatty()
        self._began = self._told = time.monotonic()
        self._first = 0

    def note(self, text: str) -> None:
        note(text)

    def stage(self, what: str) -> None:
        note(what)

    def layers(self, done: int, total: int) -> None:
        from openllm.weights.sizes import duration_text

        now = time.monotonic()
        if not done or self._first > done:
            self._began, self._first = now, done
            return
        if now - self._told < _EVERY_SECONDS and done < total:
            return
        self._told = now
        left = (now - self._began) / max(1, done - self._first) * (total - done)
        text = f"layer {done} of {total}, {duration_text(left)} left"
        print(f"\r{text:<60}" if self._redraws else text, end="\n" if done >= total or not self._redraws else "",
              file=sys.stderr, flush=True)  # fmt: skip


def _show(made: Made, model: str, order: Order, json: bool) -> None:
    if json:
        import msgspec

        found = {"folder": str(made.folder), **msgspec.to_builtins(made.record)}
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print_table(("what", "before", "after"), _rows(made.record))
        print(made.folder)
    served = f"{made.folder}" if order.output else f"{model} --quantize {order.mode.name}"
    note(f"serve it: openllm start {served} --backend {order.mode.engine}")


def _rows(record: Record) -> list[tuple[str, str, str]]:
    from openllm.weights.sizes import duration_text, size_text

    groups = f", groups of {record.group_size}" if record.group_size else ""
    rows = [
        ("weights", record.source.quantization, f"{record.mode}, {record.bits} bit{groups}"),
        ("made by", record.source.origin, f"{record.tool}, in {duration_text(record.seconds)}"),
    ]
    shown = record.calibration
    if shown is not None:
        rows.append(("calibration", shown.origin, f"{shown.samples} samples, {shown.tokens} tokens"))
    quality = record.quality
    before, after = (quality.before, quality.after) if quality else (None, None)
    loss = f" ({100 * (after.perplexity / before.perplexity - 1):+.1f} %)" if before and after else ""
    rows += [
        ("bytes", size_text(before.bytes) if before else "", size_text(record.bytes)),
        ("perplexity", _perplexity(before), _perplexity(after) + loss),
        ("tokens/s, alone", _speed(before), _speed(after)),
        ("capital of France", before.answer if before else "", after.answer if after else ""),
    ]
    if quality is not None and quality.unmeasured:
        rows.append(("not measured", "", quality.unmeasured))
    return rows


def _perplexity(worth: Worth | None) -> str:
    return f"{worth.perplexity:.2f} ({worth.dtype})" if worth else ""


def _speed(worth: Worth | None) -> str:
    return f"{worth.tokens_per_second:.0f}" if worth else ""
