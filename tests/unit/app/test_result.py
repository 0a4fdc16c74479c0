"""What a handle tells of a task, on a broker and a store that are really there."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from taskq import AsyncResult, Request, TaskError, TaskQ, TaskRevokedError
from taskq import TimeoutError as TaskTimeout
from taskq.app.request import enter, leave
from taskq.clock import VirtualClock
from taskq.contract.settlement import Ack, Dead, Retry
from taskq.errors import (
    ConnectionFailed,
    ImproperlyConfigured,
    InvalidName,
    OutcomeUnknown,
    UnknownResult,
)
from taskq.wire.outcome import Status
from tests.unit.app.conftest import claim, record


def finish(app: TaskQ, value: Any, **more: Any) -> None:
    [delivery] = claim(app)
    app.broker.settle([Ack(delivery, result=record(app, delivery.id, value, **more))])


def test_get_returns_what_the_task_returned_any_number_of_times(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, {"a": [1, None]})

    assert [result.get(timeout=0), result.get(timeout=0)] == [{"a": [1, None]}] * 2
    assert (result.state, result.result, result.known) == ("SUCCESS", {"a": [1, None]}, True)
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result.traceback is None


def test_a_result_is_converted_by_the_tasks_annotation(app: TaskQ) -> None:
    def day() -> dt.date: ...

    task = app.task(name="day")(day)
    result = task.delay()
    finish(app, "2026-11-21", task="day")

    assert result.get(timeout=0) == dt.date(2026, 11, 21)


def test_get_raises_what_the_task_raised_with_the_workers_traceback(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, KeyError("k"))

    with pytest.raises(KeyError) as caught:
        result.get(timeout=0)

    assert "KeyError" in str(caught.value.__cause__)
    assert isinstance(result.get(timeout=0, propagate=False), KeyError)
    assert isinstance(result.result, KeyError)
    assert result.failed()
    assert result.traceback == "KeyError: 'k'\n"


def test_a_class_that_is_not_known_comes_back_as_a_task_error(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, type("Odd", (Exception,), {"__module__": "elsewhere"})("text"))

    with pytest.raises(TaskError, match=r"elsewhere\.Odd: text"):
        result.get(timeout=0)


def test_a_revoked_task_says_so(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, TaskRevokedError("expired"), state=Status.REVOKED)

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=0)
    assert result.state == "REVOKED"
    assert result.ready()


def test_the_state_follows_the_task(app: TaskQ, clock: VirtualClock) -> None:
    result = app.send_task("t", countdown=5)
    assert (result.state, result.known, result.ready()) == ("PENDING", True, False)

    clock.advance(6)
    [delivery] = claim(app)
    assert (result.state, result.result) == ("STARTED", None)

    again = record(app, delivery.id, ValueError("x"), state=Status.RETRY)
    app.broker.settle([Retry(delivery, delay=5, result=again)])
    assert (result.state, result.known, result.ready()) == ("RETRY", True, False)

    clock.advance(6)
    [delivery] = claim(app)
    assert (result.state, result.ready()) == ("STARTED", False)

    done = record(app, delivery.id, 1, run=1)
    app.broker.settle([Ack(delivery, result=done)])
    assert result.state == "SUCCESS"


def test_a_task_purged_between_two_runs_is_unknown(app: TaskQ) -> None:
    result = app.send_task("t")
    [delivery] = claim(app)
    again = record(app, delivery.id, ValueError("x"), state=Status.RETRY)
    app.broker.settle([Retry(delivery, delay=5, result=again)])

    app.broker.purge("default")

    assert (result.state, result.known) == ("PENDING", False)
    with pytest.raises(UnknownResult):
        result.get(timeout=60)


def test_a_timeout_names_the_state(app: TaskQ) -> None:
    result = app.send_task("t")

    with pytest.raises(TaskTimeout, match="is PENDING") as caught:
        result.get(timeout=0)

    assert caught.value.state == "PENDING"


def test_an_unknown_id_is_found_out_before_the_timeout(app: TaskQ) -> None:
    result = app.AsyncResult("nobody")

    with pytest.raises(UnknownResult, match="result_expires"):
        result.get(timeout=60)
    assert (result.state, result.known) == ("PENDING", False)


def test_an_ignored_result_is_not_waited_for(app: TaskQ) -> None:
    with pytest.raises(UnknownResult, match="ignore_result"):
        app.send_task("t", ignore_result=True).get(timeout=60)


def test_a_dead_letter_without_a_result_is_a_failure(app: TaskQ) -> None:
    result = app.send_task("t")
    app.broker.settle([Dead(claim(app)[0], "worker_lost")])

    with pytest.raises(TaskError, match="taskq dead show"):
        result.get(timeout=60)
    assert result.failed()


def test_a_forgotten_result_is_gone(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, 1)

    result.forget()

    with pytest.raises(UnknownResult):
        result.get(timeout=60)


def test_a_task_does_not_wait_for_another_unless_it_insists(app: TaskQ) -> None:
    result = app.send_task("t")
    finish(app, 1)
    token = enter(Request(id="p", task="t"))
    try:
        with pytest.raises(ImproperlyConfigured, match="must not wait"):
            result.get()
        with pytest.raises(ImproperlyConfigured, match="must not wait"):
            result.aget().send(None)
        assert result.get(disable_sync_subtasks=False) == 1
    finally:
        leave(token)


def test_handles_of_one_task_are_equal(app: TaskQ) -> None:
    assert app.AsyncResult("a") == AsyncResult("a", app)
    assert len({app.AsyncResult("a"), app.AsyncResult("a"), app.AsyncResult("b")}) == 2
    assert app.AsyncResult("a").task_id == "a"
    assert repr(app.AsyncResult("a")) == "<AsyncResult a>"
    with pytest.raises(InvalidName):
        app.AsyncResult("a b")


@pytest.mark.parametrize("error", [ConnectionFailed, OutcomeUnknown])
def test_get_waits_out_an_outage_and_raises_its_error_if_that_lasts(
    app: TaskQ, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    result = app.send_task("t")
    finish(app, 7)
    answer, failures = app.results.wait, iter([error, error])

    def wait(ids: list[str], *, timeout: float) -> dict[str, Any]:
        for failure in failures:
            raise failure
        return answer(ids, timeout=timeout)

    monkeypatch.setattr(app.results, "wait", wait)
    monkeypatch.setattr("taskq.app.result.OUTAGE_PAUSE", 0.01)
    assert result.get(timeout=5) == 7

    failures = iter([error] * 1000)
    with pytest.raises(error):
        result.get(timeout=0.05)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "3"])
def test_get_refuses_a_timeout_that_is_none(app: TaskQ, timeout: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="timeout must be a number of seconds"):
        app.send_task("t").get(timeout=timeout)
