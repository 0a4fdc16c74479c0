"""Nothing is lost on the shelf, nothing taken twice, and no slot sleeps while something waits."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from taskq.app.request import Request
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message
from taskq.worker.shelf import Held, Shelf

from .bench import eventually

FAR = 3600.0


def held(id: object = "m", *, shelved: float = 0.0, left: float = FAR) -> Held:
    delivery = Delivery(Message(str(id), "default", b""), f"token-{id}", 0.0, 0.0)
    return Held(delivery, shelved, time.monotonic() + left)


def put(shelf: Shelf, batch: list[Held], *, first: bool = False) -> None:
    shelf.record(batch)
    shelf.add(batch, first=first)


class Slots:
    """Threads that take from a shelf and conclude at once what they took."""

    def __init__(self, shelf: Shelf, count: int) -> None:
        self.taken: deque[str] = deque()
        self._shelf = shelf
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (item := self._shelf.take()) is not None:
            self.taken.append(item.delivery.id)
            self._shelf.forget([item.delivery])

    def join(self) -> None:
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf(4)
    yield shelf
    shelf.close()


def test_what_is_added_is_taken_in_order_and_the_urgent_before(shelf: Shelf) -> None:
    put(shelf, [held(1), held(2)])
    put(shelf, [held(0)], first=True)

    assert [shelf.take().delivery.id for _ in range(3)] == ["0", "1", "2"]  # type: ignore[union-attr]


def test_a_delivery_whose_lease_ended_while_it_waited_is_not_started(shelf: Shelf) -> None:
    put(shelf, [late := held("late", left=-0.001), good := held("good")])

    taken = [shelf.take(), shelf.take()]

    assert taken == [late, good]
    assert not late.started
    assert good.started
    assert shelf.held() == [late, good], "leased until its release is settled"


def test_what_waits_too_long_is_taken_back_and_the_rest_stays(shelf: Shelf) -> None:
    put(shelf, [held("old", shelved=1.0), held("young", shelved=3.0)])

    back = shelf.take_back(2.0)

    assert [item.delivery.id for item in back] == ["old"]
    assert shelf.waiting == 1
    assert [item.delivery.id for item in shelf.unfinished()] == ["young"]
    assert len(shelf.held()) == 2, "leased until its release is settled"


def test_room_is_what_is_idle_less_what_waits(shelf: Shelf) -> None:
    slots = Slots(shelf, 4)
    eventually(lambda: shelf.idle == 4)
    assert shelf.room == 4

    shelf.close()
    slots.join()
    put(shelf, [held()])
    assert shelf.room == -1


def test_a_run_that_starts_after_its_lease_was_lost_is_told(shelf: Shelf) -> None:
    item = held()
    assert not item.lose()
    request = Request(id="m", task="t")

    item.start(request)

    assert request.lost


def test_a_loss_is_news_once(shelf: Shelf) -> None:
    item = held()
    item.start(Request(id="m", task="t"))

    assert item.lose()
    assert not item.lose()


def test_closing_ends_slots_that_sleep_and_leaves_what_waits() -> None:
    shelf = Shelf(4)
    slots = Slots(shelf, 4)
    eventually(lambda: shelf.idle == 4)

    shelf.close()

    slots.join()
    put(shelf, [held()])
    assert shelf.take() is None
    assert shelf.waiting == 1


def test_waiting_for_room_ends_when_a_slot_is_idle(shelf: Shelf) -> None:
    ended = threading.Event()

    def wait() -> None:
        shelf.await_room(0, 5.0)
        ended.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert not ended.is_set()
    slots = Slots(shelf, 1)

    assert ended.wait(2)
    shelf.close()
    slots.join()


def test_no_slot_sleeps_on_what_a_look_at_the_shelf_put_back() -> None:
    """`take_back` has the first delivery in its hand for a moment; a slot may look just then."""
    shelf = Shelf(1)
    slots = Slots(shelf, 1)
    eventually(lambda: shelf.idle == 1)

    class Peeking(deque[Any]):
        """A shelf on which a slot falls asleep between the look and the putting back."""

        def appendleft(self, item: Any) -> None:
            assert shelf.idle == 1
            super().appendleft(item)

    shelf._waiting = Peeking([held("m", shelved=9.0)])
    assert shelf.take_back(1.0) == []

    eventually(lambda: list(slots.taken) == ["m"])
    shelf.close()
    slots.join()


@pytest.mark.parametrize("seed", range(2))
def test_under_stress_everything_is_taken_or_given_back_exactly_once(seed: int) -> None:
    draw = random.Random(seed)
    shelf = Shelf(8)
    slots = Slots(shelf, 8)
    back: list[str] = []
    sent = 0

    deadline = time.monotonic() + 0.25
    while time.monotonic() < deadline:
        now = time.monotonic()
        count = draw.choice([1, 1, 2, 5, 50])
        batch = [held(sent + n, shelved=now - draw.random()) for n in range(count)]
        sent += count
        put(shelf, batch, first=draw.random() < 0.3)
        if draw.random() < 0.5:
            gone = shelf.take_back(now - draw.random())
            shelf.forget([item.delivery for item in gone])
            back += [item.delivery.id for item in gone]
        if draw.random() < 0.2:
            shelf.await_room(draw.choice([0, 3]), 0.01)
        if draw.random() < 0.1:
            # Nobody adds anything now: what waits must be found by the slots themselves.
            eventually(lambda: shelf.waiting == 0 and shelf.idle == 8)

    eventually(lambda: shelf.waiting == 0 and shelf.idle == 8)
    shelf.close()
    slots.join()
    assert sorted([*slots.taken, *back], key=int) == [str(n) for n in range(sent)]
    assert shelf.held() == []
