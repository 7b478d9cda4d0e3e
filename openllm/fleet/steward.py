"""Shares this machine's memory between the models of one server: carries out what ``turns`` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openllm.fleet.keeper import Keeper
from openllm.fleet.state import State
from openllm.fleet.turns import Moves, Stage, Tenant, decide

_MEASURE_SECONDS = 5.0
Measure = Callable[[int], int | None]
"""The bytes that the process of this id holds, None if it is gone. May block for milliseconds."""


class Place:
    """One model's claim to memory, for all of its replicas: its keeper asks here before each start. ``size`` is the
    plan's prediction, until all runners have been measured."""

    def __init__(self, name: str, size: int, steward: Steward, *, pinned: bool, measured: bool) -> None:
        self.name = name
        self.size = size
        self.pinned = pinned
        self.measured = measured
        self.keeper: Keeper | None = None
        self.closed = False
        self.held = False
        self.left_at = float("-inf")
        self.evictions = 0
        self.weighed: tuple[int, ...] = ()  # the runners that were measured last
        self._steward = steward
        self._granted: asyncio.Future[bool] | None = None

    async def enter(self) -> bool:
        """Wait for room for a runner. False if it is no longer wanted."""
        self._granted = asyncio.get_running_loop().create_future()
        self._steward.look()
        try:
            return await self._granted
        finally:
            self._granted = None

    def grant(self) -> None:
        """There is room."""
        if self._granted is not None and not self._granted.done():
            self.held = True
            self._granted.set_result(True)

    def changed(self) -> None:
        """Something is to be decided anew: a request came, the last one ended, the runner is ready."""
        keeper = self.keeper
        assert keeper is not None
        granted = self._granted
        if granted is not None and not granted.done() and keeper.wants.since is None:
            granted.set_result(False)
        if keeper.ready and keeper.pids != self.weighed:
            self._steward.weigh(self)
        self._steward.look()

    def leave(self) -> None:
        """The runner is gone."""
        self.held = False
        self.closed = False
        self.left_at = self._steward.now()
        self._steward.look()

    def tenant(self, now: float) -> Tenant:
        """As ``turns`` sees it."""
        keeper = self.keeper
        assert keeper is not None
        desk, since = keeper.desk, keeper.wants.since
        return Tenant(
            name=self.name,
            size=self.size,
            stage=self._stage(keeper),
            open=desk.at_runner + keeper.adapters.changing,
            open_live=desk.live_at_runner,
            # With a runner it was not waiting for one.
            wanted_since=None if since is None else max(since, self.left_at),
            wanted_live=keeper.wants.live,
            used_at=now if len(desk) else keeper.idle_since,
            loaded_at=keeper.course.since,
            loading=keeper.loading_seconds,
            pinned=self.pinned,
            closed=self.closed,
        )

    def _stage(self, keeper: Keeper) -> Stage:
        if not self.held:
            return "asleep"
        if keeper.state is State.READY:
            return "loaded"
        return "leaving" if keeper.state is State.UNLOADING else "loading"


class Steward:
    """``budget`` bytes for all runners together; a request waits ``patience`` seconds for models that are busy."""

    def __init__(self, budget: int, patience: float, *, clock: Callable[[], float], measure: Measure) -> None:
        self.budget = budget
        self.now = clock
        self.places: list[Place] = []
        self._patience = patience
        self._measure = measure
        self._weighing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    def place(self, name: str, size: int, *, pinned: bool, measured: bool) -> Place:
        """For one more model, predicted to take ``size``; ``measured`` if its process shows what it really takes."""
        made = Place(name, size, self, pinned=pinned, measured=measured)
        self.places.append(made)
        return made

    def held(self) -> int:
        """Bytes that runners take now."""
        return sum(place.size for place in self.places if place.held)

    def look(self) -> None:
        """Decide soon: several things that happen together are looked at once."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_soon(self._decide)

    async def watch(self) -> None:
        """Measure the runners again and again, for ever: caches grow."""
        while True:
            await asyncio.sleep(_MEASURE_SECONDS)
            for place in self.places:
                await self._weigh(place)
            self.look()

    def weigh(self, place: Place) -> None:
        """Measure the runners of a model, of which one has just become ready, beside."""
        assert place.keeper is not None
        place.weighed = place.keeper.pids
        task = asyncio.create_task(self._weigh(place))
        self._weighing.add(task)
        task.add_done_callback(self._weighing.discard)
        task.add_done_callback(lambda _: self.look())

    async def _weigh(self, place: Place) -> None:
        keeper = place.keeper
        # While some of its replicas load or are to be started again, what was predicted for all is kept for them.
        if not place.measured or keeper is None or not all(each.ready for each in keeper.replicas):
            return
        sizes = [await asyncio.to_thread(self._measure, pid) for pid in keeper.pids]
        known = [size for size in sizes if size is not None]
        if len(known) == len(keeper.replicas):
            place.size = sum(known)

    def _decide(self) -> None:
        self._looking = None
        now = self.now()
        tenants = [place.tenant(now) for place in self.places]
        self._act(decide(tenants, now=now, budget=self.budget, patience=self._patience), now)

    def _act(self, moves: Moves, now: float) -> None:
        for place in self.places:
            keeper = place.keeper
            assert keeper is not None
            # Before it is open again: what waits at a desk that is opened goes to the runner at once, and keeps it.
            if place.name in moves.stop and keeper.make_room():
                place.evictions += 1
            closed = place.name in moves.close
            if closed != place.closed:
                place.closed = closed
                keeper.desk.pause(closed)
            if place.name in moves.start:
                place.grant()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if moves.again is not None:
            self._later = asyncio.get_running_loop().call_later(max(0.0, moves.again - now), self.look)
