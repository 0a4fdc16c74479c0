"""Waiting for results in a sandbox, in coroutines too."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import threading
from typing import Any

import pytest

from taskq import TimeoutError as TaskTimeout
from taskq.errors import UnknownResult
from taskq.testing import sandbox as module
from taskq.testing.sandbox import Sandbox
from taskq.worker.options import WorkerOptions
from taskq.worker.worker import Worker
from tests.waiting import until

from .conftest import Shop, outcomes, threads

ENOUGH = 60.0
"""Seconds in which whatever is to come has come; nothing here waits so long."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other thread despair while a busy machine keeps this one waiting."""
    monkeypatch.setattr(module, "PATIENCE", ENOUGH)


def test_waiting_for_a_result_runs_the_task(shop: Shop, box: Sandbox) -> None:
    assert shop.add.delay(1, 2).get(timeout=ENOUGH) == 3
    with pytest.raises(ZeroDivisionError):
        shop.fail.delay().get(timeout=ENOUGH)


def test_looking_at_a_result_does_not(shop: Shop, box: Sandbox) -> None:
    result = shop.add.delay(1, 2)

    assert (result.state, result.ready()) == ("PENDING", False)
    with pytest.raises(TaskTimeout):
        result.get(timeout=0)
    assert len(box.run()) == 1


@pytest.mark.parametrize(
    ("name", "options", "says", "state"),
    [
        ("add", {"countdown": 60}, r"due in 60 s.*travel\(60\)", "PENDING"),
        ("flaky", {}, r"due in 10 s.*travel\(10\)", "RETRY"),
        ("elsewhere", {}, "another program", "PENDING"),
    ],
)
def test_a_result_that_waiting_will_not_bring_is_an_error_at_once(
    shop: Shop, box: Sandbox, name: str, options: Any, says: str, state: str
) -> None:
    result = shop.app.send_task(name, [1], **options)

    with pytest.raises(TaskTimeout, match=says) as caught:
        result.get(timeout=ENOUGH)

    assert caught.value.state == state


@pytest.mark.parametrize("beyond", [0.000001, 0.004, 0.999999])
def test_the_journey_that_an_error_proposes_is_long_enough(
    shop: Shop, box: Sandbox, beyond: float
) -> None:
    result = shop.add.apply_async((1,), eta=box.now + dt.timedelta(seconds=60 + beyond))

    with pytest.raises(TaskTimeout, match=rf"due in {60 + beyond}.* s.*travel\(61\)"):
        result.get()

    box.travel(61)
    assert result.get() == 1


def test_a_message_that_the_test_holds_is_not_waited_for(shop: Shop, box: Sandbox) -> None:
    result = shop.add.delay(1)
    shop.app.broker.reserve(["default"], limit=1, lease=30)

    with pytest.raises(TaskTimeout, match="somebody else") as caught:
        result.get(timeout=ENOUGH)
    assert caught.value.state == "STARTED"


def test_a_result_that_is_gone_is_unknown(shop: Shop, box: Sandbox) -> None:
    with pytest.raises(UnknownResult):
        shop.app.AsyncResult("nobody").get(timeout=ENOUGH)
    with pytest.raises(UnknownResult):
        shop.app.task(name="t", ignore_result=True)(lambda: None).delay().get(timeout=ENOUGH)


def test_a_task_that_insists_may_wait_for_another(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="sum")
    async def sum_of(n: int) -> int:
        if not n:
            return 0
        return n + int(sum_of.delay(n - 1).get(timeout=ENOUGH, disable_sync_subtasks=False))

    assert sum_of.delay(3).get(timeout=ENOUGH) == 6
    assert sum_of.delay(2).get(timeout=ENOUGH) == 3


def test_a_real_worker_may_do_the_work(shop: Shop, box: Sandbox) -> None:
    before = threads()
    worker = Worker(shop.app, WorkerOptions(concurrency=1))
    thread = threading.Thread(target=worker.run, name="taskq-real")

    @shop.app.task(name="t")
    def where() -> str:
        return threading.current_thread().name

    thread.start()
    try:
        until(lambda: shop.app.broker.list_alive_workers(), "the worker is listed")
        assert where.delay().get(timeout=ENOUGH) == "taskq-slot-0"
    finally:
        worker.stop()
        thread.join()
        # A worker does not wait for the thread of a slot that has nothing in its hands.
        until(lambda: threads() <= before, "its slots have ended")


@pytest.mark.usefixtures("patient")
def test_another_thread_waits_for_what_the_test_is_about_to_do(shop: Shop, box: Sandbox) -> None:
    result = shop.add.apply_async((1,), countdown=60)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(result.get(timeout=ENOUGH)))

    thread.start()
    until(lambda: box._waits, "the other thread waits")
    box.travel(60)
    thread.join()

    assert found == [1]


def test_what_runs_on_a_journey_is_told_though_another_thread_waits_for_it(
    shop: Shop, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = shop.add.apply_async((1,), countdown=60)
    move_to = box.clock.move_to

    def move(instant: float) -> None:
        move_to(instant)
        wait = functools.partial(shop.app.results.wait, [result.id], timeout=0.01)
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(ENOUGH)

    monkeypatch.setattr(box.clock, "move_to", move)

    assert outcomes(box.travel(60)) == [("add", "SUCCESS")]


def test_another_thread_does_not_wait_for_ever(
    shop: Shop, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    result = shop.add.apply_async((1,), countdown=60)

    with pytest.raises(TaskTimeout, match="travel"):
        asyncio.run(result.aget(timeout=ENOUGH))


def test_coroutines_send_run_and_wait(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="a")
    async def aadd(x: int) -> int:
        await asyncio.sleep(0)
        result = await shop.add.adelay(x, 1)
        shop.log.append(result.id)
        return x + 1

    async def main() -> int:
        one = await aadd.adelay(1)
        two = await aadd.adelay(10)
        assert outcomes(box.run()) == [("a", "SUCCESS")] * 2 + [("add", "SUCCESS")] * 2
        return await one.aget(timeout=ENOUGH) + await two.aget(timeout=ENOUGH)

    assert asyncio.run(main()) == 13
    assert len(shop.log) == 2


def test_awaiting_a_result_runs_the_task(shop: Shop, box: Sandbox) -> None:
    async def main() -> list[int]:
        results = await shop.app.abulk([shop.add.s(n) for n in range(5)])
        return await asyncio.gather(*(result.aget(timeout=ENOUGH) for result in results))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("patient")
def test_a_wait_that_was_cancelled_is_over_with_the_sandbox(shop: Shop) -> None:
    async def main() -> None:
        result = await shop.add.aapply_async((1,), countdown=60)
        waiting = asyncio.create_task(result.aget())
        await asyncio.sleep(0)
        until(lambda: box._waits, "the results are looked for")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    before = threads()
    for _ in range(3):
        with Sandbox(shop.app) as box:
            asyncio.run(main())
        assert threads() <= before
        assert not shop.app.opened


@pytest.mark.usefixtures("patient")
def test_a_coroutine_awaits_what_another_one_travels_to(shop: Shop, box: Sandbox) -> None:
    async def main() -> int:
        result = await shop.add.aapply_async((1,), countdown=60)
        waiting = asyncio.create_task(result.aget(timeout=ENOUGH))
        await asyncio.sleep(0)
        box.travel(60)
        return await waiting

    assert asyncio.run(main()) == 1
