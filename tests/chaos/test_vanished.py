"""Clients that vanish within a transaction: what they locked is free again, untold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack
from taskq.errors import ConnectionFailed, OutcomeUnknown, TaskqError
from taskq.plugins import Plugins
from taskq.testing.proxy import Port, Proxy
from taskq.url import Url
from taskq_sql.engine import open_database
from taskq_sql.session import Session
from tests.chaos.conftest import StartServer
from tests.sql_servers import SqlServer
from tests.waiting import until

pytestmark = pytest.mark.chaos

PATIENCE = 120.0
"""How long a client that was cut off waits, so that it is not it who tells the server."""
PAUSE = 5.0
"""How long a server lets a transaction pause, as the documentation says."""
LEASE = 1.0
DEEPEST = 10
"""More exchanges than a claim has, or a settlement, or a send."""


class Ghosts:
    """Clients each of which is cut off within another exchange of the same work."""

    def __init__(self, server: SqlServer, stack: ExitStack) -> None:
        self.server = server
        self.url = Url.parse(server.url)
        self.threads: list[threading.Thread] = []
        self.ports: list[Port] = []
        self._stack = stack
        self._proxy = stack.enter_context(Proxy("127.0.0.1", server.port))

    def open(self, url: Url) -> Broker:
        """Return a client that nothing keeps from the server."""
        return self._stack.enter_context(closing(Plugins().open_broker(url, clock=SystemClock())))

    def client(self) -> tuple[Broker, Port]:
        """Return a client and what it goes through; it has all its connections."""
        port = self._proxy.open()
        query = {**self.url.query, "timeout": str(PATIENCE)}
        client = self.open(self.url.replace(port=port.number, query=query))
        client.send([])
        client.stats()
        client.check()
        self.ports.append(port)
        return client, port

    def leave(self, client: Broker, work: str, queue: str) -> None:
        """Let a client work until it is cut off, or is done."""
        thread = threading.Thread(target=self._work, args=(client, work, queue))
        thread.start()
        self.threads.append(thread)

    def _work(self, client: Broker, work: str, queue: str) -> None:
        with suppress(TaskqError):
            if work == "send":
                client.send([Send(Message(f"late-{queue}", queue, b""))], timeout=PATIENCE)
            else:
                claimed = client.reserve([queue], limit=1, lease=LEASE)
                if work == "settle":
                    client.settle([Ack(delivery) for delivery in claimed])

    def lay(self) -> None:
        """Let them find out."""
        for port in self.ports:
            port.close()
        for thread in self.threads:
            thread.join(20)


@pytest.fixture(params=["postgresql", "mariadb"])
def ghosts(request: pytest.FixtureRequest, start_server: StartServer) -> Iterator[Ghosts]:
    server = start_server(request.param)
    assert isinstance(server, SqlServer)
    with ExitStack() as stack:
        ghosts = Ghosts(server, stack)
        stack.callback(ghosts.lay)
        yield ghosts


@pytest.mark.parametrize("work", ["claim", "settle"])
def test_what_a_vanished_client_held_comes_to_others(ghosts: Ghosts, work: str) -> None:
    other = ghosts.open(ghosts.url)
    queues = [f"q{depth}" for depth in range(DEEPEST)]
    other.send([Send(Message(queue, queue, b"")) for queue in queues])

    for depth, queue in enumerate(queues):
        client, port = ghosts.client()
        port.hush_next(skip=depth)
        ghosts.leave(client, work, queue)
    began = time.monotonic()
    until(lambda: _in_transaction(ghosts.server), "somebody is cut off within a transaction")

    def drained() -> bool:
        for delivery in other.reserve(queues, limit=DEEPEST, lease=60):
            other.settle([Ack(delivery)])
        return not other.locate(queues)

    until(drained, "another client has concluded all messages", PAUSE + LEASE + 10)
    took = time.monotonic() - began
    print(f"\n{ghosts.server.name}, {work}: free after {took:.1f} s")
    assert not _in_transaction(ghosts.server)


def test_an_id_that_a_vanished_client_was_sending_may_be_sent_again(ghosts: Ghosts) -> None:
    other = ghosts.open(ghosts.url)
    queues = [f"q{depth}" for depth in range(DEEPEST)]

    for depth, queue in enumerate(queues):
        client, port = ghosts.client()
        port.hush_next(skip=depth)
        ghosts.leave(client, "send", queue)
    until(lambda: _in_transaction(ghosts.server), "somebody is cut off within a transaction")
    began = time.monotonic()
    # The default of `enqueue_timeout`.
    other.send([Send(Message(f"late-{queue}", queue, b"")) for queue in queues], timeout=10.0)

    print(f"\n{ghosts.server.name}, send: free after {time.monotonic() - began:.1f} s")
    assert len(other.locate([f"late-{queue}" for queue in queues])) == DEEPEST


@pytest.mark.parametrize("step", ["statement", "commit"])
def test_a_client_that_pauses_too_long_within_a_transaction_is_none_the_worse(
    ghosts: Ghosts, step: str
) -> None:
    """As one that was frozen, or that got no time of the processor."""
    database = open_database(ghosts.url, SystemClock())
    times = 0

    def work(session: Session) -> int:
        nonlocal times
        times += 1
        session.rows(session.sql.count, {"namespace": "taskq"})
        if times == 1:
            until(lambda: _in_transaction(ghosts.server), "it pauses")
            until(lambda: not _in_transaction(ghosts.server), "the server loses patience")
        if step == "statement":
            session.rows("SELECT 1", {})
        return times

    with closing(database):
        if ghosts.server.kind == "mariadb":
            # That server hangs up without a word, and may have had the commit.
            told = ConnectionFailed if step == "statement" else OutcomeUnknown
            with pytest.raises(told):
                database.transact(work)
        assert database.transact(work) == 2


def _in_transaction(server: SqlServer) -> int:
    if server.kind == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    else:
        # The server keeps what it answers until nobody has asked for 0.1 s.
        time.sleep(0.15)
        query = (
            "SELECT count(*) FROM information_schema.innodb_trx "
            "JOIN information_schema.processlist ON trx_mysql_thread_id = id "
            "WHERE command = 'Sleep'"
        )
    [(count,)] = server.ask(query)
    return int(str(count))
