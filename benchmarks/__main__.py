"""``python -m benchmarks``: measure, then write the table, the values behind it, and the picture."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import Load
from benchmarks.models import CACHE, smollm2_gguf
from benchmarks.picture import draw
from benchmarks.results import SuiteResult, all_errors
from benchmarks.suites import SUITES, Suite, run_suite, runnable
from benchmarks.surroundings import describe, idle_enough
from benchmarks.table import report

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
QUICK_LOADS = (Load(1, 2, 16, first=1000), Load(4, 8, 16, first=4000))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SUITES, "cold"],
        help="repeatable; cold = all suites, starts alone",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="starts of each server in each setting")
    parser.add_argument(
        "--quick", action="store_true", help="one round of small loads; results go to the cache folder"
    )
    parser.add_argument(
        "--gguf", type=Path, help="SmolLM2-135M-Instruct's GGUF file, if it is not to be fetched"
    )
    return parser.parse_args(argv)


def _suite(key: str, gguf: Path, options: argparse.Namespace) -> Suite:
    suite = SUITES[key](gguf)
    if "cold" in (options.only or ()):
        return dataclasses.replace(suite, loads=())
    return dataclasses.replace(suite, loads=QUICK_LOADS) if options.quick else suite


def _measure(options: argparse.Namespace) -> list[SuiteResult]:
    wanted = [key for key in SUITES if not options.only or key in options.only or "cold" in options.only]
    gguf = options.gguf or smollm2_gguf()
    results = []
    for key in wanted:
        if not runnable(key):
            print(f"{key}: left out, vLLM is not installed", file=sys.stderr)
            continue
        results.append(run_suite(_suite(key, gguf, options), 1 if options.quick else options.rounds))
    return results


def _write(folder: Path, suites: list[SuiteResult], rounds: int, warnings: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = describe()
    values = {
        "surroundings": surroundings,
        "rounds": rounds,
        "warnings": warnings,
        "suites": [dataclasses.asdict(suite) for suite in suites],
    }
    (folder / "latest.json").write_text(json.dumps(values, indent=1) + "\n")
    draw(suites, folder / "latest.png")
    page = report(suites, surroundings, rounds, warnings, "latest.png")
    (folder / "latest.md").write_text(page)
    print(page)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """0 if every answer was right, 1 if some were not (the report is written all the same), 130 if
    interrupted."""
    options = _arguments(argv)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _interrupt)
    warnings = [text] if (text := idle_enough()) else []
    if options.quick:
        warnings.append("a quick run shows that everything works; its figures mean nothing")
    try:
        suites = _measure(options)
    except KeyboardInterrupt:
        print("interrupted; servers are stopped, nothing is written", file=sys.stderr)
        return 130
    if not suites:
        return 1
    _write(
        CACHE / "quick" if options.quick else RESULTS,
        suites,
        1 if options.quick else options.rounds,
        warnings,
    )
    return 1 if all_errors(suites) else 0


if __name__ == "__main__":
    sys.exit(main())
