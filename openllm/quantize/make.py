"""From a model's name to a quantized checkpoint: fetch, check, prepare, run the tool, verify, measure, put in place."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from openllm import __version__
from openllm.chat.tokenizer import load_tokenizer
from openllm.engines.openvino_quantize import write_ir
from openllm.engines.safetensors_convert import converted
from openllm.errors import CorruptFile, WeightsError
from openllm.quantize import checks
from openllm.quantize.calibration import LENGTH, Calibration, check_file, read_calibration, template_of
from openllm.quantize.order import Order, Place
from openllm.quantize.quality import measured
from openllm.quantize.record import Origin, Quality, Record, Shown, write_record
from openllm.quantize.source import (
    Source,
    candidates,
    copy_config,
    first_to_be_had,
    inner_widths,
    link_folder,
    write_tokenizer,
)
from openllm.quantize.tool import Listener, run_script
from openllm.quantize.toolbox import Toolbox
from openllm.weights.disk import STORE_HINT, disk_errors
from openllm.weights.fetch import fetch
from openllm.weights.inspect import local_manifests
from openllm.weights.local import check_folder
from openllm.weights.made import made_folder
from openllm.weights.manifest import Manifest, Weights
from openllm.weights.progress import Reporter
from openllm.weights.store import Store, sync_folder


class Teller(Listener, Protocol):
    """Is told how all of it goes on."""

    def note(self, text: str) -> None:
        """A line of news."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint: its folder and its record."""

    folder: Path
    record: Record


def quantize(order: Order, published: list[Manifest], place: Place, reporter: Reporter, tell: Teller) -> Made:
    """Make the checkpoint that ``order`` asks for of the model that ``published`` are the variants of.

    Blocks for minutes to hours. It appears whole or not at all; what a tool can take up again after an interruption
    is kept in the cache. Raises ``UsageError``, ``UnsupportedOption``, ``DoesNotFit`` and every ``WeightsError``.
    """
    checks.check_options(order)
    checks.group_size(order.mode, order.group_size, (), published[0].shape.parameters)
    if order.calibration is not None:
        check_file(order.calibration)
    able = candidates(published, order.variant)
    target = order.output or made_folder(place.cache, published[0], order.mode.name)
    checks.check_output(target, asked=order.output is not None, force=order.force)
    checks.check_memory(order.mode, able[0], place.machine, order.most_samples, LENGTH)
    checks.check_disk(order.mode, able[0], target.parent)
    store = Store(place.cache)

    def fetched(manifest: Manifest) -> Weights:
        return fetch(manifest, store, reporter=reporter, offline=place.offline, hub=place.hub)

    source = first_to_be_had(able, fetched, tell.note)
    with disk_errors(target.parent, hint=STORE_HINT):
        return _Making(order, source, place, tell).run(target)


class _Making:
    """One run: what it has found out, and the folder it works in."""

    def __init__(self, order: Order, source: Source, place: Place, tell: Teller) -> None:
        self._order = order
        self._source = source
        self._place = place
        self._tell = tell
        manifest = source.manifest
        self._tokenizer = load_tokenizer(Path(source.weights.tokenizer), place.cache, manifest.chat.stop)
        parameters = manifest.shape.parameters
        self._group = checks.group_size(order.mode, order.group_size, inner_widths(source), parameters)
        self._calibration = self._shown()

    def run(self, target: Path) -> Made:
        with self._lock(target):
            # Once more: another process may have made it meanwhile.
            checks.check_output(target, asked=self._order.output is not None, force=self._order.force)
            return self._made(target)

    def _made(self, target: Path) -> Made:
        with self._work() as work, _new_folder(target) as folder:
            began = time.monotonic()
            facts = self._write(work, folder)
            seconds = time.monotonic() - began
            write_tokenizer(self._source, self._tokenizer, folder)
            self._verify(folder)
            record = self._record(folder, facts, seconds)
            if self._order.measure:
                self._tell.stage("measuring perplexity and speed, before and after")
                record = msgspec.structs.replace(record, quality=self._quality(folder))
            write_record(folder, record)
        return Made(folder=target, record=record)

    def _shown(self) -> Calibration | None:
        order = self._order
        if not order.mode.calibrates:
            return None
        manifest = self._source.manifest
        template = template_of(self._tokenizer, manifest.chat.template) if manifest.task == "chat" else None
        return read_calibration(
            order.calibration, self._tokenizer, template, order.most_samples, order.chosen_seed
        )

    def _lock(self, target: Path) -> contextlib.AbstractContextManager[None]:
        name = f"quantize-{hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:16]}"
        store = Store(self._place.cache)
        return store.lock(
            name, lambda: self._tell.note("another process makes this checkpoint: waiting for it")
        )

    @contextlib.contextmanager
    def _work(self) -> Iterator[Path]:
        """The folder of this work: an interrupted run finds it again, one with other options has another."""
        order, shown = self._order, self._calibration
        what = (
            order.mode.name,
            self._group,
            order.chosen_seed,
            self._source.sha256,
            shown and (shown.sha256, shown.samples),
        )
        work = (
            self._place.cache
            / "tmp"
            / f"quantize-{hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]}"
        )
        (work / "state").mkdir(parents=True, exist_ok=True)
        try:
            yield work
        except WeightsError:
            # Ended by a signal it would have left a sound state. So it may not have: begin again next time.
            shutil.rmtree(work / "state", ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)

    def _write(self, work: Path, folder: Path) -> dict[str, str]:
        if self._order.mode.tool == "openvino":
            return self._write_ir(folder)
        place, mode = self._place, self._order.mode
        tools = Toolbox(place.cache, place.environ, gpu=bool(place.machine.gpus))
        python = tools.ensure(self._tell.note, offline=place.offline)
        job = {
            "source": str(self._float_source(python, work)),
            "output": str(folder),
            "mode": mode.name,
            "bits": mode.bits,
            "group_size": self._group,
            "samples": self._calibration.samples if self._calibration else [],
            "seed": self._order.chosen_seed,
            "threads": self._order.threads or place.machine.cores,
            "state": str(work / "state"),
        }
        return run_script(python, f"{mode.tool}_job", job, self._tell, log=work / "tool.log")

    def _write_ir(self, folder: Path) -> dict[str, str]:
        self._tell.stage("rounding and writing the OpenVINO IR")
        source = Path(self._source.weights.path)
        write_ir(source, folder, self._order.mode.name, self._group or 0)
        copy_config(self._source, folder)
        return {"tool": f"openllm {__version__}", "device": "cpu"}

    def _float_source(self, python: Path, work: Path) -> Path:
        """The folder that the tool reads."""
        path = Path(self._source.weights.path)

        def write(file: Path, folder: Path) -> None:
            job = {"source": str(file), "output": str(folder)}
            run_script(python, "dequantize_job", job, self._tell, log=work / "dequantize.log")

        floats = path
        if self._source.is_gguf:
            floats = converted(path, self._place.cache, self._tell.stage, write)
        folder = work / "source"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        link_folder(floats, self._source, self._tokenizer, folder)
        return folder

    def _verify(self, folder: Path) -> None:
        """Whatever the tool said: is what lies there whole, and what was asked for?"""
        mode = self._order.mode
        made = local_manifests(folder)[0]
        check_folder(folder, made.format)
        if made.quantization != mode.name:
            raise CorruptFile(
                f"The tool wrote {made.quantization} weights, not {mode.name}.",
                hint="Choose another mode; this model may not be one that the tool can quantize.",
                param="mode",
            )

    def _record(self, folder: Path, facts: dict[str, str], seconds: float) -> Record:
        source, shown, mode = self._source, self._calibration, self._order.mode
        return Record(
            model=source.manifest.name,
            mode=mode.name,
            bits=mode.bits,
            group_size=self._group,
            bytes=local_manifests(folder)[0].bytes,
            source=Origin(
                variant=source.manifest.variant,
                quantization=source.manifest.quantization,
                origin=source.origin,
                sha256=source.sha256,
            ),
            tool=facts.get("tool", ""),
            torch=facts.get("torch", ""),
            device=facts.get("device", ""),
            openllm=__version__,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            calibration=None if shown is None else _told(shown, self._order.chosen_seed),
        )

    def _quality(self, folder: Path) -> Quality:
        return measured(folder, self._source, self._order.mode, self._tokenizer, self._place)


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside ``target``, which takes its place if the body succeeds and vanishes if it does not."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by one that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _told(shown: Calibration, seed: int) -> Shown:
    return Shown(
        origin=shown.origin,
        sha256=shown.sha256,
        samples=len(shown.samples),
        tokens=shown.tokens,
        templated=shown.templated,
        seed=seed,
    )
