"""Leases: kept while the holder lives, fenced when it was frozen."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.wire import outcome
from tests.chaos.conftest import OpenArena
from tests.chaos.harness import Arena
from tests.waiting import until

pytestmark = pytest.mark.chaos

LEASE = 1.0
FLEET: dict[str, Any] = {"concurrency": 2, "visibility_timeout": LEASE}


def test_a_task_five_times_as_long_as_its_lease_starts_once(arena: Arena) -> None:
    ids = arena.send([arena.call("work", 5 * LEASE, burn) for burn in (False, True)])
    arena.start_fleet(2, **FLEET)

    arena.await_results(ids, timeout=8 * LEASE)

    verdict = arena.verdict(ids)
    assert not verdict.breaches(), f"{verdict}\n{arena.logs()}"
    assert [len(arena.ledger.starts(id)) for id in ids] == [1, 1]


def freeze_past_the_lease(arena: Arena, fault: str | None) -> tuple[str, int, int]:
    """Let one worker wake up when another runs its task; return the id and both pids.

    Returns when both have concluded it.
    """
    options: dict[str, Any] = {"fault": fault, "concurrency": 1, "visibility_timeout": LEASE}
    [id] = arena.send([arena.call("work", 2.0, False)])
    first = arena.start(**options).await_ready()
    first.await_task()
    arena.freeze(first)
    second = arena.start(**options).await_ready()

    second.await_task()
    first.thaw()
    until(lambda: not arena.ledger.running(first.pid), "the first worker finishes", 5)
    until(lambda: not arena.ledger.running(second.pid), "the second worker finishes", 5)
    for worker in (first, second):
        worker.terminate()
        worker.await_end(5)
    return id, first.pid, second.pid


def test_a_frozen_worker_that_wakes_up_cannot_conclude_what_another_runs(arena: Arena) -> None:
    id, first, second = freeze_past_the_lease(arena, fault=None)

    verdict = arena.verdict([id])
    record = arena.results([id])[id]
    assert not verdict.lost
    assert not verdict.stale
    assert [(start.pid, start.run) for start in arena.ledger.starts(id)] == [
        (first, 0),
        (second, 1),
    ]
    assert arena.app.AsyncResult(id).get(timeout=1) == second
    assert outcome.read(record.payload)[0].worker.endswith(str(second))
    [frozen] = [worker for worker in arena.workers if worker.pid == first]
    assert f"task {id}: the lease was lost, its conclusion was refused" in frozen.log


def test_control_without_fencing_a_stale_conclusion_is_seen(arena: Arena) -> None:
    id, first, _ = freeze_past_the_lease(arena, fault="unfenced")

    assert arena.app.AsyncResult(id).get(timeout=1) == first
    assert "stale" in arena.verdict([id]).breaches()


def test_control_with_an_early_ack_a_lost_task_is_seen(arena: Arena) -> None:
    ids = arena.send([arena.call("work", 0.2, False) for _ in range(20)])
    options: dict[str, Any] = {"fault": "early_ack", **FLEET}
    arena.start(**options).await_ready()

    hit = arena.strike()
    arena.start(**options)
    arena.await_results(ids, timeout=10)

    assert hit
    assert "lost" in arena.verdict(ids).breaches()


def test_control_without_counting_a_crashing_task_starts_too_often(
    url: str, open_arena: OpenArena
) -> None:
    arena = open_arena(url, task_max_deliveries=2)
    options: dict[str, Any] = {"fault": "uncounted", "concurrency": 1, "visibility_timeout": 0.5}
    [id] = arena.send([arena.call("crash")])
    arena.start(**options)

    def crashed_thrice() -> bool:
        arena.replace_dead(**options)
        return len(arena.ledger.starts(id)) > 2

    until(crashed_thrice, "more starts than max_deliveries", 20)
    assert arena.dead() == []
