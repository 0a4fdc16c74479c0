"""A stepped worker does what it is told, when it is told, and nothing besides."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from taskq import TaskQ
from taskq.clock import VirtualClock
from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.plugins import Plugins
from taskq.testing.stepper import SERVICES, SteppedWorker, StillBusy


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(frozen=True)


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def app(clock: VirtualClock, plugins: Plugins) -> Iterator[TaskQ]:
    app = TaskQ("stepped", broker="memory://", clock=clock, plugins=plugins)
    yield app
    app.close()


def test_it_has_every_service_of_a_worker(app: TaskQ) -> None:
    stepped = SteppedWorker(app)

    assert set(stepped.services) == set(stepped.due) == set(SERVICES)


def test_nothing_happens_by_itself(app: TaskQ, clock: VirtualClock) -> None:
    ran: list[int] = []
    app.task(name="note")(ran.append).delay(1)
    stepped = SteppedWorker(app)

    clock.advance(3600.0)

    assert ran == []
    assert stepped.worker.shelf.waiting == 0
    assert app.broker.list_alive_workers() == []


def test_a_run_lasts_from_begin_to_finish(app: TaskQ) -> None:
    ran: list[int] = []
    app.task(name="note")(ran.append).delay(1)
    stepped = SteppedWorker(app)
    (slot,) = stepped.slots
    stepped.step("claim")

    begun = slot.begin()

    assert (begun, ran) == (True, [])
    assert slot.request is not None
    assert not slot.begin(), "one at a time"
    slot.finish()
    assert ran == [1]
    assert (slot.held, slot.begin()) == (None, False)


def test_a_slot_with_nothing_begun_has_nothing_to_finish(app: TaskQ) -> None:
    (slot,) = SteppedWorker(app).slots

    with pytest.raises(RuntimeError, match="begin"):
        slot.finish()


def test_what_is_stepped_is_due_again_after_its_pause(app: TaskQ, clock: VirtualClock) -> None:
    stepped = SteppedWorker(app, visibility_timeout=30.0)

    pause = stepped.step("leases")

    assert pause == 5.0
    assert stepped.due["leases"] == clock.now() + pause


def test_only_what_is_due_is_run(app: TaskQ, clock: VirtualClock) -> None:
    stepped = SteppedWorker(app, heartbeat_interval=5.0)
    stepped.beat()
    before = stepped.due["heartbeat"]

    stepped.run_due()

    assert stepped.due["heartbeat"] == before
    clock.advance(5.0)
    stepped.run_due()
    assert stepped.due["heartbeat"] > before


def test_a_service_that_dies_is_named_and_stepped_no_more(
    app: TaskQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(limit: int) -> int:
        raise LookupError("a bug")

    stepped = SteppedWorker(app)
    monkeypatch.setattr(app.broker, "poll_schedule", fail)

    assert stepped.step("schedule") == math.inf
    assert "schedule" in (stepped.death or "")
    assert "schedule" not in stepped.due
    assert stepped.step("schedule") == math.inf


def test_a_crash_leaves_the_lease_to_end(app: TaskQ, clock: VirtualClock) -> None:
    app.task(name="note")(print).delay(1)
    stepped = SteppedWorker(app, visibility_timeout=30.0)
    stepped.step("claim")
    stepped.slots[0].begin()

    stepped.crash()

    assert stepped.ended
    assert app.broker.reserve(["default"], limit=1, lease=30.0) == []
    clock.advance(30.0)
    (again,) = app.broker.reserve(["default"], limit=1, lease=30.0)
    assert again.losses == 1


def test_a_stop_gives_back_what_has_not_ended(
    app: TaskQ, clock: VirtualClock, plugins: Plugins
) -> None:
    other = TaskQ("other", broker="memory://", clock=clock, plugins=plugins)
    app.task(name="note")(print).delay(1)
    stepped = SteppedWorker(app)
    stepped.beat()
    stepped.step("claim")
    stepped.slots[0].begin()

    stepped.stop()

    (again,) = other.broker.reserve(["default"], limit=1, lease=30.0)
    assert (again.losses, again.releases) == (0, 1)
    assert other.broker.list_alive_workers() == []
    other.close()


def test_a_task_that_sends_itself_is_stopped(app: TaskQ) -> None:
    @app.task(name="again")
    def again() -> None:
        again.delay()

    again.delay()

    with pytest.raises(StillBusy):
        SteppedWorker(app).run_until_idle(limit=10)


def test_the_same_draw_makes_the_same_pauses(app: TaskQ) -> None:
    pauses = [SteppedWorker(app, draw=lambda: 0.5).step("schedule") for _ in range(2)]

    assert pauses[0] == pauses[1] == pytest.approx(0.95)


def test_it_needs_a_clock_that_can_be_moved() -> None:
    with pytest.raises(ImproperlyConfigured, match="clock"):
        SteppedWorker(TaskQ("real", broker="memory://"))


def test_unknown_services_and_options_are_refused(app: TaskQ) -> None:
    with pytest.raises(UnknownOption):
        SteppedWorker(app, nonsense=1)
    with pytest.raises(ValueError, match="no service"):
        SteppedWorker(app).step("nonsense")
