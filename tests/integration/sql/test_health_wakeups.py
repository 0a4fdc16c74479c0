"""Who waits for work is woken by what other processes do, and needs nobody to wake it.

Polling is put off for so long that a test which depends on it fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from taskq.clock import SystemClock
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.ids import new_id
from taskq.url import Url
from taskq_sql import broker as broker_module
from taskq_sql import listener as listener_module
from taskq_sql import plugin, schema
from taskq_sql.broker import SqlBroker
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.listener import Listener
from tests.integration.sql.conftest import sends
from tests.servers import missing
from tests.sql_servers import find_postgresql
from tests.waiting import until

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")
LONG = 600.0
OpenClient = Callable[..., SqlBroker]


def open_client(url: str, namespace: str, **options: str) -> SqlBroker:
    parsed = Url.parse(url)
    named = parsed.replace(namespace=namespace, query={**parsed.query, **options})
    broker = plugin.taskq_open_broker(named, SystemClock())
    assert broker is not None
    return broker


def send_one(url: str, namespace: str, id: str, options: dict[str, str]) -> None:
    """Send from a process of its own."""
    with contextlib.closing(open_client(url, namespace, **options)) as broker:
        broker.send(sends(id))


def move_one(url: str, namespace: str, how: str, held: Delivery) -> None:
    """Let a message become ready, in a process of its own."""
    with contextlib.closing(open_client(url, namespace)) as broker:
        match how:
            case "retry":
                broker.settle([Retry(held, delay=0)])
            case "release":
                broker.settle([Release(held)])
            case "successor":
                broker.settle([Ack(held, send=tuple(sends("b")))])
            case "requeue":
                broker.requeue_dead("default", ["a"])


@pytest.fixture(scope="module")
def url() -> str:
    found = find_postgresql()
    if found is None:
        missing("postgresql", "no server, and none can be started")
    schema.make(dialect_of(Url.parse(found)))
    return found


@pytest.fixture
def namespace() -> str:
    return f"wakeups-{new_id()}"


@pytest.fixture
def opened(url: str, namespace: str) -> Iterator[OpenClient]:
    with contextlib.ExitStack() as stack:

        def opener(**options: str) -> SqlBroker:
            # A listener belongs to a process and a database: here to one test's clients.
            client = open_client(url, namespace, **options)
            return stack.enter_context(contextlib.closing(client))

        yield opener


@pytest.fixture
def sent(url: str, namespace: str) -> Callable[..., None]:
    """Return a function that sends a message from another process."""

    def send(id: str, **options: str) -> None:
        process = SPAWN.Process(target=send_one, args=(url, namespace, id, options))
        process.start()
        process.join(timeout=30)
        assert process.exitcode == 0

    return send


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those that wait look again after ten minutes only."""
    monkeypatch.setattr(broker_module, "_LONGEST_PAUSE", LONG)
    monkeypatch.setattr(broker_module, "_FIRST_PAUSE", LONG)


def listener_of(broker: SqlBroker) -> Listener:
    return broker._database._link().site.listener


def waiting(broker: SqlBroker, wait: float = LONG) -> Future[list[Delivery]]:
    """Wait for a message in a thread."""
    future: Future[list[Delivery]] = Future()

    def work() -> None:
        try:
            future.set_result(broker.reserve(["default"], limit=1, lease=30, wait=wait))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def listening(broker: SqlBroker) -> Listener:
    listener = listener_of(broker)
    until(listener.listening.is_set, "the listener listens")
    return listener


def ids(future: Future[list[Delivery]]) -> list[str]:
    return [delivery.id for delivery in future.result(timeout=30)]


@pytest.mark.usefixtures("patient")
def test_a_message_from_another_process_wakes_a_claim_that_would_not_look(
    opened: OpenClient, sent: Callable[..., None]
) -> None:
    broker = opened()
    claim = waiting(broker)
    listener = listening(broker)

    sent("a")

    assert ids(claim) == ["a"]
    assert listener.heard >= 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["retry", "release", "successor", "requeue"])
def test_whatever_makes_a_message_ready_wakes(opened: OpenClient, how: str, url: str) -> None:
    broker = opened()
    broker.send(sends("a"))
    (held,) = broker.reserve(["default"], limit=1, lease=30)
    if how == "requeue":
        broker.settle([Dead(held, "failed")])
    claim = waiting(broker)
    listener = listening(broker)
    heard = listener.heard

    child = SPAWN.Process(target=move_one, args=(url, broker._namespace, how, held))
    child.start()
    child.join(timeout=30)

    assert child.exitcode == 0
    assert ids(claim) == (["b"] if how == "successor" else ["a"])
    assert listener.heard > heard


@pytest.mark.usefixtures("patient")
def test_a_message_that_another_process_did_not_announce_is_found_with_the_one_it_did(
    opened: OpenClient, sent: Callable[..., None]
) -> None:
    broker = opened()
    claim = waiting(broker)
    listener = listening(broker)
    heard = listener.heard

    sent("silent", notify="no")
    assert not claim.done()
    sent("announced")

    assert ids(claim) == ["silent"]
    assert listener.heard == heard + 1


def test_without_notifications_messages_come_as_well(
    opened: OpenClient, sent: Callable[..., None]
) -> None:
    broker = opened(notify="no")
    claim = waiting(broker)

    sent("a", notify="no")

    assert ids(claim) == ["a"]
    assert listener_of(broker)._thread is None


def test_a_listener_that_is_killed_listens_again_and_messages_come_meanwhile(
    opened: OpenClient, sent: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = opened()
    claim = waiting(broker)
    listener = listening(broker)
    monkeypatch.setattr(listener_module, "_FIRST_PAUSE", LONG)

    killed = broker._database.read(
        lambda session: session.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ~ '^(LISTEN|NOTIFY)'"
            " AND application_name = 'taskq'",
            {},
        )
    )
    until(lambda: not listener.listening.is_set(), "the listener notices")
    sent("meanwhile")

    assert killed
    assert ids(claim) == ["meanwhile"]
    deaf = listener.deaf
    until(lambda: listener.deaf > deaf or listener.listening.is_set(), "it connects again")
    until(listener.listening.is_set, "the listener listens again")


def test_a_listener_ends_with_the_last_client_that_waited(opened: OpenClient) -> None:
    one, two = opened(), opened()
    assert listener_of(one) is listener_of(two)
    claims = [waiting(one), waiting(two)]
    listener = listening(one)
    until(lambda: len(listener._wanted) == 2, "both wait")
    thread = listener._thread
    assert thread is not None

    one.close()
    assert thread.is_alive()
    two.close()

    thread.join(timeout=20)
    assert not thread.is_alive()
    for claim in claims:
        with contextlib.suppress(Exception):
            claim.result(timeout=20)


def test_a_claim_that_need_not_wait_makes_no_connection(opened: OpenClient) -> None:
    broker = opened()
    broker.send(sends("a"))

    (held,) = broker.reserve(["default"], limit=1, lease=30, wait=5)
    broker.settle([Ack(held)])

    assert listener_of(broker)._thread is None


@pytest.mark.usefixtures("patient")
def test_a_child_has_a_listener_of_its_own_and_leaves_its_parents_alone(
    opened: OpenClient, sent: Callable[..., None]
) -> None:
    broker = opened()
    claim = waiting(broker)
    listener = listening(broker)
    deaf = listener.deaf
    woken: Any = FORK.Queue()

    def child() -> None:
        mine = waiting(broker)
        listening(broker)
        woken.put(os.getpid())
        woken.put(ids(mine))
        broker.close()

    process = FORK.Process(target=child)
    process.start()
    assert woken.get(timeout=30) == process.pid
    sent("a")
    sent("b")
    process.join(timeout=30)

    assert process.exitcode == 0
    assert {*woken.get(timeout=30), *ids(claim)} == {"a", "b"}
    assert listener.deaf == deaf
