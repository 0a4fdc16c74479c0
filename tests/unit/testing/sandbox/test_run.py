"""Running what is ready."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest

from taskq.contract.message import Message, Send
from taskq.errors import DecodeError, ImproperlyConfigured, ResultNotSerializable, TaskError
from taskq.testing import sandbox as module
from taskq.testing.sandbox import Sandbox, WorkerDied
from taskq.testing.stepper import StillBusy
from taskq.testing.workbench import Store

from .conftest import Shop, Ticket, outcomes


def test_run_runs_what_is_ready_and_what_that_sends(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="order")
    def order(n: int) -> None:
        for _ in range(n):
            shop.note.delay("x")
        shop.note.apply_async(("later",), countdown=1)

    order.delay(2)

    assert outcomes(box.run()) == [
        ("order", "SUCCESS"),
        ("note", "SUCCESS"),
        ("note", "SUCCESS"),
    ]
    assert shop.log == ["x", "x"]
    assert box.run() == []


def test_a_run_tells_what_it_was_and_what_came_of_it(shop: Shop, box: Sandbox) -> None:
    result = shop.add.delay(4, y=5)

    (run,) = box.run()

    assert (run.task, run.id) == ("add", result.id)
    assert (run.args, run.kwargs) == ((4, 5), {})
    assert (run.state, run.value, run.error, run.retries, run.dead) == ("SUCCESS", 9, None, 0, "")
    assert run.at == box.now
    assert result.get() == 9
    assert "SUCCESS" in repr(run)


def test_tasks_run_in_this_thread_by_a_worker_called_sandbox(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="look")
    def look() -> list[Any]:
        return [threading.get_ident(), shop.request.hostname, shop.request.is_eager]

    look.delay()

    assert box.run()[0].value == [threading.get_ident(), "sandbox", False]


def test_the_most_urgent_runs_first(shop: Shop, box: Sandbox) -> None:
    for priority in (1, 9, 5):
        shop.note.apply_async((str(priority),), priority=priority)

    box.run()

    assert shop.log == ["9", "5", "1"]


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_the_order_of_queues_does_not_depend_on_earlier_looks(
    shop: Shop, box: Sandbox, looks: int
) -> None:
    for queue in ("z", "default", "a"):
        shop.note.apply_async((queue,), queue=queue, countdown=1)
    for _ in range(looks):
        box.run()

    box.travel(1)

    assert shop.log == ["default", "z", "a"]


def test_a_task_that_was_given_up_is_raised_after_all_have_run(shop: Shop, box: Sandbox) -> None:
    shop.fail.delay("first")
    shop.note.delay("x")
    shop.fail.delay("second")

    with pytest.raises(ZeroDivisionError, match="first") as caught:
        box.run()

    assert shop.log == ["x"]
    assert "_fail" in [entry.name for entry in caught.traceback]
    assert caught.value.__notes__ == [
        f"raised by task fail('first')[{box.sent()[0].id}] in the sandbox",
        "2 tasks were given up; this is the first",
    ]


def test_failures_can_be_looked_at_instead(shop: Shop, box: Sandbox) -> None:
    shop.fail.delay("no")

    (run,) = box.run(propagate=False)

    assert (run.state, run.value, run.dead) == ("FAILURE", None, "failed")
    assert isinstance(run.error, ZeroDivisionError)
    assert repr(run) == "<FAILURE fail('no') ZeroDivisionError('no')>"
    (letter,) = shop.app.broker.dead_letters("default")
    assert letter.message.id == run.id


def test_an_expected_failure_is_told_and_not_raised(shop: Shop, box: Sandbox) -> None:
    def fail() -> None:
        raise KeyError("x")

    shop.app.task(name="t", throws=[KeyError])(fail).delay()
    shop.app.task(name="q", throws=[KeyError], ignore_result=True)(fail).delay()

    for run in box.run():
        assert (run.state, run.dead) == ("FAILURE", "")
        assert isinstance(run.error, KeyError)


def test_a_failure_without_an_exception_of_the_task_is_raised_too(shop: Shop, box: Sandbox) -> None:
    shop.app.task(name="t")(object).delay()

    with pytest.raises(ResultNotSerializable):
        box.run()


def test_a_failure_of_which_nothing_is_kept_is_raised_too(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="enter", ignore_result=True)
    def enter(ticket: Ticket) -> None: ...

    Ticket.used.clear()
    loose: Any = {"number": 1}
    enter.delay(loose)

    with pytest.raises(TaskError, match="bad_arguments"):
        box.run()


@pytest.mark.parametrize(
    ("envelope", "task", "shown"),
    [
        (b"nonsense", "", "<FAILURE ?()"),
        (
            b'{"v":1,"id":"x","task":"add","queue":"default","created":0}\nnonsense',
            "add",
            "<FAILURE add()",
        ),
    ],
    ids=["envelope", "arguments"],
)
def test_a_message_that_cannot_be_read_is_told_as_far_as_it_can(
    shop: Shop, box: Sandbox, envelope: bytes, task: str, shown: str
) -> None:
    shop.app.broker.send([Send(Message("x", "default", envelope))])

    (sent,) = box.sent()
    (run,) = box.run(propagate=False)

    for one in (sent, run):
        assert (one.id, one.task, one.args, one.kwargs) == ("x", task, (), {})
    assert sent != shop.add.s(1)
    assert run.dead == "undecodable"
    assert isinstance(run.error, DecodeError)
    assert repr(run).startswith(shown)


def test_a_dropped_result_is_no_failure(shop: Shop, box: Sandbox) -> None:
    shop.app.task(name="t", ignore_result=True)(shop._add).delay(1)

    (run,) = box.run()

    assert (run.state, run.value) == ("SUCCESS", None)


@pytest.mark.parametrize("propagate", [True, False])
def test_what_ends_a_test_is_no_outcome_of_a_task(
    shop: Shop, box: Sandbox, propagate: bool
) -> None:
    shop.fail.delay()
    shop.app.task(name="t")(lambda: pytest.fail("ends the test")).delay()

    with pytest.raises(pytest.fail.Exception, match="ends the test") as caught:
        box.run(propagate=propagate)

    assert len(caught.value.__notes__) == 1


def test_tasks_of_other_programs_are_left_alone(shop: Shop, box: Sandbox) -> None:
    shop.app.send_task("elsewhere", [1], queue="theirs")
    shop.app.send_task("elsewhere", [1])

    assert box.run() == []
    assert outcomes(box.travel(dt.timedelta(days=1))) == [("elsewhere", "FAILURE")] * 2


def test_a_task_that_sends_itself_for_ever_is_an_error(
    shop: Shop, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RUNS", 50)

    @shop.app.task(name="again")
    def again() -> None:
        again.delay()

    again.delay()
    with pytest.raises(StillBusy):
        box.run()


def test_a_client_that_the_test_closes_is_opened_again(shop: Shop, box: Sandbox) -> None:
    shop.add.delay(1)
    box.run()
    shop.add.delay(2)
    shop.app.close()

    assert [run.value for run in box.run()] == [2]


def test_a_worker_that_dies_is_an_error(
    shop: Shop, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add.delay(1)
    monkeypatch.setattr(Store, "take", None)

    with pytest.raises(WorkerDied, match="claim"):
        box.run()


def test_a_sandbox_with_eager_mode_runs_tasks_where_they_are_sent(shop: Shop, box: Sandbox) -> None:
    shop.app.conf.task_always_eager = True

    assert shop.add.delay(1).get() == 1
    assert box.sent() == []
    with pytest.raises(ImproperlyConfigured, match="task_always_eager"):
        box.run()
