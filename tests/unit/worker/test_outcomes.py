"""What becomes of a task that ran."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest

from taskq import Retry
from taskq.app.request import current_request
from taskq.contract.settlement import Ack, Dead
from taskq.errors import ImproperlyConfigured, MaxRetriesExceededError, UnknownResult

from .bench import Bench


class Flaw(Exception):
    pass


def test_a_task_that_returns_is_gone_and_its_result_is_kept(bench: Bench) -> None:
    @bench.app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(4, 5)
    bench.step()

    assert result.get(timeout=0) == 9
    assert bench.empty


@pytest.mark.parametrize(
    ("by_app", "by_task", "by_call", "ignored"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (True, False, None, False),
        (False, True, None, True),
        (False, True, False, False),
        (False, None, True, True),
        (True, True, False, False),
    ],
)
def test_the_closest_wish_decides_whether_a_result_is_kept(
    by_app: bool, by_task: bool | None, by_call: bool | None, ignored: bool
) -> None:
    bench = Bench(task_ignore_result=by_app)
    options: Any = {} if by_task is None else {"ignore_result": by_task}

    one = bench.app.task(name="one", **options)(lambda: 1)
    result = one.apply_async((), ignore_result=by_call)
    bench.step()

    assert bench.empty
    assert (bench.app.results.fetch([result.id]) == {}) is ignored
    if ignored:
        with pytest.raises(UnknownResult):
            result.get(timeout=0)


def test_a_failed_task_of_ignored_result_is_still_a_dead_letter(bench: Bench) -> None:
    @bench.app.task(name="fail", ignore_result=True)
    def fail() -> None:
        raise Flaw("broken")

    result = fail.delay()
    bench.step()

    assert bench.letter().code == "failed"
    assert bench.letter().detail == "Flaw: broken"
    assert bench.app.results.fetch([result.id]) == {}


def test_an_expected_exception_is_a_failure_but_no_dead_letter(bench: Bench) -> None:
    @bench.app.task(name="fail", throws=(KeyError,), max_retries=3)
    def fail() -> None:
        raise KeyError("x")

    result = fail.delay()
    bench.step()

    assert bench.empty
    with pytest.raises(KeyError):
        result.get(timeout=0)


def test_an_exception_without_a_stated_policy_is_final_at_once(bench: Bench) -> None:
    @bench.app.task(name="fail")
    def fail() -> None:
        raise Flaw("broken")

    result = fail.delay()
    bench.step()

    assert bench.letter().code == "failed"
    assert result.failed()
    with pytest.raises(Flaw, match="broken"):
        result.get(timeout=0)
    assert "raise Flaw" in (result.traceback or "")


def test_stated_retries_are_used_up_and_then_the_task_is_dead(bench: Bench) -> None:
    runs: list[int] = []

    @bench.app.task(name="fail", bind=True, max_retries=2, default_retry_delay=10)
    def fail(self: Any) -> None:
        runs.append(self.request.retries)
        raise Flaw("again")

    result = fail.delay()
    bench.step()

    assert result.state == "RETRY"
    assert bench.stats().scheduled == 1
    assert bench.step(after=9.9) == []

    bench.step(after=0.2)
    bench.step(after=10)

    assert runs == [0, 1, 2]
    letter = bench.letter()
    assert (letter.code, letter.retries, letter.losses) == ("retries_exhausted", 2, 0)
    with pytest.raises(Flaw):
        result.get(timeout=0)


def test_backoff_alone_makes_every_exception_a_reason_to_retry(bench: Bench) -> None:
    @bench.app.task(name="fail", retry_backoff=4, retry_jitter=False)
    def fail() -> None:
        raise Flaw

    fail.delay()
    bench.step()

    assert bench.step(after=3.9) == []
    assert len(bench.step(after=0.2)) == 1
    assert bench.step(after=7.9) == []
    assert len(bench.step(after=0.2)) == 1


@pytest.mark.parametrize("narrowed", [(), (KeyError,)])
def test_autoretry_for_narrows_what_is_retried(bench: Bench, narrowed: Any) -> None:
    @bench.app.task(name="fail", max_retries=5, autoretry_for=narrowed)
    def fail() -> None:
        raise Flaw

    fail.delay()
    bench.step()

    assert bench.letter().code == "failed"


def test_autoretry_for_alone_retries_three_times(bench: Bench) -> None:
    @bench.app.task(name="fail", autoretry_for=(Flaw,), default_retry_delay=1)
    def fail() -> None:
        raise Flaw

    fail.delay()
    for _ in range(4):
        bench.step(after=1)

    assert (bench.letter().code, bench.letter().retries) == ("retries_exhausted", 3)


def test_a_task_retries_itself_with_another_countdown_and_other_arguments(bench: Bench) -> None:
    @bench.app.task(name="count", bind=True)
    def count(self: Any, n: int, *, up: int = 1) -> int:
        if n < 3:
            raise self.retry(args=(n + up,), kwargs={"up": 2}, countdown=7)
        return n

    result = count.delay(0)
    bench.step()

    assert bench.step(after=6.9) == []
    bench.step(after=0.2)
    bench.step(after=7)

    assert result.get(timeout=0) == 3
    assert bench.empty


def test_a_task_retries_itself_at_an_instant(bench: Bench) -> None:
    @bench.app.task(name="later", bind=True)
    def later(self: Any) -> str:
        if self.request.retries:
            return "done"
        raise self.retry(eta=dt.datetime.fromtimestamp(time.time() + 60, dt.UTC))

    result = later.delay()
    bench.step()

    assert bench.step(after=58) == []
    bench.step(after=3)
    assert result.get(timeout=0) == "done"


def test_retry_with_an_exception_shows_it_until_and_after_the_end(bench: Bench) -> None:
    @bench.app.task(name="fail", bind=True)
    def fail(self: Any) -> None:
        try:
            raise Flaw("cause")
        except Flaw as error:
            raise self.retry(exc=error, max_retries=1, countdown=0) from error

    result = fail.delay()
    bench.step()

    assert isinstance(result.result, Flaw)

    bench.step()
    assert bench.letter().code == "retries_exhausted"
    with pytest.raises(Flaw, match="cause"):
        result.get(timeout=0)


def test_retry_without_an_exception_ends_in_max_retries_exceeded(bench: Bench) -> None:
    @bench.app.task(name="fail", bind=True, max_retries=0)
    def fail(self: Any) -> None:
        raise self.retry()

    result = fail.delay()
    bench.step()

    assert bench.letter().code == "retries_exhausted"
    with pytest.raises(MaxRetriesExceededError):
        result.get(timeout=0)


def test_a_retry_with_a_nonsense_delay_is_that_tasks_failure_alone(bench: Bench) -> None:
    @bench.app.task(name="fail")
    def fail() -> None:
        raise Retry(delay="soon")  # type: ignore[arg-type]

    fail.delay()
    (settlement,) = bench.step()

    assert isinstance(settlement, Dead)
    assert bench.letter().code == "failed"


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("in_coroutine", [False, True])
def test_what_would_end_a_process_ends_the_task_only(
    bench: Bench, raised: BaseException, in_coroutine: bool
) -> None:
    def fail() -> None:
        raise raised

    async def afail() -> None:
        raise raised

    task = bench.app.task(name="fail", max_retries=3)(afail if in_coroutine else fail)
    result: Any = task.delay()
    bench.step()

    letter = bench.letter()
    assert letter.code == "failed"
    assert letter.detail.startswith(type(raised).__name__)
    assert result.failed()


def test_an_expired_task_is_revoked_without_running(bench: Bench) -> None:
    runs: list[int] = []

    @bench.app.task(name="run", expires=5)
    def run() -> None:
        runs.append(1)

    result = run.delay()
    bench.step(after=6)

    assert runs == []
    assert result.state == "REVOKED"
    assert bench.empty


def test_a_coroutine_function_is_awaited(bench: Bench) -> None:
    @bench.app.task(name="add")
    async def add(x: int, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    result = add.delay(1, 2)
    bench.step()

    assert result.get(timeout=0) == 3


def test_a_function_that_hands_on_a_coroutine_has_it_awaited(bench: Bench) -> None:
    async def inner() -> int:
        return 5

    result = bench.app.task(name="outer")(lambda: inner()).delay()
    bench.step()

    assert result.get(timeout=0) == 5


# The request


def test_a_request_tells_the_task_who_it_is(bench: Bench) -> None:
    seen: list[Any] = []

    @bench.app.task(name="look", bind=True, priority=7)
    def look(self: Any, x: int, *, y: int) -> None:
        seen.append(self.request)

    look.apply_async((1,), {"y": 2}, task_id="me", headers={"tenant": "a"})
    bench.step()

    (request,) = seen
    assert (request.id, request.task, request.queue) == ("me", "look", "default")
    assert (list(request.args), request.kwargs) == ([1], {"y": 2})
    assert (request.priority, request.headers) == (7, {"tenant": "a"})
    assert (request.retries, request.losses, request.run) == (0, 0, 0)
    assert (request.root_id, request.parent_id) == (None, None)
    assert request.hostname == "bench-worker"
    assert abs(request.created - time.time()) < 60
    assert request.called_directly is False
    assert request.lost is False
    assert current_request() is None


def test_a_lost_run_and_a_retry_are_counted_apart(bench: Bench) -> None:
    seen: list[tuple[int, int, int]] = []

    @bench.app.task(name="look", bind=True)
    def look(self: Any) -> None:
        seen.append((self.request.retries, self.request.losses, self.request.run))
        raise self.retry(countdown=0, max_retries=1)

    look.delay()
    assert len(bench.claim()) == 1
    bench.step(after=31)
    bench.step()

    assert seen == [(0, 1, 1), (1, 1, 2)]


def test_tasks_sent_by_tasks_know_parent_and_root(bench: Bench) -> None:
    seen: dict[str, tuple[str | None, str | None]] = {}

    @bench.app.task(name="nest", bind=True)
    def nest(self: Any, depth: int) -> None:
        seen[self.request.id] = (self.request.root_id, self.request.parent_id)
        if depth:
            nest.apply_async((depth - 1,), task_id=f"level-{depth - 1}")

    nest.apply_async((2,), task_id="level-2")
    for _ in range(3):
        bench.step()

    assert seen == {
        "level-2": (None, None),
        "level-1": ("level-2", "level-2"),
        "level-0": ("level-2", "level-1"),
    }
    assert bench.empty


def test_waiting_for_a_result_inside_a_task_is_refused_unless_allowed(bench: Bench) -> None:
    @bench.app.task(name="inner")
    def inner() -> int:
        return 1

    @bench.app.task(name="outer")
    def outer(id: str, allowed: bool) -> int:
        return bench.app.AsyncResult(id).get(timeout=0, disable_sync_subtasks=not allowed)  # type: ignore[no-any-return]

    known = inner.delay()
    bench.step()
    refused, allowed = outer.delay(known.id, allowed=False), outer.delay(known.id, allowed=True)
    bench.step()

    assert allowed.get(timeout=0) == 1
    with pytest.raises(ImproperlyConfigured, match="must not wait"):
        refused.get(timeout=0)


# Results and exceptions that do not travel


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Unreadable:
    def __repr__(self) -> str:
        raise Flaw("not even this")


class Exploding(dict[str, int]):
    def __iter__(self) -> Any:
        raise Flaw

    keys = items = values = __iter__


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "does not travel"),
        (cyclic(), "refers to itself"),
        ("x" * 3_000, "over result_limit"),
        (float("nan"), "NaN"),
        ("\ud800", "surrogate"),
        (Unreadable(), "Unreadable"),
        (-(2**20_000), "digits"),
    ],
    ids=["foreign", "cyclic", "huge", "nan", "surrogate", "unreadable", "digits"],
)
def test_a_result_that_does_not_travel_is_a_failure_without_retries(value: Any, named: str) -> None:
    bench = Bench(result_limit=2048)

    @bench.app.task(name="make", max_retries=3)
    def make() -> Any:
        return value

    result = make.delay()
    bench.step()

    letter = bench.letter()
    assert letter.code == "failed"
    assert letter.detail.startswith("ResultNotSerializable")
    assert named in letter.detail
    assert len(letter.detail) <= 1000
    with pytest.raises(Exception, match=named):
        result.get(timeout=0)


def test_a_result_whose_methods_raise_ends_only_its_own_task(bench: Bench) -> None:
    @bench.app.task(name="make")
    def make() -> Any:
        return {"inside": Exploding(a=1)}

    make.delay()
    (settlement,) = bench.step()

    assert isinstance(settlement, Ack | Dead)
    assert bench.deaths == []


class Mute(Exception):
    def __str__(self) -> str:
        raise Flaw("no words")

    __repr__ = __str__


class Hostile(Exception):
    """Ends a process by being looked at."""

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise SystemExit(1)

    def __str__(self) -> str:
        raise SystemExit(1)

    __repr__ = __str__


def test_an_exception_that_is_hostile_when_looked_at_ends_only_its_own_task(bench: Bench) -> None:
    @bench.app.task(name="fail")
    def fail() -> None:
        raise Hostile

    result = fail.delay()
    bench.step()

    assert bench.letter().code == "failed"
    assert result.failed()
