"""Workers killed and terminated in mid-task: nothing lost, nothing in parallel."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from taskq.app.signature import Signature
from tests.chaos.conftest import OpenArena
from tests.chaos.harness import Arena
from tests.chaos.sizes import size_on
from tests.waiting import until

pytestmark = pytest.mark.chaos

LEASE = 3.0
GRACE = 5.0
FLEET: dict[str, Any] = {"concurrency": 4, "visibility_timeout": LEASE, "shutdown_grace": GRACE}


def mixed_calls(arena: Arena, count: int) -> list[Signature[int]]:
    """Return calls of 5 to 40 ms, half of them computing and half sleeping."""
    chance = random.Random(count)
    return [arena.call("work", chance.uniform(0.005, 0.04), n % 2 == 0) for n in range(count)]


def test_no_task_is_lost_or_run_in_parallel_when_workers_are_killed(
    arena: Arena, full: bool
) -> None:
    count, kills = size_on(
        arena.url, full=full, small=(600, 6), part=(1500, 12), whole={"redis": (5000, 40)}
    )
    ids = arena.send(mixed_calls(arena, count))
    arena.start_fleet(2, **FLEET)
    began = time.monotonic()

    hits = strikes = 0
    while hits < kills:
        arena.await_finished(int(count * 0.9 * hits / kills))
        hits += arena.strike()
        strikes += 1
        arena.start(**FLEET)
    arena.await_results(ids, timeout=60)

    verdict = arena.verdict(ids)
    took = time.monotonic() - began
    print(f"\n{arena.app.broker_url.scheme}: {verdict}; {hits}/{strikes} kills hit; {took:.1f} s")
    assert not verdict.breaches(), f"{verdict}\n{arena.dead()}\n{arena.logs()}"
    assert arena.left() == 0


def test_a_deploy_loses_nothing_and_runs_nothing_twice(arena: Arena, full: bool) -> None:
    count, rounds = size_on(
        arena.url, full=full, small=(500, 5), part=(1200, 8), whole={"sqlite": (3000, 20)}
    )
    ids = arena.send(mixed_calls(arena, count))
    arena.start_fleet(2, **FLEET)

    ends = []
    for number in range(rounds):
        arena.await_finished(int(count * 0.9 * number / rounds))
        worker = arena.await_busy()
        arena.workers.remove(worker)
        asked = time.monotonic()
        worker.terminate()
        code = worker.await_end(GRACE + 2)
        ends.append((code, time.monotonic() - asked))
        arena.start(**FLEET)
    arena.await_results(ids, timeout=60)

    verdict = arena.verdict(ids)
    longest = max(seconds for _, seconds in ends)
    print(f"\n{arena.app.broker_url.scheme}: {verdict}; {rounds} SIGTERMs, longest {longest:.2f} s")
    assert not verdict.breaches(), f"{verdict}\n{arena.logs()}"
    assert {code for code, _ in ends} <= {0, 3}
    assert verdict.starts == count
    assert not [start for start in arena.ledger.starts() if start.losses or start.run]
    assert arena.left() == 0


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_second_sigterm_ends_a_worker_at_once_and_gives_its_task_back(
    arena: Arena, pool: str
) -> None:
    options: dict[str, Any] = {"pool": pool, "visibility_timeout": LEASE, "shutdown_grace": GRACE}
    [id] = arena.send([arena.call("work", 8.0, False)])
    worker = arena.start(**options).await_ready()
    worker.await_task()

    worker.terminate()
    worker.await_log("waiting up to")
    asked = time.monotonic()
    worker.terminate()
    code = worker.await_end(2)
    arena.start(**options).await_ready()
    until(lambda: len(arena.ledger.starts(id)) == 2, "the task starts again", LEASE)

    assert code == 3
    assert time.monotonic() - asked < LEASE
    assert [start.losses for start in arena.ledger.starts(id)] == [0, 0]


def test_a_task_that_kills_its_workers_is_given_up_and_takes_nobody_along(
    url: str, open_arena: OpenArena
) -> None:
    arena = open_arena(url, task_max_deliveries=3)
    options: dict[str, Any] = {"concurrency": 4, "visibility_timeout": 1.0}
    calls = [arena.call("work", 0.01, False) for _ in range(50)]
    calls.insert(20, arena.call("crash"))
    ids = arena.send(calls)
    crash = ids.pop(20)
    for _ in range(2):
        arena.start(**options)

    until(lambda: not arena.replace_dead(**options) and arena.dead(), "a dead letter", 30)
    arena.await_results(ids, timeout=20)

    verdict = arena.verdict(ids)
    letters = arena.dead()
    print(f"\n{arena.app.broker_url.scheme}: beside a crashing task: {verdict}")
    assert [(letter.message.id, letter.code) for letter in letters] == [(crash, "worker_lost")]
    assert len(arena.ledger.starts(crash)) == 3
    assert not verdict.lost, f"{verdict}\n{arena.logs()}"
