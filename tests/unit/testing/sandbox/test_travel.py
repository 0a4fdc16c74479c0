"""Letting time pass."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from taskq.clock import VirtualClock
from taskq.errors import ImproperlyConfigured, UnknownResult
from taskq.testing.sandbox import Sandbox
from taskq.testing.workbench import SandboxClock

from .conftest import HOUR, Shop, outcomes


def test_each_task_runs_at_its_own_instant(shop: Shop, box: Sandbox) -> None:
    start = box.now
    for delay in (30, 10, 20, 61):
        shop.add.apply_async((delay,), countdown=delay)
    shop.note.apply_async(("x",), eta=start + dt.timedelta(seconds=15))

    ran = box.travel(60)

    assert [(run.at - start).total_seconds() for run in ran] == [10, 15, 20, 30]
    assert box.now - start == dt.timedelta(minutes=1)
    assert box.travel(1)[0].value == 61


def test_travel_runs_what_is_ready_before_time_passes(shop: Shop, box: Sandbox) -> None:
    shop.flaky.delay(0)
    start = shop.app.clock.now()

    box.travel(5)

    assert shop.log == [(0, start)]


def test_what_is_due_when_the_journey_ends_has_run(shop: Shop, box: Sandbox) -> None:
    shop.note.apply_async(("x",), countdown=0.3)

    box.travel(0.1)
    assert shop.log == []
    box.travel(0.2)
    assert shop.log == ["x"]


def test_retries_come_when_their_delay_is_over(shop: Shop, box: Sandbox) -> None:
    result = shop.flaky.delay(2)
    start = shop.app.clock.now()

    assert outcomes(box.run()) == [("flaky", "RETRY")]
    assert result.state == "RETRY"
    ran = box.travel(HOUR)

    assert [(retries, at - start) for retries, at in shop.log] == [(0, 0), (1, 10), (2, 20)]
    assert outcomes(ran) == [("flaky", "RETRY"), ("flaky", "SUCCESS")]
    assert [run.retries for run in ran] == [1, 2]
    assert isinstance(ran[0].error, ConnectionError)
    assert result.get() == 2


def test_a_backoff_takes_the_whole_of_its_bound(shop: Shop, box: Sandbox) -> None:
    task = shop.app.task(name="t", retry_backoff=2, max_retries=3)(shop._fail)
    start = box.now
    task.delay()

    ran = box.travel(HOUR, propagate=False)

    assert [(run.at - start).total_seconds() for run in ran] == [0, 2, 6, 14]
    assert [run.dead for run in ran] == ["", "", "", "retries_exhausted"]


def test_a_task_that_is_given_up_on_the_way_stops_the_journey_there(
    shop: Shop, box: Sandbox
) -> None:
    start = box.now
    shop.fail.apply_async(countdown=10)
    shop.note.apply_async(("x",), countdown=20)

    with pytest.raises(ZeroDivisionError) as caught:
        box.travel(60)

    assert len(caught.value.__notes__) == 1
    assert box.now - start == dt.timedelta(seconds=10)
    assert shop.log == []


def test_a_task_that_expired_is_revoked(shop: Shop, box: Sandbox) -> None:
    shop.note.apply_async(("x",), countdown=20, expires=10)
    shop.note.apply_async(("y",), countdown=10, expires=20)

    ran = box.travel(60)

    assert outcomes(ran) == [("note", "SUCCESS"), ("note", "REVOKED")]
    assert ran[1].args == ("x",)
    assert shop.log == ["y"]


def test_a_task_that_expires_when_it_is_due_has_expired_at_whatever_time_of_day(
    shop: Shop, box: Sandbox
) -> None:
    for _ in range(50):
        shop.note.apply_async(("x",), countdown=0.1, expires=0.1)
        assert outcomes(box.travel(0.123457)) == [("note", "REVOKED")]


def test_a_result_is_gone_when_its_time_is_over(shop: Shop, box: Sandbox) -> None:
    shop.app.conf.result_expires = 100
    result = shop.add.delay(1)
    box.run()

    box.travel(99)
    assert result.get() == 1
    box.travel(1)
    with pytest.raises(UnknownResult):
        result.get()
    assert not box._store.results


def test_a_dead_letter_is_dropped_when_its_time_is_over(shop: Shop, box: Sandbox) -> None:
    shop.app.conf.dead_letter_expires = 100
    shop.fail.delay()
    box.run(propagate=False)

    box.travel(100)
    assert shop.app.broker.dead_letters("default")
    box.travel(1)
    assert not shop.app.broker.dead_letters("default")


def test_a_message_whose_holder_was_lost_runs_when_the_lease_is_over(
    shop: Shop, box: Sandbox
) -> None:
    start = box.now

    @shop.app.task(name="t")
    def look() -> int:
        return shop.request.losses

    look.delay()
    shop.app.broker.reserve(["default"], limit=1, lease=30)

    assert box.travel(29) == []
    (run,) = box.travel(31)
    assert run.at - start == dt.timedelta(seconds=30)
    assert run.value == 1


def test_many_lost_messages_come_back_in_one_journey(shop: Shop, box: Sandbox) -> None:
    for n in range(20):
        shop.note.apply_async((str(n),), queue=f"q{n % 3}")
    shop.app.broker.reserve(["q0", "q1", "q2"], limit=100, lease=30)

    box.travel(60)

    assert sorted(shop.log, key=int) == [str(n) for n in range(20)]


@pytest.mark.parametrize("wrong", [-1, -0.1, dt.timedelta(seconds=-1)])
def test_time_does_not_run_backwards(box: Sandbox, wrong: Any) -> None:
    with pytest.raises(ValueError, match="backwards"):
        box.travel(wrong)


@pytest.mark.parametrize("wrong", ["60", None, float("nan"), True])
def test_a_duration_is_seconds_or_a_timedelta(box: Sandbox, wrong: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="duration"):
        box.travel(wrong)


def test_a_task_cannot_travel(shop: Shop, box: Sandbox) -> None:
    shop.app.task(name="t")(lambda: box.travel(1) and None).delay()

    with pytest.raises(RuntimeError, match="cannot travel"):
        box.run()


def test_the_clock_of_the_application_can_be_advanced_too(shop: Shop, box: Sandbox) -> None:
    assert isinstance(shop.app.clock, VirtualClock)
    start = box.now
    shop.note.apply_async(("x",), countdown=60)

    shop.app.clock.advance(60.5)
    box.run()

    assert shop.log == ["x"]
    assert box.now - start == dt.timedelta(seconds=60.5)
    with pytest.raises(ValueError, match="backwards"):
        shop.app.clock.advance(-1)


def test_offset_and_instant_of_the_clock_belong_together() -> None:
    clock = SandboxClock()
    start = clock.now()

    clock.move_to(clock.after(0.1))
    clock.advance(0.2)

    assert clock.now() == pytest.approx(start + 0.3, abs=1e-6)
    assert clock.offset == clock.now() - start
