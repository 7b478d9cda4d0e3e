"""What a server goes through, and what has to be true afterwards."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from tests.chaos.faults import Fault, Injector, kill
from tests.chaos.footprint import Counted, Footprint, counted, footprint, settled
from tests.chaos.load import Ask, Tally, ask, asks, run
from tests.chaos.verdict import End
from tests.serving import MODEL, Served

Tell = Callable[[str], None]
_MOST_GROWTH = 1.05  # of the front's memory


class Ordeal(NamedTuple):
    """``requests`` in all, by so many ``clients``, of up to ``tokens`` tokens; ``faults`` come ``between`` (least,
    most) seconds apart, and ``sleeps`` times the load pauses until the model is asleep."""

    requests: int
    clients: int
    faults: list[Fault]
    between: tuple[float, float]
    sleeps: int = 0
    tokens: int = 40
    within: float = 60.0
    seed: int = 0


def endure(server: Served, ordeal: Ordeal, tell: Tell = print) -> Tally:
    """Put a ready server through it, and check all of it. Blocks."""
    before = footprint(server)
    tally = Tally()
    done = asyncio.run(_waves(server, ordeal, tally))
    tell(f"{tally}; {len(done)} faults, {ordeal.sleeps} sleeps")
    tally.check()
    restarts = server.metric("openllm_runner_restarts_total")
    assert 0 < restarts <= len(done)
    balance(tally, counted(server), lost=int(restarts) * ordeal.clients)
    leaks_nothing(server, before)
    return tally


async def _waves(server: Served, ordeal: Ordeal, tally: Tally) -> list[str]:
    waves = ordeal.sleeps + 1
    requests = asks(ordeal.seed, ordeal.tokens)
    done: list[str] = []
    for wave in range(waves):
        faults = ordeal.faults[wave::waves]
        injector = Injector(
            server, faults, ordeal.between, lambda: tally.ends[End.ANSWERED], seed=ordeal.seed + wave
        )
        until = ordeal.requests * (wave + 1) // waves
        injecting = asyncio.create_task(injector.run())

        def goes_on(until: int = until, injecting: asyncio.Task[None] = injecting) -> bool:
            return tally.sent < until or not injecting.done()

        await run(server.url, tally, requests, clients=ordeal.clients, go_on=goes_on, within=ordeal.within)
        await injecting
        done += injector.done
        if wave < ordeal.sleeps:
            await asyncio.to_thread(until_asleep, server)
    return done


def until_asleep(server: Served, seconds: float = 60) -> None:
    """Wait until the model has no runner."""
    deadline = time.monotonic() + seconds
    with server.http() as http:
        while http.get("/readyz").json()["state"] != "asleep":
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)


def balance(tally: Tally, server: Counted, *, lost: int) -> None:
    """The server has counted what the clients saw. A request whose client left may have ended in any way, or never
    have come; up to ``lost`` whole answers were lost with a runner and made again."""
    answered, failed, left = (tally.ends[end] for end in (End.ANSWERED, End.FAILED, End.CANCELLED))
    assert server.open == 0, server
    assert answered <= server.answered <= answered + left, (tally, server)
    assert failed <= server.ended.get("error", 0) <= failed + left + lost, (tally, server)
    assert server.ended.get("abort", 0) <= left, (tally, server)
    assert answered + failed <= sum(server.ended.values()) <= tally.sent + lost, (tally, server)


def leaks_nothing(server: Served, before: Footprint) -> None:
    """Neither files nor processes."""
    after = settled(server, before)
    assert after.fds <= before.fds, (before, after)
    assert after.children <= before.children, (before, after)


def soak(server: Served, *, minutes: float, clients: int, tokens: int = 40, tell: Tell = print) -> None:
    """A steady load with a runner killed now and then; the front's memory is compared with what it was after the
    first tenth."""
    ends = time.monotonic() + 60 * minutes
    tally = Tally()
    asyncio.run(_soak(server, tally, clients, tokens, ends - 54 * minutes, tell))
    warm = settled(server, Footprint(0, 0, 1), seconds=3)
    tell(f"warm: {warm}")
    asyncio.run(_soak(server, tally, clients, tokens, ends, tell))
    after = settled(server, warm)
    tell(f"{tally}; {server.metric('openllm_runner_restarts_total'):.0f} restarts; {warm} -> {after}")
    tally.check()
    restarts = server.metric("openllm_runner_restarts_total")
    balance(tally, counted(server), lost=int(restarts) * clients)
    leaks_nothing(server, warm)
    assert after.rss < _MOST_GROWTH * warm.rss, (warm, after)


async def _soak(server: Served, tally: Tally, clients: int, tokens: int, ends: float, tell: Tell) -> None:
    chance = random.Random(int(ends))

    def goes_on() -> bool:
        return time.monotonic() < ends

    async def restart() -> None:
        for number in itertools.count():
            await Injector(server, [kill], (10.0, 30.0), lambda: tally.ends[End.ANSWERED], seed=number).run()
            tell(f"{tally}; {footprint(server)}")

    restarting = asyncio.create_task(restart())
    await run(server.url, tally, asks(chance.randrange(1 << 30), tokens), clients=clients, go_on=goes_on)
    restarting.cancel()


def hold(server: Served, streams: int, *, within: float = 120.0) -> None:
    """So many streams at once, while there is no engine: each is held, told so, and answered."""
    body: dict[str, object] = {"model": MODEL, "prompt": "Hello", "max_tokens": 2, "stream": True}

    async def all_of_them() -> list[str]:
        one = Ask("/v1/completions", body)
        verdicts = await asyncio.gather(*(ask(server.url, one, within=within) for _ in range(streams)))
        return [str(verdict) for verdict in verdicts if verdict.end is not End.ANSWERED]

    bad = asyncio.run(all_of_them())
    assert not bad, (len(bad), bad[:5])


def hold_twice(server: Served, streams: int, tell: Tell = print) -> None:
    """Streams held during the first start and during the next: the second time costs the front nothing more.

    The server has just been started, with an engine that takes seconds to load.
    """
    hold(server, streams)
    before = settled(server, Footprint(0, 0, 1), seconds=3)
    server.runner().kill()
    while httpx.get(f"{server.url}/readyz").status_code == 200:
        time.sleep(0.01)
    hold(server, streams)
    after = settled(server, before)
    tell(f"{streams} streams held twice: {before} -> {after}")
    assert after.fds <= before.fds, (before, after)
    assert after.rss < 1.1 * before.rss, (before, after)
