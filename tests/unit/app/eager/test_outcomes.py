"""What becomes of a task that was run where it was sent."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any, ClassVar

import pytest

from taskq import Retry, TaskError, TaskQ, TaskRevokedError
from taskq.app.task import Task
from taskq.clock import VirtualClock
from taskq.errors import ImproperlyConfigured, ResultNotSerializable, UnknownResult
from taskq.worker.eager import MOST_RETRIES

from .conftest import NOW, Away, Unlucky, add, task


def test_a_failure_is_raised_by_get(app: TaskQ) -> None:
    def fail() -> None:
        raise ZeroDivisionError("no")

    result = task(app, fail).delay()

    assert (result.state, result.failed()) == ("FAILURE", True)
    assert "in fail" in (result.traceback or "")
    assert isinstance(result.get(propagate=False), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError, match="no"):
        result.get()


def test_delay_raises_the_very_exception_where_errors_propagate(strict: TaskQ) -> None:
    error = Away("x")

    def fail() -> None:
        raise error

    with pytest.raises(Away) as caught:
        task(strict, fail).delay()

    assert caught.value is error


def test_an_expected_exception_propagates_too(strict: TaskQ) -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        task(strict, fail, throws=[KeyError]).delay()


def test_a_failure_without_an_exception_of_the_task_propagates_too(strict: TaskQ) -> None:
    with pytest.raises(ResultNotSerializable):
        task(strict, object).delay()


@dataclasses.dataclass
class Ticket:
    """Good for one use."""

    number: int
    used: ClassVar[list[int]] = []

    def __post_init__(self) -> None:
        if self.number in self.used:
            raise ValueError("used")
        self.used.append(self.number)


def test_a_failure_of_which_nothing_is_kept_propagates_too(strict: TaskQ) -> None:
    @strict.task(name="t", ignore_result=True)
    def enter(ticket: Ticket) -> None: ...

    Ticket.used.clear()
    loose: Any = {"number": 1}

    with pytest.raises(TaskError, match="bad_arguments"):
        enter.delay(loose)


def test_success_raises_nothing_where_errors_propagate(strict: TaskQ) -> None:
    assert task(strict, add).delay(1).get() == 1
    assert strict.task(name="u", ignore_result=True)(add).delay(1).state == "PENDING"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, pytest.fail.Exception])
def test_what_is_meant_for_the_caller_is_no_outcome(app: TaskQ, stop: Any) -> None:
    def interrupted() -> None:
        raise stop("now")

    with pytest.raises(stop):
        task(app, interrupted).delay()


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_what_would_end_only_the_task_in_a_worker_ends_only_the_task(
    app: TaskQ, error: Any
) -> None:
    def leave() -> None:
        raise error(1)

    assert task(app, leave).delay().failed()


def test_retries_run_at_once(app: TaskQ) -> None:
    unlucky = Unlucky(2)

    result = task(app, unlucky, max_retries=5, default_retry_delay=3600).delay()

    assert result.get() == 3
    assert [(r.retries, r.run, r.id, r.is_eager) for r in unlucky.requests] == [
        (0, 0, result.id, True),
        (1, 1, result.id, True),
        (2, 2, result.id, True),
    ]


def test_retries_end_where_the_task_says(app: TaskQ) -> None:
    unlucky = Unlucky(99)

    result = task(app, unlucky, max_retries=2).delay()

    assert unlucky.attempts == 3
    assert result.failed()


def test_the_last_failure_propagates_and_those_before_it_do_not(strict: TaskQ) -> None:
    assert task(strict, Unlucky(2), max_retries=2).delay().get() == 3
    with pytest.raises(Away, match="3"):
        strict.task(name="u", max_retries=2)(Unlucky(3)).delay()


def test_a_task_that_asks_for_a_retry_gets_its_new_arguments(app: TaskQ) -> None:
    seen: list[list[int]] = []

    @app.task(bind=True, name="t")
    def countdown(self: Task[..., Any], left: list[int]) -> str:
        seen.append(left)
        if left:
            raise self.retry(args=(left[1:],), countdown=60)
        return "done"

    assert countdown.delay([1, 2]).get() == "done"
    assert seen == [[1, 2], [2], []]


def test_a_retry_that_never_ends_is_stopped_with_the_cure(app: TaskQ) -> None:
    unlucky = Unlucky(10**9)

    with pytest.raises(ImproperlyConfigured, match="max_retries") as caught:
        task(app, unlucky, max_retries=None, autoretry_for=[Away]).delay()

    assert unlucky.attempts == MOST_RETRIES + 1
    assert isinstance(caught.value.__cause__, Away)


def test_a_retry_is_not_raised_through_delay(strict: TaskQ) -> None:
    @strict.task(name="t", bind=True, max_retries=1)
    def again(self: Task[..., Any]) -> int:
        if not self.request.retries:
            raise Retry
        return self.request.retries

    assert again.delay().get() == 1


def test_a_delay_is_not_waited_for(app: TaskQ) -> None:
    adds = task(app, add)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)

    assert adds.apply_async((1,), countdown=3600).get() == 1
    assert adds.apply_async((2,), eta=later).get() == 2


@pytest.fixture
def frozen() -> TaskQ:
    """One for which it is `NOW`."""
    clock = VirtualClock(frozen=True)
    clock.offset = NOW - clock.now()
    return TaskQ("shop", broker="nosuch://nowhere", clock=clock, task_always_eager=True)


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(NOW + seconds, dt.UTC)


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"expires": 10}, "SUCCESS"),
        ({"expires": 0}, "REVOKED"),
        ({"expires": at(10)}, "SUCCESS"),
        ({"expires": at(-10)}, "REVOKED"),
        ({"countdown": 9, "expires": 10}, "SUCCESS"),
        ({"countdown": 10, "expires": 10}, "REVOKED"),
        ({"eta": at(9), "expires": at(10)}, "SUCCESS"),
        ({"eta": at(11), "expires": 10}, "REVOKED"),
        ({"eta": at(-60), "expires": 10}, "SUCCESS"),
    ],
)
def test_a_task_that_would_expire_before_it_is_due_is_revoked(
    frozen: TaskQ, options: Any, state: str
) -> None:
    assert task(frozen, add).apply_async((1,), **options).state == state


@pytest.mark.parametrize(("expires", "attempts"), [(20, 2), (20.5, 3)])
def test_a_task_that_would_expire_before_its_retry_is_revoked(
    frozen: TaskQ, expires: float, attempts: int
) -> None:
    unlucky = Unlucky(5)
    frozen.conf.task_eager_propagates = True

    with pytest.raises(TaskRevokedError):
        task(frozen, unlucky, max_retries=5, default_retry_delay=10).apply_async(expires=expires)

    assert unlucky.attempts == attempts


def test_a_dropped_result_is_not_to_be_had_here_either(app: TaskQ) -> None:
    result = task(app, add, ignore_result=True).delay(1)

    assert (result.state, result.ready()) == ("PENDING", False)
    with pytest.raises(UnknownResult, match="ignore_result"):
        result.get()
    with pytest.raises(UnknownResult, match="ignore_result"):
        app.bulk([app.tasks["t"].s(1)])[0].get()


def test_a_forgotten_result_is_gone(app: TaskQ) -> None:
    result = task(app, add).delay(1)

    result.forget()

    assert (result.state, result.known) == ("PENDING", False)
    with pytest.raises(UnknownResult, match="no task"):
        result.get()
