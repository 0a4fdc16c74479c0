"""No trouble with a server tells the password, or what a task is about, wherever it is printed."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, Heartbeat
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Ack
from taskq.errors import TaskqError
from taskq.plugins import Plugins
from taskq.url import Url
from tests.sql_servers import MariadbServer, PostgresqlServer, SqlServer

PASSWORD = "hush-planted"
PAYLOAD = b"private-planted"
DELIVERY = Delivery(Message("m", "q", PAYLOAD), "token", 0.0, 0.0)
BEAT = Heartbeat("w", "i", "host", 1, 0.0, (), "threads", 1)
RECORD = ResultRecord("m", 0, "SUCCESS", PAYLOAD, 60.0)
OPERATIONS: dict[str, Callable[[Broker, Results], object]] = {
    "send": lambda broker, _: broker.send([Send(Message("m", "q", PAYLOAD))], timeout=0.3),
    "reserve": lambda broker, _: broker.reserve(["q"], limit=1, lease=1),
    "settle": lambda broker, _: broker.settle([Ack(DELIVERY, RECORD)]),
    "extend": lambda broker, _: broker.extend([DELIVERY], lease=1),
    "poll_schedule": lambda broker, _: broker.poll_schedule(),
    "recover_expired": lambda broker, _: broker.recover_expired(),
    "expire_dead": lambda broker, _: broker.expire_dead(older_than=1),
    "send_heartbeat": lambda broker, _: broker.send_heartbeat(BEAT, ttl=1),
    "list_alive_workers": lambda broker, _: broker.list_alive_workers(),
    "stats": lambda broker, _: broker.stats(),
    "locate": lambda broker, _: broker.locate(["m"]),
    "dead_letters": lambda broker, _: broker.dead_letters("q"),
    "requeue_dead": lambda broker, _: broker.requeue_dead("q", ["m"]),
    "purge_dead": lambda broker, _: broker.purge_dead("q"),
    "purge": lambda broker, _: broker.purge("q"),
    "check": lambda broker, _: broker.check(),
    "store": lambda _, results: results.store([RECORD]),
    "fetch": lambda _, results: results.fetch(["m"]),
    "wait": lambda _, results: results.wait(["m"], timeout=0.1),
    "forget": lambda _, results: results.forget(["m"]),
    "expire": lambda _, results: results.expire(),
}


@pytest.fixture(scope="module", params=[PostgresqlServer, MariadbServer])
def server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    with request.param(fsync=False) as server:
        server.make_tables()
        yield server


@pytest.fixture(scope="module")
def admitted(server: SqlServer) -> Url:
    """Return the URL of a user that needs its password."""
    url = server.admit("shop", PASSWORD)
    return url.replace(query={**url.query, "timeout": "0.3"})


class Ear:
    """Tries every operation of a client, and hears all that is said."""

    def __init__(self, url: Url, stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        for name in ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "pymysql"):
            caplog.set_level(logging.DEBUG, name)
        self._caplog = caplog
        plugins = Plugins()
        self.broker = stack.enter_context(closing(plugins.open_broker(url, clock=SystemClock())))
        self.results = stack.enter_context(closing(plugins.open_results(url, clock=SystemClock())))
        self._held: list[str] = []
        self._told = [repr(self.broker), repr(self.results), repr(url), str(url)]

    def try_all(self) -> int:
        """Return how many operations failed."""
        failures = 0
        for work in OPERATIONS.values():
            try:
                work(self.broker, self.results)
            except TaskqError as error:
                failures += 1
                self._told += traceback.format_exception(error)
                self._held += _chain(error)
        return failures

    def heard(self) -> str:
        """Return all that was said or can be found so far."""
        records = [repr(vars(record)) for record in self._caplog.records]
        return "\n".join([self.told(), *self._held, self._caplog.text, *records])

    def told(self) -> str:
        """Return what errors said."""
        return "\n".join(self._told)


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yield what an exception holds, and those that led to it."""
    while error is not None:
        yield f"{error} {error!r} {error.args!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


@pytest.fixture
def listen(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Url], Ear]]:
    with ExitStack() as stack:
        yield lambda url: Ear(url, stack, caplog)


def hush(ear: Ear) -> None:
    # What is logged of rows is what somebody asks SQLAlchemy to log.
    for heard, secret in ((ear.heard(), PASSWORD), (ear.told(), PAYLOAD.decode())):
        assert "127.0.0.1" in heard, "nothing was heard"
        assert secret not in heard, heard[max(0, heard.index(secret) - 300) :][:400]


def test_a_password_that_is_wrong_is_not_told(admitted: Url, listen: Callable[[Url], Ear]) -> None:
    ear = listen(admitted.replace(password=f"{PASSWORD}-no"))

    assert ear.try_all() == len(OPERATIONS)
    hush(ear)


def test_connections_that_are_lost_tell_nothing(
    server: SqlServer, admitted: Url, listen: Callable[[Url], Ear]
) -> None:
    ear = listen(admitted)

    assert ear.try_all() == 0
    for _ in range(3):
        server.cut()
        ear.try_all()
    hush(ear)


def test_a_server_that_hangs_is_told_nothing_of(
    server: SqlServer, admitted: Url, listen: Callable[[Url], Ear]
) -> None:
    ear = listen(admitted)
    ear.try_all()

    server.freeze()
    try:
        failures = ear.try_all()
    finally:
        server.thaw()

    assert failures == len(OPERATIONS)
    hush(ear)


def test_a_server_that_is_down_or_comes_back_is_told_nothing_of(
    server: SqlServer, admitted: Url, listen: Callable[[Url], Ear]
) -> None:
    ear = listen(admitted)
    ear.try_all()

    server.stop()
    try:
        failures = ear.try_all()
    finally:
        server.start()

    assert failures == len(OPERATIONS)
    assert ear.try_all() == 0
    hush(ear)


def test_a_right_that_is_missing_tells_no_payload(
    server: SqlServer, admitted: Url, listen: Callable[[Url], Ear]
) -> None:
    ear = listen(admitted)
    server.ask(
        "REVOKE INSERT ON taskq_message FROM shop"
        if server.kind == "postgresql"
        else "REVOKE INSERT ON test.* FROM shop"
    )

    assert ear.try_all()
    hush(ear)
