"""A log file is kept within bounds while several processes write to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openllm.errors import MachineError
from openllm.servers.log_file import KEPT, LogFile

# Writes lines, a child of it too, and puts the file aside after each block.
_WRITER = """
import subprocess, sys
from pathlib import Path
from openllm.servers.log_file import LogFile
log = LogFile(Path(sys.argv[1]), 1000)
log.take_over()
for block in range(int(sys.argv[2])):
    for line in range(10):
        print(f"{block} {line} " + "x" * 50, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-c", f"print('child {block} ' + 'y' * 600)"], check=True)
    assert log.is_long(), log.size()
    log.put_aside()
    assert not log.is_long()
"""


def write(path: Path, blocks: int) -> None:
    subprocess.run([sys.executable, "-c", _WRITER, str(path), str(blocks)], check=True)


def test_nothing_is_lost_when_it_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    write(path, 2)
    assert path.read_text() == ""
    for number, block in ((1, 1), (2, 0)):
        lines = (path.parent / f"log.{number}").read_text().splitlines()
        assert [line.split()[:2] for line in lines] == [
            *([str(block), str(line)] for line in range(10)),
            ["child", str(block)],
        ]


def test_the_oldest_goes(tmp_path: Path) -> None:
    write(tmp_path / "log", KEPT + 2)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log", *(f"log.{number}" for number in range(1, KEPT + 1))]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


_FULL = """
import resource, sys
from pathlib import Path
from openllm.servers.log_file import LogFile
log = LogFile(Path(sys.argv[1]), 10)
log.take_over()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    log.put_aside()
except OSError:
    sys.exit(7)
"""


def test_where_there_is_no_room_for_a_copy_all_stays(tmp_path: Path) -> None:
    files = {"log": "x" * 300, **{f"log.{number}": str(number) for number in range(1, KEPT + 1)}}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path / "log")], check=False)
    assert done.returncode == 7
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_file_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from openllm.servers.log_file import LogFile;"
        "log = LogFile(Path(sys.argv[1]), 0); log.take_over(); assert not log.reopen();"
        "print('one', file=sys.stderr); os.rename(sys.argv[1], sys.argv[1] + '.moved');"
        "assert log.reopen(); print('two', file=sys.stderr)"
    )
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.read_text() == "two\n"
    assert (tmp_path / "log.moved").read_text() == "one\n"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        os.close(LogFile(tmp_path / "file" / "log", 0).open())
