"""Which models are in memory, and whose turn comes: pure. Times are seconds of one clock, sizes bytes.

Requests for models that are loaded go first, however many come: that is what keeps models from being swapped for every
request. A model that is not loaded, and for which a request waits, takes free memory, else the place of models that
have nothing to do, the one used longest ago first. Where all are busy it waits, but only for so long (``patience``):
then one takes no new sequences, ends those it has, and makes room. None is asked to before it has served for as long as
its start took. One that has had nothing to do for a moment only counts as busy: a client that asks again as soon as it
has its answer keeps it. Nothing that is being answered is harmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

# Or as long as the start took, if that is less.
_LINGER_SECONDS = 0.3
Stage = Literal["asleep", "loading", "loaded", "leaving"]


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """One model. ``size`` is what its runner takes, or will; ``open`` counts the sequences that the runner has, and
    ``open_live`` those that are no background work.

    ``wanted_since`` is when the oldest request that needs a runner began to wait for one, None if none does;
    ``wanted_live`` is false if that is background work. ``used_at`` is when it was last of use, ``loaded_at`` when it
    was ready, ``loading`` how long that took. A pinned one is never unloaded. A ``closed`` one takes no new sequences.
    """

    name: str
    size: int
    stage: Stage = "asleep"
    open: int = 0
    open_live: int = 0
    wanted_since: float | None = None
    wanted_live: bool = True
    used_at: float = 0.0
    loaded_at: float = 0.0
    loading: float = 0.0
    pinned: bool = False
    closed: bool = False


class Moves(msgspec.Struct, frozen=True):
    """Names: to be started and stopped now, and those that take no new sequences (all others do). ``again`` is when to
    decide anew if nothing happens before."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    again: float | None = None


def decide(tenants: Sequence[Tenant], *, now: float, budget: int, patience: float) -> Moves:
    """What is to be done now, given all models of a server that shares ``budget`` bytes between them."""
    turn = _Turn(tenants, now, budget, patience)
    turn.relieve()
    wanted = [each for each in tenants if each.stage == "asleep" and each.wanted_since is not None]
    for tenant in sorted(wanted, key=_order):
        turn.serve(tenant)
    return turn.moves()


def fewest(candidates: Iterable[Tenant], shortage: int) -> list[Tenant] | None:
    """The first of ``candidates`` that free ``shortage`` bytes together, without those that are not needed for it;
    None if all together do not."""
    chosen: list[Tenant] = []
    freed = 0
    for tenant in candidates:
        if freed >= shortage:
            break
        chosen.append(tenant)
        freed += tenant.size
    if freed < shortage:
        return None
    for tenant in tuple(chosen):
        if freed - tenant.size >= shortage:
            chosen.remove(tenant)
            freed -= tenant.size
    return chosen


def _order(tenant: Tenant) -> tuple[bool, float, str]:
    """Live requests before background work, then the one that has waited longest."""
    assert tenant.wanted_since is not None
    return not tenant.wanted_live, tenant.wanted_since, tenant.name


class _Turn:
    """One decision. ``_free`` is free now, ``_room`` with what is leaving and will have to; both less what was given
    to those who came before."""

    def __init__(self, tenants: Sequence[Tenant], now: float, budget: int, patience: float) -> None:
        self._now = now
        self._patience = patience
        self._most = budget - sum(each.size for each in tenants if each.pinned)
        held = [each for each in tenants if each.stage != "asleep"]
        self._many = len(held) > 1
        self._free = budget - sum(each.size for each in held)
        self._room = self._free + sum(each.size for each in held if each.stage == "leaving")
        staying = (each for each in held if each.stage == "loaded" and not each.pinned)
        # Whoever was closed goes on being it: else two that have a moment's pause by turns would both stay.
        self._staying = sorted(staying, key=lambda each: (not each.closed, each.used_at, each.name))
        self._start: list[str] = []
        self._stop: list[str] = []
        self._close: list[str] = []
        self._again: float | None = None

    def relieve(self) -> None:
        """Some have grown beyond what there is: unload what has nothing to do."""
        if self._room < 0 and self._many:
            idle = [each for each in self._staying if not each.open and each.wanted_since is None]
            self._evict(fewest(idle, -self._room) or idle)

    def serve(self, tenant: Tenant) -> None:
        """Give a model its place, or make one for it, or let it wait."""
        # One that has grown beyond the budget may still have it all to itself.
        size = min(tenant.size, self._most) if not tenant.pinned else tenant.size
        if size <= self._free:
            self._start.append(tenant.name)
        elif size > self._room:
            victims = self._victims(tenant, size - self._room)
            if victims is None:
                return
            self._evict(victims)
        self._free -= size
        self._room -= size

    def moves(self) -> Moves:
        return Moves(tuple(self._start), tuple(self._stop), tuple(self._close), self._again)

    def _victims(self, tenant: Tenant, shortage: int) -> list[Tenant] | None:
        idle = [each for each in self._staying if self._rests(each)]
        found = fewest(idle, shortage)
        if found is not None:
            return found
        due = [each for each in self._staying if each not in idle and self._due(tenant, each)]
        return fewest([*idle, *due], shortage)

    def _rests(self, tenant: Tenant) -> bool:
        """Has it nothing to do, and not just for a moment? Notes when it will, if that is later."""
        if tenant.open:
            return False
        when = tenant.used_at + min(_LINGER_SECONDS, tenant.loading)
        return tenant.closed or self._by(when)

    def _due(self, tenant: Tenant, busy: Tenant) -> bool:
        """Must a busy model make room for one that waits?"""
        assert tenant.wanted_since is not None
        if not tenant.wanted_live:
            return False
        if busy.open and not busy.open_live:
            return True
        return self._by(max(tenant.wanted_since + self._patience, busy.loaded_at + busy.loading))

    def _by(self, when: float) -> bool:
        """Is it time? Notes when it will be."""
        if when <= self._now:
            return True
        self._again = when if self._again is None else min(self._again, when)
        return False

    def _evict(self, victims: Iterable[Tenant]) -> None:
        for tenant in victims:
            self._staying.remove(tenant)
            self._room += tenant.size
            (self._close if tenant.open else self._stop).append(tenant.name)
