from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq import MaxRetriesExceededError, Request, Retry, TaskQ
from taskq.app.definition import retry_policy
from taskq.app.request import enter, leave
from taskq.app.retry import RetryPolicy
from taskq.app.task import Task
from taskq.errors import ImproperlyConfigured
from taskq.wire import envelope


@given(
    retries=st.integers(0, 10**6),
    backoff=st.floats(0.001, 1e6),
    longest=st.floats(0, 1e6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_backoff_doubles_up_to_its_bound_and_jitter_only_shortens(
    retries: int, backoff: float, longest: float, draw: float
) -> None:
    policy = RetryPolicy(backoff=backoff, backoff_max=longest, jitter=False)
    jittery = RetryPolicy(backoff=backoff, backoff_max=longest)

    delay = policy.delay(retries)

    assert delay == min(backoff * 2.0 ** min(retries, 64), longest)
    assert 0 <= jittery.delay(retries, lambda: draw) <= delay
    assert policy.delay(retries + 1) >= delay


def test_without_backoff_the_delay_is_the_tasks_own() -> None:
    assert RetryPolicy(default_delay=7.0).delay(5) == 7.0


@pytest.mark.parametrize(
    ("options", "error", "wanted"),
    [
        ({}, ValueError, False),
        ({"max_retries": 5}, ValueError, True),
        ({"max_retries": 0}, ValueError, True),
        ({"max_retries": None}, ValueError, True),
        ({"max_retries": 5}, KeyboardInterrupt, False),
        ({"retry_backoff": True}, ValueError, True),
        ({"retry_backoff": False}, ValueError, False),
        ({"max_retries": 5, "autoretry_for": ()}, ValueError, False),
        ({"max_retries": 5, "autoretry_for": (KeyError,)}, ValueError, False),
        ({"autoretry_for": [LookupError]}, KeyError, True),
        ({"autoretry_for": LookupError}, KeyError, True),
    ],
)
def test_stating_retries_makes_every_exception_a_reason(
    options: dict[str, Any], error: type[BaseException], wanted: bool
) -> None:
    assert retry_policy(options).wants(error()) is wanted


@pytest.mark.parametrize(
    ("limit", "retries", "over"), [(3, 2, False), (3, 3, True), (0, 0, True), (None, 10**9, False)]
)
def test_retries_are_used_up_at_the_limit(limit: int | None, retries: int, over: bool) -> None:
    assert RetryPolicy(max_retries=limit).exhausted(retries) is over


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"default_retry_delay": -1},
        {"default_retry_delay": "soon"},
        {"retry_backoff": -1},
        {"retry_backoff": float("nan")},
        {"retry_backoff_max": float("inf")},
        {"autoretry_for": (ValueError, "KeyError")},
        {"throws": 5},
        {"max_deliveries": 1},
        {"max_deliveries": 2.5},
        {"priority": 10},
        {"expires": "soon"},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(app: TaskQ, options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        app.task(name="t", **options)(print)

    assert app.tasks == {}


def test_durations_may_be_timedeltas() -> None:
    policy = retry_policy(
        {"retry_backoff": dt.timedelta(seconds=2), "retry_backoff_max": dt.timedelta(hours=1)}
    )

    assert (policy.backoff, policy.backoff_max) == (2.0, 3600.0)


@pytest.fixture
def task(app: TaskQ) -> Task[..., Any]:
    return app.task(name="t", max_retries=2)(print)


def run(task: Task[..., Any], retries: int, **options: Any) -> BaseException:
    """Call `task.retry` in a run that was retried so often; return what it raised."""
    request = Request(id="i", task="t", args=(1,), kwargs={"k": 2}, queue="q", retries=retries,
                      meta={"root": "r", "ignore_result": True}, headers={"h": 1})  # fmt: skip
    token = enter(request)
    try:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - each test looks itself
            task.retry(**options)
    finally:
        leave(token)
    return caught.value


def test_retry_asks_for_another_run(task: Task[..., Any]) -> None:
    error = run(task, 0, exc=ValueError("x"), countdown=dt.timedelta(seconds=5))

    assert isinstance(error, Retry)
    assert (error.delay, error.envelope) == (5.0, None)
    assert isinstance(error.cause, ValueError)
    assert error.__cause__ is error.cause


def test_retry_without_a_time_leaves_it_to_the_policy(task: Task[..., Any]) -> None:
    error = run(task, 1)

    assert isinstance(error, Retry)
    assert error.delay is None


def test_retry_at_an_instant_that_has_passed_is_now(task: Task[..., Any]) -> None:
    error = run(task, 0, eta=dt.datetime(2000, 1, 1, tzinfo=dt.UTC))

    assert isinstance(error, Retry)
    assert error.delay == 0.0
    assert isinstance(run(task, 0, eta=dt.datetime(2000, 1, 1)), ImproperlyConfigured)  # noqa: DTZ001


def test_used_up_retries_raise_the_cause_or_say_so(task: Task[..., Any]) -> None:
    cause = ValueError("x")

    assert isinstance(run(task, 2), MaxRetriesExceededError)
    assert run(task, 2, exc=cause) is cause
    assert isinstance(run(task, 2, max_retries=3), Retry)


def test_retry_with_other_arguments_replaces_only_them(task: Task[..., Any]) -> None:
    error = run(task, 0, args=(7,))

    assert isinstance(error, Retry)
    assert error.envelope is not None
    header, body = envelope.read(error.envelope)
    assert (header.id, header.task, header.queue) == ("i", "t", "q")
    assert (header.meta, header.headers) == ({"root": "r", "ignore_result": True}, {"h": 1})
    assert body == b'[[7],{"k":2}]'
    assert isinstance(run(task, 0, args="7"), TypeError)


def test_a_task_called_directly_does_not_retry(app: TaskQ) -> None:
    @app.task(bind=True, name="direct")
    def direct(self: Task[..., Any], error: Exception | None) -> None:
        raise self.retry(exc=error)

    with pytest.raises(Retry, match="called directly"):
        direct(None)
    with pytest.raises(KeyError):
        direct(KeyError())
