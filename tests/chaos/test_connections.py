"""How many connections a server has to bear, and that none outlives its client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack
from taskq.ids import new_id
from taskq.plugins import Plugins
from tests.chaos.conftest import StartServer
from tests.sql_servers import SqlServer
from tests.waiting import until

pytestmark = pytest.mark.chaos

THREADS = 32
TIMES = 10


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, start_server: StartServer) -> SqlServer:
    server = start_server(request.param)
    assert isinstance(server, SqlServer)
    return server


def test_a_client_has_two_connections_however_many_threads_use_it(server: SqlServer) -> None:
    until(lambda: not server.sessions(), "those who made the tables are gone")
    with (
        server.watch() as sessions,
        closing(Plugins().open_broker(server.url, clock=SystemClock())) as broker,
        ThreadPoolExecutor(THREADS) as threads,
    ):

        def work() -> None:
            for _ in range(TIMES):
                broker.send([Send(Message(new_id(), "default", b""))])
                broker.stats()
                deliveries = broker.reserve(["default"], limit=2, lease=60)
                broker.settle([Ack(delivery) for delivery in deliveries])

        working = [threads.submit(work) for _ in range(THREADS)]
        counts = [len(sessions())]
        while not all(one.done() for one in working):
            counts.append(len(sessions()))
        for one in working:
            one.result()

    assert max(counts) == 2
    until(lambda: not server.sessions(), "the client's connections are gone")


def test_a_client_that_was_cut_off_again_and_again_has_no_more_than_two(server: SqlServer) -> None:
    with closing(Plugins().open_broker(server.url, clock=SystemClock())) as broker:
        for _ in range(20):
            broker.send([Send(Message(new_id(), "default", b""))])
            broker.stats()
            server.cut()
        broker.send([Send(Message(new_id(), "default", b""))])
        broker.stats()

        until(lambda: len(server.sessions()) <= 2, "what was cut off is gone")
        assert sum(queue.ready for queue in broker.stats()) == 21

    until(lambda: not server.sessions(), "the client's connections are gone")
