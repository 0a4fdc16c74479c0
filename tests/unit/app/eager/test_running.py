"""Tasks run where they are sent, as a worker would run them."""

from __future__ import annotations

import asyncio
import copy
import threading
from typing import Any

import pytest

from taskq import AsyncResult, Request, TaskQ, current_request
from taskq.errors import EncodingError, ImproperlyConfigured, NotRegistered, ResultNotSerializable
from taskq.worker.options import WorkerOptions
from taskq.worker.worker import Worker

from .conftest import Away, Unlucky, add, task


def test_a_task_has_run_when_delay_returns(app: TaskQ) -> None:
    ran_in: list[threading.Thread] = []

    def note(x: int) -> int:
        ran_in.append(threading.current_thread())
        return x + 1

    result = task(app, note).delay(1)

    assert ran_in == [threading.current_thread()]
    assert result.get() == 2
    assert (result.state, result.ready(), result.successful(), result.failed()) == (
        "SUCCESS",
        True,
        True,
        False,
    )
    assert result.known
    assert result.result == 2
    assert result.traceback is None
    assert repr(result) == f"<EagerResult {result.id}>"


def test_every_way_to_send_runs_the_task(app: TaskQ) -> None:
    adds = task(app, add)

    results: list[AsyncResult[Any]] = [
        adds.delay(1),
        adds.apply_async((2,), queue="other", priority=9, headers={"h": 1}),
        app.send_task("t", (3,)),
        adds.s(4).delay(),
        *app.bulk([adds.s(5), adds.s(6, 7)]),
    ]

    assert [result.get() for result in results] == [1, 2, 3, 4, 5, 13]


def test_the_task_finds_the_request_a_worker_would_give_it(app: TaskQ) -> None:
    seen: list[Request] = []

    def look(x: int) -> None:
        request = current_request()
        assert request is not None
        seen.append(request)

    task(app, look).apply_async((1,), task_id="one", queue="q", priority=7, headers={"h": "x"})

    (request,) = seen
    assert (request.id, request.task, request.args, request.kwargs) == ("one", "t", (1,), {})
    assert (request.queue, request.priority, request.headers) == ("q", 7, {"h": "x"})
    assert (request.is_eager, request.called_directly, request.retries) == (True, False, 0)
    assert request.hostname == "eager"
    assert current_request() is None


def test_a_task_that_is_called_or_run_by_a_worker_is_not_eager() -> None:
    assert not Request(id="", task="t").is_eager


def test_a_task_sends_others_from_within(app: TaskQ) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    @app.task(name="leaf")
    def leaf() -> None:
        request = current_request()
        assert request is not None
        seen.append((request.id, request.parent_id, request.root_id))

    @app.task(name="middle")
    def middle() -> None:
        leaf.apply_async(task_id="leaf")

    @app.task(name="top")
    def top() -> str:
        middle.apply_async(task_id="middle")
        request = current_request()
        assert request is not None
        return request.id

    assert top.apply_async(task_id="top").get() == "top"
    assert seen == [("leaf", "middle", "top")]


def test_waiting_for_another_task_is_refused_inside_a_task_as_in_a_worker(strict: TaskQ) -> None:
    adds = strict.task(name="add")(add)

    with pytest.raises(ImproperlyConfigured, match="must not wait"):
        task(strict, lambda: adds.delay(1).get()).delay()


def test_a_task_that_is_not_defined_here_is_an_error_that_names_the_cure(app: TaskQ) -> None:
    with pytest.raises(NotRegistered, match="import its module"):
        app.send_task("elsewhere")


def test_wrong_arguments_are_refused_before_anything_runs(app: TaskQ) -> None:
    with pytest.raises(TypeError, match="argument 'x'"):
        task(app, add).delay("one")


def test_an_argument_that_does_not_travel_is_refused(app: TaskQ) -> None:
    with pytest.raises(EncodingError):
        task(app, lambda x: None).delay(object())


def test_a_message_over_the_limit_is_refused(app: TaskQ) -> None:
    app.conf.message_limit = 1024

    with pytest.raises(EncodingError, match="message_limit"):
        task(app, lambda x: None).delay("x" * 1024)


def test_arguments_arrive_as_copies_in_the_form_that_travels(app: TaskQ) -> None:
    mine = {"articles": (1, 2)}
    seen: list[Any] = []

    def change(basket: Any) -> None:
        seen.append(copy.deepcopy(basket))
        basket["articles"].append(3)

    task(app, change).delay(mine)

    assert seen == [{"articles": [1, 2]}]
    assert mine == {"articles": (1, 2)}


def test_a_value_that_does_not_travel_is_a_failure(app: TaskQ) -> None:
    result = task(app, object).delay()

    with pytest.raises(ResultNotSerializable):
        result.get()


def test_a_value_over_the_limit_is_a_failure(app: TaskQ) -> None:
    app.conf.result_limit = 1024

    assert task(app, lambda: "x" * 1024).delay().failed()


def test_a_value_comes_back_in_the_form_that_travels(app: TaskQ) -> None:
    assert task(app, lambda: (1, (2,))).delay().get() == [1, [2]]


async def aadd(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


async def thread() -> int:
    return threading.get_ident()


def test_async_tasks_run_from_synchronous_code_in_its_thread(app: TaskQ) -> None:
    assert task(app, aadd).delay(1, 2).get() == 3
    assert app.task(name="thread")(thread).delay().get() == threading.get_ident()


def test_coroutines_send_and_wait(app: TaskQ) -> None:
    adds, aadds = task(app, add), app.task(name="a")(aadd)

    async def main() -> list[int]:
        one = await adds.adelay(1)
        two = await aadds.adelay(1, 1)
        three = await app.asend_task("t", (3,))
        many = await app.abulk([adds.s(4), aadds.s(2, 3)])
        return [await result.aget() for result in (one, two, three, *many)]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


def test_an_async_task_runs_where_an_event_loop_runs_already(app: TaskQ) -> None:
    aadds = task(app, aadd)

    async def main() -> int:
        return int(aadds.delay(1, 2).get())

    assert asyncio.run(main()) == 3


def test_async_tasks_await_others_that_they_send(app: TaskQ) -> None:
    @app.task(name="count")
    async def count(left: int) -> int:
        if not left:
            request = current_request()
            assert request is not None
            return int(request.root_id == "root")
        return (await count.adelay(left - 1)).result  # type: ignore[no-any-return]

    async def main() -> int:
        result = await asyncio.wait_for(count.aapply_async((3,), task_id="root"), 10)
        return int(await result.aget())

    assert asyncio.run(main()) == 1


def test_a_failure_propagates_into_the_coroutine(strict: TaskQ) -> None:
    async def fail() -> None:
        raise Away

    with pytest.raises(Away):
        asyncio.run(task(strict, fail).adelay())


def test_a_worker_refuses_to_start(app: TaskQ) -> None:
    with pytest.raises(ImproperlyConfigured, match="task_always_eager"):
        Worker(app, WorkerOptions())


def test_nothing_is_eager_unless_somebody_says_so() -> None:
    app = TaskQ("shop", broker="memory://")

    result = task(app, Unlucky(0)).delay()

    assert result.state == "PENDING"
    assert app.opened
    app.close()
    assert not app.opened
