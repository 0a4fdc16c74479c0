"""Delays by the server's own time: never early, never lost, and nobody waits behind another."""

from __future__ import annotations

import time

from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Release
from taskq_amqp import posting
from taskq_amqp.names import UNIT
from tests.integration.amqp.conftest import Place


def message(id: str) -> Message:
    return Message(id, "q", b"envelope of " + id.encode())


def collect(place: Place, count: int) -> dict[str, float]:
    """Claim and acknowledge so many; return when each came."""
    broker = place.open()
    came: dict[str, float] = {}
    deadline = time.monotonic() + 30
    while len(came) < count and time.monotonic() < deadline:
        found = broker.reserve(["q"], limit=100, lease=30, wait=1)
        now = time.monotonic()
        for delivery in found:
            assert delivery.id not in came
            came[delivery.id] = now
        broker.settle([Ack(delivery) for delivery in found])
    return came


def test_each_delay_is_waited_out_whatever_was_sent_before(place: Place) -> None:
    sender = place.open()
    delays = {f"m{n:03}": n * 0.017 for n in range(120, 0, -1)}
    began = time.monotonic()
    sender.send([Send(message(id), delay=delay) for id, delay in delays.items()])
    sender.send([Send(message("again"), delay=1.3)])

    came = collect(place, 121)

    assert came.keys() == {*delays, "again"}
    for id, delay in delays.items():
        assert came[id] - began >= delay
    longest = max(delays, key=lambda id: delays[id])
    assert came["again"] < came[longest]


def test_a_message_never_comes_before_its_time(place: Place) -> None:
    sender, taker = place.open(), place.open()
    for delay in (0.05, 0.1, 0.25, 0.4, 0.85):
        began = time.monotonic()
        sender.send([Send(message("m"), delay=delay)])
        [found] = taker.reserve(["q"], limit=1, lease=30, wait=5)

        assert time.monotonic() - began >= delay
        taker.settle([Ack(found)])


def test_a_delay_beyond_all_steps_is_waited_out_in_several_ways(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(posting, "LONGEST", 0.35)
    monkeypatch.setattr(posting, "units_of", lambda delay: min(-(-round(delay * 1000) // UNIT), 7))
    sender, taker = place.open(), place.open()
    began = time.monotonic()
    sender.send([Send(message("m"), delay=1.2)])

    [found] = taker.reserve(["q"], limit=1, lease=30, wait=5)

    assert time.monotonic() - began >= 1.2
    assert (found.retries, found.losses, found.releases, found.run) == (0, 0, 0, 0)


def test_what_was_released_comes_before_what_was_sent_meanwhile(place: Place) -> None:
    broker = place.open()
    broker.send([Send(message("first"))])
    [first] = broker.reserve(["q"], limit=1, lease=30)
    broker.settle([Release(first, delay=0.2)])
    broker.send([Send(message("second"))])
    time.sleep(0.5)

    assert [d.id for d in broker.reserve(["q"], limit=5, lease=30)] == ["first", "second"]
