"""What else may be on a server, or happen to what is ours on it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Retry
from taskq.errors import ConnectionFailed, ImproperlyConfigured, SendError, ServerRefused
from taskq.url import Url
from taskq_amqp import desk
from taskq_amqp.broker import AmqpBroker
from taskq_amqp.names import Names
from taskq_amqp.options import Options
from tests.integration.amqp.conftest import Place
from tests.servers import _free_port as free_port


def item(id: str, **how: object) -> Send:
    return Send(Message(id, "q", b"envelope of " + id.encode()), **how)


@pytest.fixture
def other(place: Place) -> Iterator[BlockingChannel]:
    """Somebody else's channel to the same server."""
    options = Options.of(place.url)
    host, port = options.addresses[0]
    credentials = pika.PlainCredentials(options.username, options.password)
    parameters = pika.ConnectionParameters(host, port, options.virtual_host, credentials)
    connection = pika.BlockingConnection(parameters)
    yield connection.channel()
    if connection.is_open:
        connection.close()


def ids(broker: AmqpBroker, limit: int = 10) -> list[str]:
    return [delivery.id for delivery in broker.reserve(["q"], limit=limit, lease=30)]


def test_a_queue_that_is_deleted_is_made_again_by_who_sends(
    place: Place, other: BlockingChannel
) -> None:
    broker = place.open()
    broker.send([item("gone")])
    other.queue_delete(Names(place.url.namespace).ready("q", 10))

    broker.send([item("kept"), item("too")])

    assert ids(broker) == ["kept", "too"]


def test_a_step_that_is_deleted_is_made_again(place: Place, other: BlockingChannel) -> None:
    broker = place.open()
    broker.send([item("gone", delay=0.05)])
    other.queue_delete(Names(place.url.namespace).later("q", 0))

    broker.send([item("kept", delay=0.05)])

    found = broker.reserve(["q"], limit=1, lease=30, wait=5)
    assert [d.id for d in found][-1] in {"kept", "gone"}
    rest = broker.reserve(["q"], limit=1, lease=30, wait=0.5)
    assert "kept" in {d.id for d in [*found, *rest]}


def test_who_waits_for_a_queue_that_is_deleted_goes_on(
    place: Place, other: BlockingChannel
) -> None:
    waiter, sender = place.open(), place.open()
    sender.send([item("first")], timeout=5)
    [first] = waiter.reserve(["q"], limit=1, lease=30)
    found: list[str] = []

    def wait() -> None:
        deadline = time.monotonic() + 20
        while not found and time.monotonic() < deadline:
            got = waiter.reserve(["q"], limit=1, lease=30, wait=1)
            found.extend(delivery.id for delivery in got)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    other.queue_delete(Names(place.url.namespace).ready("q", 10))
    time.sleep(0.5)
    sender.send([item("second")])
    thread.join(30)

    assert found == ["second"]
    assert waiter.settle([Ack(first)]) == []


def test_a_queue_that_somebody_else_made_is_named(place: Place, other: BlockingChannel) -> None:
    name = Names(place.url.namespace).ready("q", 10)
    other.queue_declare(name, durable=True)

    with pytest.raises(SendError, match="made by somebody else") as raised:
        place.open().send([item("m")])

    assert raised.value.unsent == ("m",)
    assert "x-queue-type" in str(raised.value)
    other.queue_delete(name)


def test_what_is_no_message_of_ours_becomes_a_dead_letter(
    place: Place, other: BlockingChannel
) -> None:
    broker = place.open()
    broker.send([item("first")])
    name = Names(place.url.namespace).ready("q", 10)
    persistent = pika.BasicProperties(delivery_mode=2)
    for body in (b"", b"nonsense", b"q1" + b"\xff" * 70):
        other.basic_publish("", name, body, persistent)
    broker.send([item("last")])

    assert ids(broker) == ["first", "last"]

    letters = broker.dead_letters("q")
    assert [letter.code for letter in letters] == ["undecodable"] * 3
    assert {letter.message.envelope for letter in letters} == {
        b"", b"nonsense", b"q1" + b"\xff" * 70
    }  # fmt: skip


def test_a_password_that_is_wrong_is_refused_without_being_shown(place: Place) -> None:
    wrong = place.url.replace(username="guest", password="wrong-secret")
    broker = AmqpBroker(Options.of(wrong), SystemClock())

    with pytest.raises(ServerRefused, match="ACCESS_REFUSED") as raised:
        broker.check()

    assert "wrong-secret" not in str(raised.value)


def test_a_virtual_host_that_is_missing_is_named(place: Place) -> None:
    broker = AmqpBroker(Options.of(place.url.replace(path="/nowhere")), SystemClock())

    with pytest.raises(ServerRefused, match="nowhere"):
        broker.check()


def test_the_next_host_is_tried(place: Place) -> None:
    host, port = Options.of(place.url).addresses[0]
    url = place.url.replace(host="127.0.0.1", port=free_port(), query={"hosts": f"{host}:{port}"})
    broker = AmqpBroker(Options.of(url), SystemClock())
    try:
        broker.send([item("m")])
        assert ids(broker) == ["m"]
    finally:
        broker.close()


def test_each_host_that_does_not_answer_is_named() -> None:
    ports = free_port(), free_port()
    url = f"amqp://127.0.0.1:{ports[0]}?hosts=127.0.0.1:{ports[1]}"
    broker = AmqpBroker(Options.of(Url.parse(url)), SystemClock())

    with pytest.raises(ConnectionFailed) as raised:
        broker.stats()

    for port in ports:
        assert f"127.0.0.1:{port}" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://h?timeout=0", "timeout"),
        ("amqp://h?heartbeat=0", "heartbeat"),
        ("amqp://h?consumer_timeout=-1", "consumer_timeout"),
        ("amqp://h?tls_insecure=1", "amqps"),
        ("amqp://h?ca=x.pem", "amqps"),
        ("amqp://h?hosts=b:x", "hosts"),
        ("amqp://h?namespace=" + "n" * 101, "100 characters"),
        ("amqp://h?heartbeet=5", "heartbeat"),
    ],
)
def test_a_url_without_sense_is_refused_with_a_cure(url: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        Options.of(Url.parse(url))


def test_priorities_are_strict_over_all_levels(place: Place) -> None:
    broker = place.open()
    for priority in (3, 9, 0, 5, 7, 1, 8, 2, 6, 4):
        broker.send([Send(Message(f"p{priority}", "q", b"", priority))])
    [first] = broker.reserve(["q"], limit=1, lease=30)
    broker.settle([Retry(first)])
    broker.send([Send(Message("more", "q", b"", 9))])

    assert ids(broker, 4) == ["p9", "more", "p8", "p7"]
    assert ids(broker, 100) == ["p6", "p5", "p4", "p3", "p2", "p1", "p0"]


def test_all_that_is_declared_outlives_everything(place: Place, monkeypatch) -> None:
    """Nothing is declared that RabbitMQ 4 has removed: transient queues, global prefetch."""
    from taskq_amqp.transport import channel

    seen: list[object] = []
    real = channel.method
    monkeypatch.setattr(channel, "method", lambda n, m: seen.append(m) or real(n, m))
    broker = place.open()
    broker.send([item("m"), item("later", delay=0.1)])
    [m] = broker.reserve(["q"], limit=1, lease=30)
    broker.dead(m, code="failed")
    broker.dead_letters("q")
    broker.stats()

    kinds = {type(one).__name__ for one in seen}
    assert {"Declare", "Qos", "Consume"} <= kinds
    for one in seen:
        name = type(one).__qualname__
        if name == "Queue.Declare" and not one.passive:
            kind = (one.arguments or {}).get("x-queue-type")
            lasts = kind in {"quorum", "stream"} or "/wake/" in one.queue
            assert one.exclusive or (one.durable and lasts), one.queue
            assert not (one.auto_delete and not one.exclusive)
            assert "x-expires" not in (one.arguments or {})
        if name == "Exchange.Declare":
            assert one.durable
        if name == "Basic.Qos":
            assert not one.global_qos


def test_a_consumer_is_never_named_as_the_server_names_who_asks_for_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue keeps who asked for one message as a consumer named by its delivery tag."""
    monkeypatch.setattr(desk, "_numbers", itertools.count(1))
    broker = place.open()
    broker.send([item(f"one{n}") for n in range(3)])
    assert len(ids(broker, 3)) == 3  # asked for one by one, and held
    broker.send([item(f"many{n}") for n in range(2 * desk.FEW)])

    assert len(ids(broker, desk.FEW + 1)) == desk.FEW + 1


def test_what_is_held_is_counted_after_the_holder_lost_the_connection_that_publishes(
    place: Place,
) -> None:
    """Its answer to whoever counts goes that way, while what it holds hangs on another one."""
    broker, observer = place.open(), place.open()
    broker.send([item("m")])
    assert ids(broker) == ["m"]

    publisher = broker.open().lines.publishing
    assert publisher is not None
    publisher.channel.connection.abandon()

    assert [line.processing for line in observer.stats()] == [1]
