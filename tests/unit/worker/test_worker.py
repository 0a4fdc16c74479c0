"""The worker as a whole, and the places that run tasks."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest

from taskq.app.request import current_request

from .bench import Bench, Running, eventually, running


def test_tasks_of_all_outcomes_come_through_together(live: Bench) -> None:
    @live.app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @live.app.task(name="fail", max_retries=1, default_retry_delay=0)
    def fail() -> None:
        raise ValueError("no")

    with running(live.app, concurrency=4):
        added = live.app.bulk([add.s(n, n) for n in range(200)])
        failed = fail.delay()
        assert [result.get(timeout=5) for result in added] == [2 * n for n in range(200)]
        with pytest.raises(ValueError, match="no"):
            failed.get(timeout=5)

    assert live.letter().code == "retries_exhausted"


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_slot_outlives_coroutines_that_would_end_it(
    live: Bench, raised: type[BaseException]
) -> None:
    @live.app.task(name="end")
    async def end() -> None:
        await asyncio.sleep(0)
        raise raised

    @live.app.task(name="after")
    async def after() -> str:
        await asyncio.sleep(0)
        return "alive"

    with running(live.app, concurrency=1):
        end.delay()
        assert after.delay().get(timeout=5) == "alive"
    assert live.letter().code == "failed"


def test_each_coroutine_sees_its_own_request_and_leaves_nothing_behind(live: Bench) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")

    @live.app.task(name="look")
    async def look() -> list[str]:
        request = current_request()
        found = [request.id if request else "none", mark.get()]
        mark.set("left behind")
        return found

    with running(live.app, concurrency=1):
        for id in ("first", "second", "third"):
            assert look.apply_async(task_id=id).get(timeout=5) == [id, "clean"]


def test_a_slot_keeps_its_event_loop_from_task_to_task(live: Bench) -> None:
    @live.app.task(name="loop")
    async def loop() -> int:
        return id(asyncio.get_running_loop())

    with running(live.app, concurrency=1):
        assert len({loop.delay().get(timeout=5) for _ in range(3)}) == 1


def test_a_worker_works_on_its_queues_only(live: Bench) -> None:
    @live.app.task(name="one")
    def one() -> int:
        return 1

    mine, other = one.apply_async(queue="mine"), one.apply_async(queue="other")
    with running(live.app, concurrency=1, queues=("mine",)):
        assert mine.get(timeout=5) == 1
    assert other.state == "PENDING"


def test_a_due_task_starts_within_a_second(live: Bench) -> None:
    @live.app.task(name="when")
    def when() -> float:
        return time.time()

    with running(live.app, concurrency=1):
        due = time.time() + 0.3
        started: Any = when.apply_async(countdown=0.3).get(timeout=5)
    assert due - 0.05 <= started <= due + 1


def test_an_idle_worker_leaves_the_broker_alone(live: Bench) -> None:
    work = Running(live.app, concurrency=4)
    eventually(lambda: live.script.calls["reserve"] and live.script.calls["send_heartbeat"])
    before = live.script.calls.total()
    start, cpu = time.monotonic(), time.process_time()
    # Nothing to wait for: the test is that nothing happens.
    time.sleep(0.8)
    spent = time.process_time() - cpu
    rate = (live.script.calls.total() - before) / (time.monotonic() - start)

    assert rate <= 5
    assert spent < 0.1
    work.stop()


def test_a_worker_stopped_before_it_runs_ends_at_once(live: Bench) -> None:
    work = Running(live.app, concurrency=1)
    assert work.stop() == 0
