"""What can be said before the work begins: groups, memory, disk, and where the checkpoint will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openllm.errors import DoesNotFit, UnsupportedOption, UsageError
from openllm.machine import Machine
from openllm.quantize.modes import Mode
from openllm.quantize.order import Order
from openllm.weights.disk import STORE_HINT, require_space
from openllm.weights.made import RECORD
from openllm.weights.manifest import Manifest
from openllm.weights.sizes import size_text

GROUPS = (128, 64, 32)
"""Sizes that the engines have kernels for, the smallest checkpoint first."""
_BEST_FOR_SMALL = 1_000_000_000
_TOOL_BYTES = 1_500_000_000  # the tools' own, measured with a model of next to nothing
_SLACK = 1.25


def check_options(order: Order) -> None:
    """Raise ``UsageError`` for a number out of range, and for an option that would change nothing in this mode."""
    if order.samples is not None and order.samples < 1:
        raise UsageError("--samples must be at least 1.", hint="Use --samples 64.", param="samples")
    mode = order.mode
    idle = [] if mode.calibrates else ["calibration", "samples", "seed"]
    why = f"{mode.name} needs no calibration"
    if mode.tool == "openvino":
        idle.append("threads")
        why = f"{mode.name} needs no calibration, and no tool"
    for field in idle:
        if getattr(order, field) is not None:
            raise UsageError(
                f"{why}: --{field} would change nothing.", hint=f"Leave --{field} out.", param=field
            )


def group_size(mode: Mode, asked: int | None, widths: Sequence[int], parameters: int) -> int | None:
    """Weights that share a scale, None for a mode without groups. ``widths`` is empty before they are known.

    Without a wish the largest of ``GROUPS`` that divides all matrices' widths; of a model of less than a billion
    weights the smallest, because it loses most. Raises ``UnsupportedOption`` for a size that does not go.
    """
    if not mode.grouped:
        if asked is not None:
            raise UnsupportedOption(
                f"{mode.name} has one scale a row, no groups.",
                hint="Leave --group-size out.",
                param="group_size",
            )
        return None
    able = [group for group in GROUPS if all(width % group == 0 for width in widths)]
    if asked is None:
        if able:
            return able[-1] if parameters < _BEST_FOR_SMALL else able[0]
        raise UnsupportedOption(
            f"No group size ({', '.join(map(str, GROUPS))}) divides the model's widths {_listed(widths)}.",
            hint="Use --mode w8a8, which has no groups.",
            param="mode",
        )
    if asked not in able:
        divide = f"divide {_listed(widths)} and " if widths else ""
        which = f"{divide}have kernels: {_listed(able)}" if able else "go: none"
        raise UnsupportedOption(
            f"Groups of {asked} do not go with this model.",
            hint=f"Group sizes that {which}.",
            param="group_size",
        )
    return asked


def check_memory(mode: Mode, manifest: Manifest, machine: Machine, samples: int, length: int) -> None:
    """Raise ``DoesNotFit`` if the work, with so many ``samples`` of ``length`` tokens, would not fit into the memory
    that is free now."""
    parameters, hidden = manifest.shape.parameters, manifest.shape.hidden
    if mode.tool == "openvino":
        need = int(parameters * (mode.bits / 8 + 1) * _SLACK) + 300_000_000
    else:
        each = 4 if manifest.dtype == "float32" or manifest.format == "gguf" else 2
        activations = samples * length * hidden * 4 * 3  # of all samples, between two layers, in and out
        need = int(parameters * each * _SLACK) + activations + _TOOL_BYTES
    if need > machine.free_memory:
        raise DoesNotFit(
            f"Quantizing {manifest.name} to {mode.name} takes about {size_text(need)} of memory;"
            f" {size_text(machine.free_memory)} are free.",
            hint="Free memory, use fewer --samples, or quantize it on a larger machine.",
            param="samples",
        )


def check_disk(mode: Mode, manifest: Manifest, folder: Path) -> None:
    """Raise ``DiskFull`` unless the checkpoint, and what is put down on the way, fits where ``folder`` will be."""
    vocabulary = 2 * manifest.shape.vocabulary * manifest.shape.hidden * 4
    need = int(manifest.shape.parameters * (mode.bits / 8) * 1.2) + vocabulary
    if mode.tool != "openvino":
        need += manifest.shape.parameters * 4  # the layers that are finished
    require_space(folder, need, hint=STORE_HINT)


def check_output(folder: Path, *, asked: bool, force: bool) -> None:
    """Raise ``UsageError`` if something is at ``folder`` that must not be replaced: anything but an empty folder, or,
    with ``force``, a checkpoint that was made here."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if force and (folder / RECORD).is_file():
        return
    if force:
        raise UsageError(
            f"{folder} is no checkpoint of openllm quantize: it is not replaced.",
            hint="Choose another --output, or remove it yourself.",
            param="output",
        )
    if asked:
        raise UsageError(
            f"{folder} exists already.",
            hint="Choose another --output, or --force to replace it.",
            param="output",
        )
    raise UsageError(
        f"This checkpoint exists already: {folder}",
        hint=f"Serve it with --quantize {folder.name}, or make it anew with --force.",
        param="mode",
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
