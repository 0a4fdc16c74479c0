"""Coroutines on synchronous backends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskq import TaskQ
from taskq import TimeoutError as TaskTimeout
from taskq.app.bridge import Bridge
from taskq.contract.settlement import Ack
from taskq.errors import Closed, ConnectionFailed, UnknownResult, UnknownScheme
from taskq.plugins import Plugins
from tests.unit.app.conftest import Make, claim, opened, record
from tests.unit.app.test_sending import aadd, add, status_of
from tests.unit.test_plugins import Post
from tests.waiting import until


def finish_all(app: TaskQ) -> None:
    app.broker.settle([Ack(d, result=record(app, d.id, opened(app, d)[1][0])) for d in claim(app)])


def threads(app: TaskQ) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("taskq-")]


def test_every_way_to_send_has_one_that_awaits(app: TaskQ) -> None:
    task = app.task(add)
    atask = app.task(aadd)

    async def send() -> list[str]:
        one = await task.adelay(1)
        two = await task.aapply_async((2,), queue="default")
        three = await app.asend_task("t", (3,))
        four, five = await app.abulk([task.s(4), atask.s(5, 6)])
        return [one.id, two.id, three.id, four.id, five.id]

    ids = asyncio.run(send())

    assert [delivery.id for delivery in claim(app)] == ids


def test_wrong_arguments_are_refused_in_the_coroutine(app: TaskQ) -> None:
    with pytest.raises(TypeError):
        asyncio.run(app.task(add).adelay("x"))  # type: ignore[arg-type]


def test_a_hundred_waits_share_one_thread(app: TaskQ) -> None:
    async def work() -> list[int]:
        results = await app.abulk([app.task(name=f"t{n}")(add).s(n) for n in range(100)])
        waits = [asyncio.ensure_future(result.aget(timeout=10)) for result in results]
        await asyncio.sleep(0)
        finish_all(app)
        return await asyncio.gather(*waits)

    assert asyncio.run(work()) == list(range(100))
    assert len(threads(app)) == 2


def test_aget_raises_as_get(app: TaskQ) -> None:
    async def wait(id: str, timeout: float) -> Any:
        return await app.AsyncResult(id).aget(timeout=timeout)

    with pytest.raises(UnknownResult):
        asyncio.run(wait("nobody", 10))
    with pytest.raises(TaskTimeout, match="PENDING"):
        asyncio.run(wait(app.send_task("t").id, 0.01))


def test_two_loops_use_one_application(app: TaskQ) -> None:
    results = [app.send_task("t", (n,)) for n in range(2)]
    finish_all(app)
    found: list[Any] = []

    def loop(n: int) -> None:
        found.append(asyncio.run(results[n].aget(timeout=10)))

    workers = [threading.Thread(target=loop, args=(n,)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(found) == [0, 1]


def test_an_abandoned_wait_is_not_pursued(app: TaskQ) -> None:
    async def work() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(app.send_task("t").aget(timeout=600), 0.01)
        with pytest.raises(TaskTimeout):
            await app.send_task("t").aget(timeout=0.01)

    asyncio.run(work())


def test_closing_ends_the_waits_and_the_threads(app: TaskQ) -> None:
    async def work() -> None:
        wait = asyncio.ensure_future(app.send_task("t").aget(timeout=600))
        await asyncio.sleep(0)
        await asyncio.to_thread(app.close)
        with pytest.raises(Closed):
            await asyncio.wait_for(wait, 5)

    asyncio.run(work())

    until(lambda: not threads(app), "the threads end")


def test_a_closed_application_can_be_used_again(app: TaskQ) -> None:
    asyncio.run(app.asend_task("t"))

    app.close()

    assert asyncio.run(app.asend_task("t")).id


def test_what_cannot_keep_results_tells_who_awaits_one(make: Make) -> None:
    plugins = Plugins()
    plugins.register(Post("post"))
    app = make(broker="post://h", plugins=plugins)

    async def work() -> None:
        await asyncio.wait_for(app.AsyncResult("a").aget(timeout=600), 5)

    with pytest.raises(UnknownScheme, match="keeps no results"):
        asyncio.run(work())


def test_a_wait_survives_a_broken_connection(app: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    result = app.send_task("t", (1,))
    finish_all(app)
    broken = [ConnectionFailed(), ConnectionFailed()]
    wait = app.results.wait

    def flaky(*args: Any, **options: Any) -> Any:
        if broken:
            raise broken.pop()
        return wait(*args, **options)

    monkeypatch.setattr(app.results, "wait", flaky)
    monkeypatch.setattr("taskq.app.bridge.PAUSE_AFTER_ERROR", 0.001)

    assert asyncio.run(result.aget(timeout=10)) == 1


def test_a_store_out_of_reach_is_a_timeout_at_last(
    app: TaskQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ConnectionFailed

    monkeypatch.setattr(app.results, "wait", broken)
    monkeypatch.setattr("taskq.app.bridge.PAUSE_AFTER_ERROR", 0.001)

    with pytest.raises(TaskTimeout, match="out of reach"):
        asyncio.run(app.send_task("t").aget(timeout=0.01))


def test_a_child_of_a_fork_has_threads_of_its_own(app: TaskQ) -> None:
    asyncio.run(app.asend_task("t", (1,)))
    lock = app.bridge._lock()

    def in_child() -> None:
        result = asyncio.run(app.asend_task("t", (2,)))
        finish_all(app)
        assert asyncio.run(result.aget(timeout=10)) == 2

    with lock:
        assert status_of(in_child) == 0


def test_a_wait_that_begins_while_the_application_closes_ends(
    app: TaskQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither left with a thread that has ended, nor refused by one."""
    result = app.send_task("t", (1,))
    start = Bridge._start

    def close_meanwhile(bridge: Bridge) -> Any:
        started = start(bridge)
        closer = threading.Thread(target=app.close)
        closer.start()
        closer.join(0.1)
        return started

    async def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Bridge, "_start", close_meanwhile)
            with pytest.raises((Closed, UnknownResult)):
                await asyncio.wait_for(result.aget(timeout=600), 5)
            assert (await app.asend_task("t")).id

    asyncio.run(work())
