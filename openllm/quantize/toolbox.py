"""The environment of the quantization tools: made once, in the cache, apart from ours because their pins conflict."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from openllm.errors import DiskFull, OfflineMiss, SourceUnavailable, WeightsError
from openllm.weights.disk import STORE_HINT, disk_errors, require_space
from openllm.weights.store import Store, write_atomically

PINS = Path(__file__).with_name("tools.txt")
# Unpacked, measured with the CPU build of torch; its CUDA build brings several GB of libraries.
_BYTES, _CUDA_BYTES = 1_400 << 20, 8 << 30
_MARK = "whole"
_LOCK = "tools-quantize"

Report = Callable[[str], None]


class Toolbox:
    """Where the tools are, and how they come to be there."""

    def __init__(self, cache: Path, environ: Mapping[str, str], *, gpu: bool = False) -> None:
        """``environ`` is that of the installer; ``gpu`` says that torch shall be a build for GPUs."""
        self._cache = cache
        self._environ = dict(environ)
        self._gpu = gpu
        state = f"{PINS.read_text()}\0{sys.version_info[:2]}\0{sys.platform}\0{gpu}"
        self.folder = cache / "tools" / f"quantize-{hashlib.sha256(state.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Is it whole? The mark is written last."""
        return (self.folder / _MARK).is_file() and self.python.exists()

    def ensure(self, report: Report, *, offline: bool) -> Path:
        """The interpreter of the environment, which is made now if it is not there. Blocks for a minute or more.

        Raises ``OfflineMiss`` if it is not there and ``offline``, ``DiskFull``, ``SourceUnavailable`` when packages
        cannot be had, and ``WeightsError`` if the cache cannot be written.
        """
        if self.ready:
            return self.python
        if offline:
            raise OfflineMiss(
                "The quantization tools are not installed yet, and --offline forbids fetching them.",
                hint="Run the command once without --offline.",
            )
        store = Store(self._cache)
        with (
            disk_errors(self._cache, hint=STORE_HINT),
            store.lock(_LOCK, lambda: report("another process installs the quantization tools: waiting")),
        ):
            if not self.ready:
                self._make(report)
        return self.python

    def _make(self, report: Report) -> None:
        require_space(self._cache, _CUDA_BYTES if self._gpu else _BYTES, hint=STORE_HINT)
        packages = sum(1 for line in PINS.read_text().splitlines() if line and not line.startswith("#"))
        report(f"installing the quantization tools, once: {packages} packages, in {self.folder}")
        shutil.rmtree(self.folder, ignore_errors=True)  # left by one that was killed
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        uv = _uv()
        create = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        self._run([*create, str(self.folder)], report)
        for arguments in self._installs():
            self._install(uv, arguments, report)
        self._run([str(self.python), "-c", "import torch, transformers, datasets"], report)
        write_atomically(self.folder / _MARK, PINS.read_bytes())

    def _installs(self) -> Iterator[list[list[str]]]:
        """Each a list of ways to do it, best first. torch comes with what its build needs, all else as pinned:
        the tools' own wishes contradict each other."""
        torch = next(line for line in PINS.read_text().splitlines() if line.startswith("torch=="))
        pinned = ["--constraint", str(PINS)]
        builds = [torch] if self._gpu else [f"{torch}+cpu", torch]
        yield [[build, *([] if "+" in build else pinned)] for build in builds]
        yield [["--no-deps", "--requirement", str(PINS)]]

    def _install(self, uv: str | None, ways: list[list[str]], report: Report) -> None:
        pip = [uv, "pip", "install", "--python", str(self.python)] if uv else [str(self.python), "-m", "pip"]
        pip += [] if uv else ["install", "--progress-bar", "off"]
        for way in ways[:-1]:
            if self._tried([*pip, *way]):
                return
        self._run([*pip, *ways[-1]], report)

    def _tried(self, command: list[str]) -> bool:
        done = subprocess.run(command, capture_output=True, env=self._environ, check=False)
        return done.returncode == 0

    def _run(self, command: list[str], report: Report) -> None:
        """Run a step and tell its lines. What is half made is left: it has no mark, and the next one wipes it."""
        said = ""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environ, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() and not line.startswith((" + ", " ~ ", "Collecting", "  ")):
                    said = line.strip()
                    report(said[:200])
            code = process.wait()
        if code == 0:
            return
        if "No space left" in said:
            raise DiskFull(f"The disk of {self.folder} ran full.", hint=STORE_HINT)
        if code < 0:
            raise WeightsError(
                f"Installing the quantization tools was ended by signal {-code}.", hint="Run it again."
            )
        raise SourceUnavailable(
            f"The quantization tools could not be installed: {said[:300] or f'exit code {code}'}",
            hint="Check the way to the package index, then run it again.",
        )


def _uv() -> str | None:
    """uv beside this interpreter or on the path; it installs in seconds what takes pip a minute."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")
