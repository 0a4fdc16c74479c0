"""What a target breaks is broken as it says, for this client, this once, and for nobody else."""

from __future__ import annotations

import contextlib
import gc
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import redis

from taskq.contract.broker import Broker
from taskq.contract.delivery import State
from taskq.contract.message import Send
from taskq.contract.settlement import Ack
from taskq.errors import (
    BrokerError,
    Closed,
    ConnectionFailed,
    OutcomeUnknown,
    SendError,
)
from taskq.plugins import Plugins
from taskq.testing.faults import Fault, Trigger
from taskq.testing.laws.case import item, record
from taskq.testing.runner import look
from taskq.testing.target import UrlTarget
from taskq.url import Url
from taskq_redis.broker import RedisBroker
from taskq_redis.options import Options
from taskq_redis.target import RedisTarget
from taskq_sql.target import _Connection
from tests.servers import RedisServer, shared_redis
from tests.waiting import until

BACKENDS = ("memory", "sqlite", "redis")
LAST = {"memory": 0, "sqlite": 2, "redis": 0}
"""The exchange that decides over a send: on SQLite it is the third, COMMIT."""


def open_target(backend: str) -> UrlTarget:
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory://",
        "sqlite": lambda: "sqlite://",
        "redis": shared_redis,
    }
    target: UrlTarget = Plugins().target(urls[backend]())
    return target


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def target(backend: str) -> Iterator[UrlTarget]:
    target = open_target(backend)
    target.begin(breakable=True)
    yield target
    target.end()


def warmed(target: UrlTarget) -> Broker:
    """Open a client whose connection is made, and whose server knows all it needs."""
    broker = target.open()
    broker.send([item("warm", queue="other")])
    return broker


def failed_send(broker: Broker, batch: Sequence[Send]) -> SendError | None:
    try:
        broker.send(batch)
    except SendError as error:
        return error
    return None


def test_a_send_broken_before_has_not_happened_and_says_no_word_of_it(
    backend: str, target: UrlTarget
) -> None:
    broker, other = warmed(target), target.open()
    target.break_next(broker, Fault.BEFORE)

    with pytest.raises(SendError) as caught:
        broker.send([item("a"), item("b")])

    # A request that has left is all that a Redis client knows of a reset connection.
    ids = caught.value.unknown if backend == "redis" else caught.value.unsent
    assert (ids, caught.value.sent) == (("a", "b"), ())
    assert other.locate(["a", "b"]) == {}


def test_a_send_broken_after_has_happened_and_is_unknown(backend: str, target: UrlTarget) -> None:
    broker, other = warmed(target), target.open()
    target.break_next(broker, Fault.AFTER, skip=LAST[backend])

    with pytest.raises(SendError) as caught:
        broker.send([item("a"), item("b")])

    assert (caught.value.unknown, caught.value.sent) == (("a", "b"), ())
    assert other.locate(["a", "b"]) == {"a": State.READY, "b": State.READY}


@pytest.mark.parametrize("fault", Fault)
def test_wherever_a_send_breaks_the_error_is_right_and_the_next_call_works(
    target: UrlTarget, fault: Fault
) -> None:
    broker, other = warmed(target), target.open()
    errors = []

    for skip in range(5):
        batch = [item(f"m{skip}{letter}") for letter in "abc"]
        ids = [one.message.id for one in batch]
        target.break_next(broker, fault, skip=skip)
        error = failed_send(broker, batch)
        target.heal()

        there = set(other.locate(ids))
        if error is None:
            assert there == set(ids)
        else:
            errors.append(error)
            assert {*error.sent} <= there <= {*error.sent, *error.unknown}
            assert sorted({*error.sent, *error.unknown, *error.unsent}) == ids
        broker.send(batch)
        assert set(other.locate(ids)) == set(ids)

    assert errors


@pytest.mark.parametrize("fault", Fault)
def test_a_client_whose_first_connection_breaks_anywhere_works_at_the_next_call(
    backend: str, fault: Fault
) -> None:
    exchanges = 0
    while exchanges < 80:
        target = open_target(backend)
        target.begin(breakable=True)
        broker = target.open()
        target.break_next(broker, fault, skip=exchanges)

        error = failed_send(broker, [item("a")])
        target.heal()
        broker.send([item("a")])

        assert target.open().locate(["a"]) == {"a": State.READY}
        target.end()
        if error is None:
            break
        assert error.sent == ()
        exchanges += 1

    # One to Redis begins with SELECT; the first one to a SQLite file makes the tables.
    assert exchanges >= {"memory": 1, "redis": 2, "sqlite": 10}[backend]
    assert exchanges < 80


@pytest.mark.parametrize(
    ("fault", "there"), [(Fault.BEFORE, State.PROCESSING), (Fault.AFTER, None)]
)
def test_an_ack_breaks_likewise(
    backend: str, target: UrlTarget, fault: Fault, there: State | None
) -> None:
    broker, other = warmed(target), target.open()
    broker.send([item("a")])
    (delivery,) = broker.reserve(["q"], limit=1, lease=30)
    target.break_next(broker, fault, skip=LAST[backend])

    with pytest.raises((ConnectionFailed, OutcomeUnknown)) as caught:
        broker.settle([Ack(delivery)])

    assert other.locate(["a"]).get("a") == there
    if fault is Fault.AFTER:
        assert caught.type is OutcomeUnknown


def test_a_claim_that_breaks_after_comes_back_when_its_lease_ends(target: UrlTarget) -> None:
    broker, other = warmed(target), target.open()
    broker.send([item("a")])
    for skip in range(20):
        target.break_next(broker, Fault.AFTER, skip=skip)
        with contextlib.suppress(BrokerError):
            broker.reserve(["q"], limit=1, lease=30)
        target.heal()
        if other.locate(["a"]) == {"a": State.PROCESSING}:
            break

    assert other.reserve(["q"], limit=1, lease=30) == []
    target.clock.advance(31)
    (again,) = other.reserve(["q"], limit=1, lease=30)
    assert (again.id, again.losses) == ("a", 1)


@pytest.mark.parametrize(
    ("fault", "found"), [(Fault.BEFORE, set()), (Fault.AFTER, {"a", "b"})], ids=str
)
def test_results_break_likewise(
    backend: str, target: UrlTarget, fault: Fault, found: set[str]
) -> None:
    results, other = target.open_results(), target.open_results()
    results.store([record("warm")])
    target.break_next(results, fault, skip=LAST[backend])

    with pytest.raises((ConnectionFailed, OutcomeUnknown)):
        results.store([record("a"), record("b")])

    assert set(other.fetch(["a", "b"])) == found
    results.store([record("a"), record("b")])
    assert set(other.fetch(["a", "b"])) == {"a", "b"}


def test_other_clients_never_notice(target: UrlTarget) -> None:
    broker, other, results = warmed(target), warmed(target), target.open_results()

    for fault in Fault:
        target.break_next(broker, fault)
        for _ in range(20):
            other.send([item("a")])
            assert set(other.locate(["a"])) == {"a"}
            results.store([record("r")])
        with pytest.raises(BrokerError):
            broker.send([item("b")])


def test_healing_disarms_all_clients(target: UrlTarget) -> None:
    broker, other, results = warmed(target), warmed(target), target.open_results()
    for client in (broker, other, results):
        for skip in range(5):
            target.break_next(client, Fault.BEFORE, skip=skip)

    target.heal()

    broker.send([item("a")])
    other.send([item("b")])
    results.store([record("r")])


def test_only_clients_of_a_breakable_example_can_be_broken(backend: str) -> None:
    target = open_target(backend)
    target.begin(breakable=True)
    ended = target.open()
    target.end()
    target.begin()

    for client in (ended, target.open(), target.open_results()):
        with pytest.raises(ValueError, match=r"call begin\(breakable=True\)"):
            target.break_next(client, Fault.BEFORE)

    target.end()


def test_a_broken_example_ends_like_any_other(backend: str) -> None:
    target = open_target(backend)
    threads = threading.active_count()
    target.begin(breakable=True)
    broker, crashed = warmed(target), warmed(target)
    target.break_next(broker, Fault.MIDDLE)
    target.break_next(crashed, Fault.MIDDLE)

    target.crash(crashed)
    target.end()

    assert threading.active_count() == threads
    assert target.footprint() == []


def test_the_file_of_a_sqlite_target_lives_as_long_as_the_target() -> None:
    target = Plugins().target("sqlite://")
    target.begin()
    warmed(target)
    target.end()
    folder = Path(target.url.path).parent
    assert folder.is_dir()

    del target
    gc.collect()

    assert not folder.exists()


@pytest.mark.parametrize("url", ["memory://", "memory://server", "memory://:99"])
def test_without_a_host_and_a_port_there_are_no_faults(url: str) -> None:
    target = UrlTarget(url)
    target.begin(breakable=True)

    assert target.faults == frozenset()
    with pytest.raises(ValueError, match="has no fault before; it has: none"):
        target.break_next(target.open(), Fault.BEFORE)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", ("localhost", 6379)),
        ("redis://server", ("server", 6379)),
        ("redis://user:secret@server:1234/3", ("server", 1234)),
        ("rediss://server:1234", None),
        ("unix:///var/redis.sock", None),
    ],
)
def test_a_proxy_stands_before_redis_on_tcp_without_tls(
    url: str, address: tuple[str, int] | None
) -> None:
    target = RedisTarget(url)

    assert target.address == address
    assert target.faults == (frozenset(Fault) if address else frozenset())


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, fsync="always") as server:
        yield server


def test_password_and_database_go_through_the_proxy(redis_server: RedisServer) -> None:
    with redis_server.admin() as admin:
        admin.acl_setuser(
            "someone",
            enabled=True,
            passwords=["+secret"],
            commands=["+@all"],
            keys=["*"],
            channels=["*"],
        )
        admin.config_set("requirepass", "other")
    target = RedisTarget(f"redis://someone:secret@127.0.0.1:{redis_server.port}/3")
    target.begin(breakable=True)
    broker = warmed(target)

    target.break_next(broker, Fault.AFTER)
    with pytest.raises(SendError):
        broker.send([item("a")])
    # The next connection begins with AUTH and SELECT, which can break as well.
    for skip in range(3):
        target.crash(broker)
        broker = target.open()
        target.break_next(broker, Fault.BEFORE, skip=skip)
        with pytest.raises(BrokerError):
            broker.stats()
        assert broker.locate(["a"]) == {"a": State.READY}

    target.end()
    assert target.footprint() == []


class Polite(RedisBroker):
    """Tidies up at its end."""

    def close(self) -> None:
        try:
            self.purge("other")
        finally:
            super().close()


class Plain(RedisTarget):
    """Has clients that say goodbye, and knows no way of its own to keep them from it."""

    crash = UrlTarget.crash

    def new_broker(self, url: Url) -> Broker:
        return Polite(Options.of(url), self.clock)


@pytest.mark.parametrize(
    ("kind", "examples"), [(RedisTarget, [False, True]), (Plain, [True])], ids=["own", "proxy"]
)
def test_a_crash_cuts_the_connection(
    redis_server: RedisServer, kind: type[RedisTarget], examples: list[bool]
) -> None:
    target = kind(redis_server.url)
    for breakable in examples:
        target.begin(breakable=breakable)
        broker, other = warmed(target), warmed(target)
        with redis_server.admin() as admin:
            left = len(admin.client_list()) - 1

            target.crash(broker)

            until(partial(_has_clients, admin, left), "the server sees it")
        with pytest.raises(Closed):
            broker.stats()
        assert other.locate(["warm"]) == {"warm": State.READY}
        other.send([item("b")])
        target.end()


def _has_clients(admin: redis.Redis, count: int) -> bool:
    return len(admin.client_list()) == count


def test_a_sqlite_connection_lost_in_the_middle_is_of_no_more_use() -> None:
    trigger = Trigger()
    connection = _Connection(":memory:", isolation_level=None, trigger=trigger)
    with contextlib.closing(connection):
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE t (n)")
        trigger.break_next(Fault.AFTER)
        trigger.break_next(Fault.MIDDLE, skip=2)

        with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as caught:
            cursor.execute("INSERT INTO t VALUES (0)")
        assert caught.value.sqlite_errorcode == sqlite3.SQLITE_IOERR
        assert cursor.execute("SELECT n FROM t").fetchall() == [(0,)]
        with pytest.raises(sqlite3.OperationalError):
            cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
        for again in (partial(cursor.execute, "SELECT 1"), partial(cursor.execute, "ROLLBACK")):
            with pytest.raises(sqlite3.OperationalError):
                again()

        connection.lost = False
        assert cursor.execute("SELECT n FROM t").fetchall() == [(0,), (1,), (2,)]


@pytest.mark.parametrize(("backend", "name"), [("sqlite", "SQLite"), ("redis", "Redis")])
def test_a_target_names_its_server_and_the_version(backend: str, name: str) -> None:
    url = {"sqlite": "sqlite://", "redis": shared_redis()}[backend]

    server = look(Plugins().target(url), backend).server

    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+", server)
