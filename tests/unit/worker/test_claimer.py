"""What a worker claims, holds and gives back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from taskq.contract.delivery import Delivery
from taskq.contract.message import Message
from taskq.contract.settlement import Release, Settlement
from taskq.worker.claimer import NOT_HELD, Claimer
from taskq.worker.options import WorkerOptions
from taskq.worker.outage import Outage
from taskq.worker.shelf import Held, Shelf
from taskq.worker.tuner import Tuner

from .bench import QUEUE, Bench, eventually, running


def delivery(id: object, losses: int = 0) -> Delivery:
    return Delivery(Message(str(id), "default", b""), f"token-{id}", 0.0, 0.0, losses=losses)


class Source:
    """A consumer that hands out what it was given, and notes what it was asked and told."""

    def __init__(self) -> None:
        self.batches: list[list[Delivery]] = []
        self.asked: list[dict[str, Any]] = []
        self.settlements: list[Settlement] = []

    def reserve(self, queues: list[str], /, **asked: Any) -> list[Delivery]:
        self.asked.append({"queues": list(queues), **asked})
        return self.batches.pop(0) if self.batches else []

    def settle(self, settlements: list[Settlement], /) -> list[Delivery]:
        self.settlements += settlements
        return []


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq.worker.claimer.LOOK_AGAIN", 0.05)


class Desk:
    """A claimer whose steps the test calls; `idle` slots really sleep on the shelf."""

    def __init__(self, slots: int, *, idle: int, **options: Any) -> None:
        chosen = WorkerOptions(concurrency=slots, **options).resolved("default")
        self.source = Source()
        self.shelf = Shelf(slots)
        self.tuner = Tuner(slots, prefetch=chosen.prefetch, prefetch_max=chosen.prefetch_max)
        self.settlements = self.source.settlements
        self.taken: list[Held] = []
        self.claimer = Claimer(
            self.source,  # type: ignore[arg-type]
            self.shelf,
            self.tuner,
            chosen,
            self.settlements.append,
            outage=Outage(),
            on_death=lambda service, error: None,
        )
        self._threads = [threading.Thread(target=self._slot, daemon=True) for _ in range(idle)]
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.shelf.idle == idle)

    def _slot(self) -> None:
        """Take one delivery and work on it for ever."""
        if (held := self.shelf.take()) is not None:
            self.taken.append(held)

    def close(self) -> None:
        self.shelf.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(2, idle=2)
    yield desk
    desk.close()


@pytest.fixture
def busy() -> Iterator[Desk]:
    """All slots at work on short tasks, so that more is held than slots."""
    desk = Desk(2, idle=0)
    desk.tuner.clocks[0].done = 1000
    desk.tuner.clocks[0].busy = 1.0
    yield desk
    desk.close()


def test_an_idle_worker_waits_in_the_claim_for_as_many_as_it_has_slots(desk: Desk) -> None:
    desk.claimer.run_once()

    (asked,) = desk.source.asked
    assert (asked["limit"], asked["lease"], asked["wait"]) == (2, 30.0, 1.0)


def test_a_short_lease_makes_short_waits() -> None:
    desk = Desk(1, idle=1, visibility_timeout=0.6)
    desk.claimer.run_once()

    assert desk.source.asked[0]["wait"] == pytest.approx(0.1)
    desk.close()


def test_what_is_claimed_is_reckoned_from_before_the_call(desk: Desk) -> None:
    before = time.monotonic()
    desk.source.batches = [[delivery(1)]]
    desk.claimer.run_once()

    (held,) = eventually(lambda: desk.taken)
    assert held.until == pytest.approx(before + 30.0, abs=0.5)


def test_with_all_slots_at_work_nothing_is_claimed() -> None:
    desk = Desk(2, idle=0)

    desk.claimer.run_once()

    assert desk.source.asked == []
    desk.close()


def test_a_busy_shelf_is_refilled_without_waiting(busy: Desk) -> None:
    busy.source.batches = [[delivery(1)]]
    busy.claimer.run_once()

    (asked,) = busy.source.asked
    assert asked["limit"] == 98
    assert asked["wait"] == 0.0
    assert busy.shelf.waiting == 1


def test_a_message_with_a_loss_starts_at_once_where_a_slot_is_free(desk: Desk) -> None:
    desk.source.batches = [[delivery(1), delivery(2, losses=1)]]
    desk.claimer.run_once()

    eventually(lambda: len(desk.taken) == 2)
    assert desk.settlements == []


def test_a_message_with_a_loss_is_never_held_unstarted(busy: Desk) -> None:
    fresh, lost = delivery(1), delivery(2, losses=1)
    busy.source.batches = [[fresh, lost]]
    busy.claimer.run_once()

    assert busy.settlements == [Release(lost, NOT_HELD)]
    assert [held.delivery for held in busy.shelf.held()] == [fresh]


def test_more_losses_than_free_slots_are_turned_away() -> None:
    desk = Desk(2, idle=1)
    lost = [delivery(n, losses=1) for n in range(3)]
    desk.source.batches = [lost]
    desk.claimer.run_once()

    eventually(lambda: len(desk.taken) == 1)
    assert desk.taken[0].delivery == lost[0]
    assert desk.settlements == [Release(lost[1], NOT_HELD), Release(lost[2], NOT_HELD)]
    desk.close()


def test_as_long_as_nearly_all_have_a_loss_only_as_many_are_claimed_as_may_start() -> None:
    desk = Desk(8, idle=8)
    lost = [delivery(n, losses=1) for n in range(20)]
    # The first claim starts one; it is on trial, and the next ones look past what must wait.
    desk.source.batches = [lost[:8], lost[8:9], lost[9:11], [delivery("x")], []]
    for _ in range(5):
        desk.claimer.run_once()
        eventually(lambda: not desk.shelf.waiting)

    assert [asked["limit"] for asked in desk.source.asked] == [8, 1, 2, 4, 6]
    assert [held.delivery.id for held in desk.taken] == ["0", "x"]
    desk.close()


def test_after_that_only_free_slots_are_claimed_for_until_it_may_have_come_again(
    busy: Desk,
) -> None:
    busy.source.batches = [[delivery(1, losses=1)]]
    busy.claimer.run_once()
    assert len(busy.source.asked) == 1

    busy.claimer.run_once()
    assert len(busy.source.asked) == 1, "no slot is free, so nothing is claimed"

    def asked_again() -> bool:
        busy.tuner.clocks[0].done += 100
        busy.tuner.clocks[0].busy += 0.1
        busy.claimer.run_once()
        return len(busy.source.asked) == 2

    eventually(asked_again, 1)


def test_what_waited_for_a_second_is_given_back() -> None:
    desk = Desk(1, idle=0)
    old = delivery(1)
    now = time.monotonic()
    waiting = [Held(old, now - 1.1, now + 30), Held(delivery(2), now, now + 30)]
    desk.shelf.record(waiting)
    desk.shelf.add(waiting)

    desk.claimer.run_once()

    assert desk.settlements == [Release(old)]
    assert desk.shelf.waiting == 1
    desk.close()


def test_a_claim_that_comes_back_after_the_end_is_given_back(desk: Desk) -> None:
    late = delivery(1)
    desk.source.batches = [[late]]
    desk.claimer.stop()
    desk.claimer.run_once()

    assert desk.settlements == [Release(late)]
    assert desk.taken == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("strict", [["a", "b", "c"]] * 4),
        ("rotate", [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]),
    ],
)
def test_queues_are_asked_in_the_order_wanted(order: str, expected: list[list[str]]) -> None:
    desk = Desk(1, idle=1, queues=("a", "b", "c"), queue_order=order)

    for _ in range(4):
        desk.claimer.run_once()

    assert [asked["queues"] for asked in desk.source.asked] == expected
    desk.close()


# With a whole worker


def test_long_tasks_leave_nothing_waiting_in_the_worker(live: Bench) -> None:
    go = threading.Event()
    started = threading.Semaphore(0)

    @live.app.task(name="long")
    def long() -> None:
        started.release()
        go.wait(5)

    live.app.bulk([long.s() for _ in range(6)])
    with running(live.app, concurrency=2):
        assert started.acquire(timeout=2)
        assert started.acquire(timeout=2)

        assert (live.stats().processing, live.stats().ready) == (2, 4)
        go.set()
        eventually(lambda: live.empty)


def test_long_tasks_after_short_ones_are_not_hoarded(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq.worker.claimer.LONGEST_ON_SHELF", 0.2)
    go = threading.Event()

    @live.app.task(name="short", ignore_result=True)
    def short() -> None: ...

    @live.app.task(name="long", ignore_result=True)
    def long() -> None:
        go.wait(10)

    live.app.bulk([short.s() for _ in range(2000)])
    with running(live.app, concurrency=2):
        eventually(lambda: live.empty)
        live.app.bulk([long.s() for _ in range(2000)])
        eventually(lambda: live.stats().processing >= 2)

        eventually(lambda: (live.stats().processing, live.stats().ready) == (2, 1998), 3)
        reserves = live.script.calls["reserve"]
        time.sleep(0.3)
        assert live.script.calls["reserve"] == reserves, "it claims and gives back in circles"
        live.app.broker.purge("default")
        go.set()
        eventually(lambda: live.empty)


def test_a_message_with_a_loss_is_not_starved_by_a_stocked_shelf(live: Bench) -> None:
    ran = threading.Event()
    stop = threading.Event()

    @live.app.task(name="short", ignore_result=True)
    def short() -> None:
        if not stop.is_set():
            short.delay()

    @live.app.task(name="lost", ignore_result=True)
    def lost() -> None:
        ran.set()

    live.app.bulk([short.s() for _ in range(3000)])
    lost.apply_async(queue="aside")
    # Its lease ends when the worker has long been stocked.
    assert len(live.app.broker.reserve(["aside"], limit=1, lease=0.3)) == 1
    with running(live.app, concurrency=2, queues=("aside", QUEUE)):
        eventually(lambda: live.stats().processing > 100)
        assert ran.wait(3)
        stop.set()
        eventually(lambda: live.empty)


def test_slow_tasks_do_not_hold_up_thousands_of_fast_neighbours(live: Bench) -> None:
    fast: list[float] = []

    @live.app.task(name="fast", ignore_result=True)
    def quick() -> None:
        fast.append(time.monotonic())

    @live.app.task(name="slow", ignore_result=True)
    def slow() -> None:
        time.sleep(0.5)

    calls = [quick.s() for _ in range(2000)]
    for place in (100, 700, 1300):
        calls.insert(place, slow.s())
    live.app.bulk(calls)
    start = time.monotonic()
    with running(live.app, concurrency=8):
        eventually(lambda: len(fast) == 2000)
        assert max(fast) - start < 0.45, "before the first slow one has ended"
        eventually(lambda: live.empty)
