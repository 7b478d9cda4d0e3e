"""When a runner hangs: pure decisions."""

from __future__ import annotations

import subprocess
import sys

from openllm.fleet.signs import Signs, signs
from openllm.fleet.watch import Patience, Watch

STILL = Signs(5.0, 100)


class Looker:
    """Looks each second at a runner that uses ``cpu`` and reads ``bytes`` a second."""

    def __init__(self, patience: Patience, cpu: float = 0.0, bytes: int = 0) -> None:
        self._watch = Watch(patience)
        self._cpu = cpu
        self._bytes = bytes

    def until(self, end: int, *, loading: bool = False, heard_at: float | None = 0.0) -> int | None:
        """The second of the verdict, None if there was none till ``end``."""
        for now in range(end):
            found = Signs(self._cpu * now, self._bytes * now)
            if self._watch.look(now, heard_at, loading=loading, signs=lambda found=found: found):  # type: ignore[misc]
                return now
        return None


def test_one_that_does_nothing_is_ended_at_the_limit() -> None:
    assert Looker(Patience(stall=60)).until(1000) == 60
    assert Looker(Patience(load=600)).until(1000, loading=True) == 600
    assert Looker(Patience(stall=60), cpu=0.005, bytes=10).until(1000) == 60


def test_a_long_step_is_not_a_hang_until_ten_times_the_limit() -> None:
    assert Looker(Patience(stall=60), cpu=0.9).until(599) is None
    assert Looker(Patience(stall=60), cpu=0.9).until(1000) == 600


def test_one_that_computes_or_reads_may_load_as_long_as_it_does() -> None:
    assert Looker(Patience(load=60), cpu=0.05).until(10_000, loading=True) is None
    assert Looker(Patience(load=60), bytes=100_000).until(10_000, loading=True) is None


def test_one_without_work_and_limits_of_0_are_left_alone() -> None:
    assert Looker(Patience()).until(10_000, heard_at=None) is None
    assert Looker(Patience(stall=0)).until(10_000) is None
    assert Looker(Patience(load=0)).until(10_000, loading=True) is None
    assert Patience(stall=0, load=0).between_looks is None


def test_what_was_heard_between_two_looks_begins_anew() -> None:
    watch = Watch(Patience(stall=60))
    for now, heard_at in ((30, 0), (61, 31), (91, 31)):
        verdict = watch.look(now, heard_at, loading=False, signs=lambda: STILL)
        assert verdict is None or now == 91
    assert verdict is not None


def test_a_front_that_was_stopped_itself_looks_twice() -> None:
    watch = Watch(Patience(stall=60))
    assert watch.look(10_000, 0, loading=False, signs=lambda: STILL) is None
    assert watch.look(10_001, 0, loading=False, signs=lambda: STILL) is None
    assert watch.look(10_030, 0, loading=False, signs=lambda: STILL) is not None


def test_the_signs_of_a_process_that_computes_and_of_one_that_is_gone() -> None:
    code = "import sys\nfor i in range(3_000_000): pass\nprint('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert signs(child.pid).cpu > 0
    assert signs(child.pid) == Signs()
