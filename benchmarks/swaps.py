"""How often models are swapped, and how long requests wait for it: ``python -m benchmarks.swaps``.

Replays traces against the decisions that the server takes (``openllm.fleet.turns``), in simulated time, beside a server
that answers strictly in the order in which requests come. No process is started and nothing is measured: sizes and
times are given. ``loads`` counts every load of a model; waits are from a request's arrival to the start of its answer.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from openllm.fleet.turns import Stage, Tenant, decide

_EPSILON = 1e-9


class Request(NamedTuple):
    """Seconds: when it arrives, and how long its answer takes."""

    at: float
    model: str
    answer: float = 1.0


class Machine(NamedTuple):
    """Room for ``budget`` models of size 1, which take ``load`` and ``unload`` seconds; each answers ``width`` requests
    together."""

    budget: int = 2
    load: float = 5.0
    unload: float = 0.2
    width: int = 8


@dataclass
class Outcome:
    """``waits`` in the order of the requests; ``loads`` are (when it began, the model)."""

    waits: list[float]
    loads: list[tuple[float, str]] = field(default_factory=list)
    end: float = 0.0
    most_held: int = 0
    harmed: int = 0  # requests whose model was unloaded under them

    def quantile(self, part: float) -> float:
        """Of the waits."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass
class _Model:
    name: str
    stage: Stage = "asleep"
    closed: bool = False
    queue: deque[tuple[float, int]] = field(default_factory=deque)  # when it came, and which it is
    open: int = 0
    used_at: float = 0.0
    loaded_at: float = 0.0
    left_at: float = 0.0


def replay(
    requests: Sequence[Request], machine: Machine, *, patience: float, in_order: bool = False
) -> Outcome:
    """What becomes of ``requests``, sorted by arrival. ``in_order``: none is looked at before all that came earlier
    have begun."""
    return _Replay(requests, machine, patience, in_order).run()


class _Replay:
    def __init__(
        self, requests: Sequence[Request], machine: Machine, patience: float, in_order: bool
    ) -> None:
        self._requests = requests
        self._machine = machine
        self._patience = patience
        self._in_order = in_order
        self._models = {name: _Model(name) for name in sorted({each.model for each in requests})}
        self._unseen: deque[int] = deque()  # arrived, and not looked at yet
        self._events: list[tuple[float, int, str, object]] = []
        self._count = itertools.count()
        self._outcome = Outcome([0.0] * len(requests))
        self._now = 0.0

    def run(self) -> Outcome:
        for index, request in enumerate(self._requests):
            self._later(request.at, "arrive", index)
        while self._events:
            self._now = self._events[0][0]
            while self._events and self._events[0][0] <= self._now + _EPSILON:
                _, _, kind, what = heapq.heappop(self._events)
                getattr(self, f"_{kind}")(what)
            self._settle()
        assert not any(model.queue for model in self._models.values()), "a request was never answered"
        self._outcome.end = self._now
        return self._outcome

    def _later(self, when: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (when, next(self._count), kind, what))

    def _arrive(self, index: int) -> None:
        self._unseen.append(index)

    def _loaded(self, name: str) -> None:
        model = self._models[name]
        model.stage, model.loaded_at = "loaded", self._now

    def _left(self, name: str) -> None:
        model = self._models[name]
        model.stage, model.closed, model.left_at = "asleep", False, self._now

    def _done(self, name: str) -> None:
        model = self._models[name]
        model.open -= 1
        model.used_at = self._now

    def _look(self, _: object) -> None:
        """Time has passed: decide anew."""

    def _settle(self) -> None:
        self._take_in()
        self._dispatch()
        moves = decide(
            [self._tenant(model) for model in self._models.values()],
            now=self._now,
            budget=self._machine.budget,
            patience=self._patience,
        )
        for model in self._models.values():
            model.closed = model.name in moves.close
        for name in moves.stop:
            model = self._models[name]
            self._outcome.harmed += model.open
            model.stage = "leaving"
            self._later(self._now + self._machine.unload, "left", name)
        for name in moves.start:
            self._models[name].stage = "loading"
            self._outcome.loads.append((self._now, name))
            self._later(self._now + self._machine.load, "loaded", name)
        self._dispatch()
        held = sum(model.stage != "asleep" for model in self._models.values())
        self._outcome.most_held = max(self._outcome.most_held, held)
        if moves.again is not None:
            self._later(max(moves.again, self._now + 1e-6), "look", None)

    def _take_in(self) -> None:
        while self._unseen:
            index = self._unseen[0]
            model = self._models[self._requests[index].model]
            if self._in_order and any(each.queue for each in self._models.values()):
                return
            self._unseen.popleft()
            model.queue.append((self._requests[index].at, index))
            self._dispatch()

    def _dispatch(self) -> None:
        for model in self._models.values():
            if model.stage != "loaded" or model.closed:
                continue
            while model.queue and model.open < self._machine.width:
                at, index = model.queue.popleft()
                self._outcome.waits[index] = self._now - at
                model.open += 1
                self._later(self._now + self._requests[index].answer, "done", model.name)

    def _tenant(self, model: _Model) -> Tenant:
        return Tenant(
            name=model.name,
            size=1,
            stage=model.stage,
            open=model.open,
            open_live=model.open,
            wanted_since=max(model.queue[0][0], model.left_at) if model.queue else None,
            used_at=self._now if model.open or model.queue else model.used_at,
            loaded_at=model.loaded_at,
            loading=self._machine.load,
            closed=model.closed,
        )


def letters(text: str, gap: float, answer: float = 1.0) -> list[Request]:
    """A request for each letter, ``gap`` seconds apart."""
    return [Request(index * gap, letter, answer) for index, letter in enumerate(text.split())]


def zipf(count: int, models: int, rate: float, seed: int) -> list[Request]:
    """Requests at random times, ``rate`` a second, the n-th model asked for 1/n as often as the first."""
    dice = random.Random(seed)
    names = [f"m{number}" for number in range(models)]
    weights = [1 / (number + 1) for number in range(models)]
    at, made = 0.0, []
    for name in dice.choices(names, weights, k=count):
        at += dice.expovariate(rate)
        made.append(Request(at, name, dice.uniform(0.5, 2.0)))
    return made


def bursts(count: int, models: int, size: int, gap: float, seed: int) -> list[Request]:
    """Every ``gap`` seconds a burst of requests for models at random, within a second."""
    dice = random.Random(seed)
    made = [
        Request(burst * gap + dice.random(), f"m{dice.randrange(models)}", dice.uniform(0.5, 2.0))
        for burst in range(count)
        for _ in range(size)
    ]
    return sorted(made)


_TRACES: tuple[tuple[str, list[Request]], ...] = (
    ("A B A A C A B C, all at once", letters("A B A A C A B C", 0.0)),
    ("A B A A C A B C, 1 s apart", letters("A B A A C A B C", 1.0)),
    ("A B A A C A B C, 20 s apart", letters("A B A A C A B C", 20.0)),
    ("A B C in turn, 0.5 s apart, 198", letters("A B C " * 66, 0.5)),
    ("Zipf, 5 models, 0.5 a second, 500", zipf(500, 5, 0.5, 1)),
    ("Zipf, 5 models, 3 a second, 500", zipf(500, 5, 3.0, 2)),
    ("bursts of 20, 4 models, each minute", bursts(20, 4, 20, 60.0, 3)),
)


def rows(machine: Machine, patience: float) -> Iterable[tuple[str, ...]]:
    """One line a trace: ours beside one that answers in order."""
    for name, trace in _TRACES:
        ours = replay(trace, machine, patience=patience)
        theirs = replay(trace, machine, patience=patience, in_order=True)
        yield (
            name,
            f"{len(ours.loads)} / {len(theirs.loads)}",
            f"{ours.quantile(0.5):.1f} / {theirs.quantile(0.5):.1f}",
            f"{ours.quantile(0.99):.1f} / {theirs.quantile(0.99):.1f}",
            f"{ours.end:.0f} / {theirs.end:.0f}",
        )


def main() -> None:
    machine, patience = Machine(), 10.0
    print(
        f"room for {machine.budget} models, load {machine.load:g} s, unload {machine.unload:g} s, patience"
        f" {patience:g} s; ours / in order\n"
    )
    table = [("trace", "loads", "wait p50, s", "wait p99, s", "end, s"), *rows(machine, patience)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
