"""Time on RabbitMQ: tasks that have a time to start at, and tasks that outlast its patience."""

from __future__ import annotations

import contextlib
import datetime as dt
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskq.url import Url
from tests.chaos.conftest import OpenArena
from tests.chaos.harness import Arena
from tests.chaos.ledger import FINISH
from tests.chaos.renewing import PREFIX, STEPS
from tests.chaos.test_rabbitmq import FLEET
from tests.rabbitmq_servers import RabbitmqServer
from tests.waiting import until

pytestmark = pytest.mark.chaos

EARLY = 0.05
"""Seconds: what clocks of one machine, and their rounding, may account for."""
GROWTH = 32 * 1024
"""KiB: what a worker knows of thousands of results, and what Python keeps of it, is no leak."""
PATIENCE = 3
"""Seconds: the server's `consumer_timeout`."""
LONG = 3.5 * PATIENCE


# -- Tasks with a time


def test_tasks_with_a_time_come_late_under_load_but_never_early(
    open_arena: OpenArena, full: bool
) -> None:
    count, spread = (4_000, 12.0) if full else (1_000, 4.0)
    with RabbitmqServer() as server:
        arena = open_arena(server.url)
        arena.start_fleet(2, **FLEET)
        begin = time.time() + 3 + count / 2_000  # long enough to send them all
        etas = [begin + spread * number / count for number in range(count)]
        ids = send_with_times(arena, etas)
        sent = time.time()
        memory = [max(worker.memory() for worker in arena.workers)]
        arena.await_results(ids, timeout=120)
        until(lambda: arena.left() == 0, "all are concluded", 60)
        memory.append(max(worker.memory() for worker in arena.workers))

        verdict = arena.verdict(ids)
        late = lateness(arena, dict(zip(ids, etas, strict=True)))
        print(f"\n{verdict}; late by {described(list(late.values()))} s; memory {memory} KiB")
        assert sent < begin
        assert not verdict.breaches(), f"{verdict}\n{arena.logs()}"
        assert min(late.values()) > -EARLY
        assert memory[-1] <= memory[0] + GROWTH


def send_with_times(arena: Arena, etas: list[float]) -> list[str]:
    calls = [
        arena.call("echo", "x").set(eta=dt.datetime.fromtimestamp(eta, dt.UTC)) for eta in etas
    ]
    return [id for at in range(0, len(calls), 1000) for id in arena.send(calls[at : at + 1000])]


def lateness(arena: Arena, etas: dict[str, float]) -> dict[str, float]:
    """Return how long after its time each task was started first, in seconds."""
    ahead = time.time() - time.monotonic()
    first: dict[str, float] = {}
    for start in arena.ledger.starts():
        first.setdefault(start.id, start.at / 1e9 + ahead - etas[start.id])
    return first


def described(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    shown = {"least": min(seconds), "median": cuts[49], "p99": cuts[98], "most": max(seconds)}
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items())


# -- Tasks that outlast the consumer timeout


@pytest.fixture(scope="module")
def impatient() -> Iterator[RabbitmqServer]:
    """A server that lets nobody hold a message for longer than some seconds."""
    with RabbitmqServer(f"consumer_timeout = {PATIENCE * 1000}") as server:
        server.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
        yield server


@pytest.fixture
def arena(impatient: RabbitmqServer, open_arena: OpenArena) -> Arena:
    impatient.restore()
    return open_arena(f"{impatient.url}?consumer_timeout={PATIENCE}")


def test_a_task_longer_than_the_consumer_timeout_runs_once(arena: Arena) -> None:
    worker = arena.start(**FLEET).await_ready()
    ids = arena.send([arena.call("work", LONG, burn) for burn in (False, False, True)])

    arena.await_results(ids, timeout=2 * LONG)
    until(lambda: arena.left() == 0, "all are acknowledged")

    verdict = arena.verdict(ids)
    assert not verdict.breaches(), f"{verdict}\n{worker.log}"
    assert verdict.starts == len(ids), worker.log


def test_control_a_server_whose_patience_is_not_known_ends_the_lease(
    impatient: RabbitmqServer, open_arena: OpenArena
) -> None:
    impatient.restore()
    arena = open_arena(impatient.url)
    worker = arena.start(**FLEET).await_ready()
    [id] = arena.send([arena.call("work", LONG, False)])

    until(lambda: len(arena.ledger.starts(id)) > 1, "it is started again", 3 * LONG)

    assert "the lease was lost while it ran" in worker.log


def test_whoever_dies_while_a_long_lease_is_renewed_leaves_one_double_at_most(
    impatient: RabbitmqServer, tmp_path: Path
) -> None:
    impatient.restore()
    options: dict[str, Any] = {**FLEET, "concurrency": 1}
    with contextlib.ExitStack() as stack:
        arenas = {step: Arena(named(impatient, step), tmp_path / step) for step in STEPS}
        for arena in arenas.values():
            stack.enter_context(contextlib.closing(arena))
        firsts = {s: arena.start(fault=PREFIX + s, **options) for s, arena in arenas.items()}
        ids = {s: arena.send([arena.call("work", LONG, False)]) for s, arena in arenas.items()}

        for step, arena in arenas.items():
            until(lambda step=step: firsts[step].code is not None, "it dies while it renews", LONG)
            assert len(arena.ledger.starts()) == 1
            arena.workers.remove(firsts[step])
            arena.start(**options)

        for step, arena in arenas.items():
            # Where there were two of the message, both are run.
            runs = 2 if step in ("copied", "delivered") else 1
            until(lambda arena=arena, n=runs: finishes(arena) == n, f"runs after {step}", 6 * LONG)
            until(lambda arena=arena: arena.left() == 0, "all are concluded")
            verdict = arena.verdict(ids[step])
            print(f"\ndead at {step!r}: {verdict}")
            assert not verdict.lost, arena.logs()
            assert not verdict.parallel, arena.logs()
            assert verdict.starts == 1 + runs, arena.logs()


def named(server: RabbitmqServer, namespace: str) -> str:
    url = Url.parse(f"{server.url}?consumer_timeout={PATIENCE}")
    return url.replace(namespace=namespace).reveal()


def finishes(arena: Arena) -> int:
    return sum(entry.event == FINISH for entry in arena.ledger.entries())
