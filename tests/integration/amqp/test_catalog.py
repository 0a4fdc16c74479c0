"""The catalog, when those who write it die between its steps, or an operator deletes a part."""

from __future__ import annotations

import time

import pytest
from pika import spec

from taskq.contract.message import Message, Send
from taskq_amqp import catalog
from taskq_amqp.broker import AmqpBroker
from taskq_amqp.names import Names
from taskq_amqp.transport.publisher import Parcel
from tests.integration.amqp.conftest import Place


def item(id: str, priority: int = 5) -> Send:
    return Send(Message(id, "q", b"envelope", priority=priority))


def ids(broker: AmqpBroker) -> list[str]:
    return [delivery.id for delivery in broker.reserve(["q"], limit=10, lease=30)]


def put(broker: AmqpBroker, name: str, body: bytes) -> None:
    """Put a message into one of the catalog's queues, as a writer does who dies then."""
    publisher = broker.open().lines.publisher(time.monotonic() + 5)
    publisher.publish([Parcel("", name, body)], time.monotonic() + 5).check()


@pytest.fixture
def names(place: Place) -> Names:
    return Names(place.url.namespace)


def test_a_writer_who_died_before_his_entry_hides_nobody_elses(place: Place, names: Names) -> None:
    reader, sender = place.open(), place.open()
    reader.send([item("m")])
    assert ids(reader) == ["m"]
    put(sender, names.begun, b"died")

    for number, priority in enumerate((9, 0, 7)):
        sender.send([item(f"m{number}", priority)])
        assert ids(reader) == [f"m{number}"]


def test_an_entry_that_was_not_counted_is_entered_again_by_who_needs_it(
    place: Place, names: Names
) -> None:
    reader, sender = place.open(), place.open()
    reader.send([item("m")])
    assert ids(reader) == ["m"]
    # Somebody makes a level, enters it, and dies before he has told that he did.
    reader.open().catalog.need(catalog.DEAD, 0, "q", time.monotonic() + 5)
    put(sender, names.begun, b"ready 18 q")
    put(sender, names.catalog, b"ready 18 q")

    sender.send([item("urgent", 9)])

    assert ids(reader) == ["urgent"]


def test_the_count_of_what_was_begun_can_be_deleted(place: Place, names: Names) -> None:
    reader, sender = place.open(), place.open()
    reader.send([item("m")])
    assert ids(reader) == ["m"]
    channel = sender.open().lines.asking(time.monotonic() + 5)
    channel.call(spec.Queue.Delete(0, names.begun), deadline=time.monotonic() + 5)

    late = place.open()
    late.send([item("urgent", 9), item("idle", 0)])

    assert ids(reader) == ["urgent", "idle"]
    assert ids(place.open()) == []
