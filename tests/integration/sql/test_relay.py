"""Relays: whose turn it is, what they do when an end fails, and what the broker refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from taskq.clock import Clock, Seconds
from taskq.contract.broker import Broker
from taskq.contract.message import Send
from taskq.errors import ConnectionFailed, ImproperlyConfigured, UnknownScheme
from taskq.plugins import Plugins
from taskq.url import Url
from taskq_sql.dialects.sqlite import SqliteDialect
from taskq_sql.engine import Database
from taskq_sql.outbox import aside
from taskq_sql.outbox.relay import Relay, open_outbox
from taskq_sql.outbox.turns import file_turn, take_turn
from tests.integration.sql.databases import KINDS
from tests.integration.sql.shop import OpenShop, Shop, shops
from tests.servers import RedisServer
from tests.sql_servers import PostgresqlServer
from tests.waiting import until


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[OpenShop]:
    with shops(tmp_path) as opener:
        yield opener


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, open_shop: OpenShop) -> Shop:
    return open_shop(request.param)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@contextmanager
def opened(shop: Shop) -> Iterator[Database]:
    database = open_outbox(shop.database, shop.app.broker_url, shop.clock)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def turn_taken(shop: Shop) -> Iterator[None]:
    """Be the relay that carries, for the length of the block."""
    namespace = shop.app.broker_url.namespace
    with opened(shop) as database:
        dialect = database.dialect
        if isinstance(dialect, SqliteDialect):
            with file_turn(dialect.path, namespace) as mine:
                assert mine
                yield
            return
        taken, over = threading.Event(), threading.Event()

        def hold(session: Any) -> None:
            assert take_turn(session, namespace)
            taken.set()
            over.wait(30)

        holder = threading.Thread(target=lambda: database.transact(hold))
        holder.start()
        try:
            assert taken.wait(10)
            yield
        finally:
            over.set()
            holder.join()


@contextmanager
def running(relay: Relay) -> Iterator[None]:
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        relay.stop()
        thread.join(20)
        assert not thread.is_alive()


# -- Turns


def test_one_relay_carries_while_the_others_stand_by(shop: Shop) -> None:
    shop.send("a")
    with shop.relay() as relay:
        with turn_taken(shop):
            assert relay.carry().standby
            assert shop.rows() == 1
        done = relay.carry()

    assert (done.standby, done.accepted) == (False, 1)


def test_relays_of_other_namespaces_carry_at_the_same_time(shop: Shop) -> None:
    other = shop.app.broker_url.replace(namespace="other")
    with turn_taken(shop), Relay(shop.database, other) as relay:
        shop.send("a")
        assert relay.carry() == relay.carry()
        assert not relay.carry().standby
    assert shop.rows() == 1


def test_a_relay_that_stands_by_takes_over(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "taskq_sql.outbox.relay")
    with shop.relay() as relay, running(relay):
        with turn_taken(shop):
            shop.send("a")
            until(lambda: "standing by" in caplog.text, "it stands by")
        until(lambda: shop.rows() == 0, "it takes over")

    assert len(shop.ids()) == 1


def test_a_run_ends_when_it_is_stopped_and_carries_what_comes(shop: Shop) -> None:
    with shop.relay() as relay, running(relay):
        for value in "abc":
            shop.send(value)
            until(lambda: shop.rows() == 0, "it is carried")
    assert len(shop.ids()) == 3


# -- Ends that fail


def test_while_the_broker_is_away_tasks_wait_and_the_log_says_so_once(
    open_shop: OpenShop, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop("sqlite", broker=redis_server.url)
    plugins = WatchedPlugins()
    with shop.relay(plugins=plugins) as relay:
        redis_server.kill()
        sent = shop.send("a", "b")
        with running(relay):
            until(lambda: plugins.broker.tried >= 3, "it is tried again")
            assert shop.rows() == 2
            redis_server.start()
            until(lambda: "the broker is back" in caplog.text, "the outage is over")

    assert shop.ids() == sent
    assert caplog.text.count("does not take part") == caplog.text.count("is back") == 1


def test_while_the_database_is_away_the_relay_waits(
    tmp_path: Path, open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    with PostgresqlServer(fsync=False) as server:
        server.make_tables()
        broker = open_shop("sqlite").app.broker_url
        with Relay(f"{server.url}?connect_timeout=1", broker) as relay, running(relay):
            server.kill()
            until(lambda: "database does not take part" in caplog.text, "the outage is noticed")
            server.start()
            until(lambda: "database is back" in caplog.text, "the outage is over")


class Watched:
    """A real broker, and what is done before and after it is sent anything."""

    def __init__(self, inner: Broker) -> None:
        self.inner = inner
        self.tried = 0
        self.sent: list[str] = []
        self.after: Any = lambda: None

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        self.tried += 1
        self.inner.send(items, timeout=timeout)
        self.sent += [item.message.id for item in items]
        self.after()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WatchedPlugins(Plugins):
    def __init__(self) -> None:
        super().__init__()
        self.broker: Watched

    def open_broker(self, url: str | Url, *, clock: Clock | None = None) -> Broker:
        self.broker = Watched(super().open_broker(url, clock=clock))
        return cast("Broker", self.broker)


def test_what_could_not_be_deleted_is_not_sent_again_by_the_same_relay(
    open_shop: OpenShop,
) -> None:
    shop = open_shop("postgresql")
    plugins = WatchedPlugins()
    sent = shop.send("a", "b")
    with shop.relay(plugins=plugins) as relay, shop.engine.connect() as operator:

        def end_sessions() -> None:
            operator.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            operator.rollback()

        plugins.broker.after = end_sessions
        with pytest.raises(ConnectionFailed):
            relay.carry()
        assert shop.rows() == 2
        plugins.broker.after = lambda: None
        done = relay.carry()

    assert done.accepted == 2
    assert plugins.broker.sent == sent
    assert shop.rows() == 0


def test_what_is_sent_again_by_the_next_relay_is_the_same_task(shop: Shop) -> None:
    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    plugins = WatchedPlugins()
    sent = shop.send("a", "b")
    with shop.relay(plugins=plugins) as relay:
        plugins.broker.after = die
        with pytest.raises(Died):
            relay.carry()

    assert shop.rows() == 2
    assert shop.carry() == 2
    assert shop.ids() == sent


# -- What the broker refuses


@pytest.fixture
def strict(open_shop: OpenShop, redis_server: RedisServer, request: Any) -> Shop:
    """A program whose broker lets it use the queue `default` alone."""
    shop = open_shop(getattr(request, "param", "sqlite"), broker=redis_server.url)
    tag = f"{{taskq:{shop.app.broker_url.namespace}}}:"
    keys = [f"{tag}{name}" for name in ("messages", "counters", "queues", "result:*")]
    with redis_server.admin() as admin:
        for name in ("strict", "default"):
            admin.acl_setuser(
                name,
                enabled=True,
                nopass=True,
                reset=True,
                commands=["+@all"],
                keys=["*"] if name == "default" else [*keys, f"{tag}queue:default:*"],
            )
    return shop


def strict_relay(shop: Shop) -> Relay:
    return Relay(shop.database, shop.app.broker_url.replace(username="strict", password="any"))


@pytest.mark.parametrize("strict", KINDS, indirect=True)
def test_what_the_broker_refuses_is_set_aside_and_can_be_sent_again(
    strict: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = strict.send("a")
    (refused,) = strict.send("b", queue="secret")
    (last,) = strict.send("c")

    with strict_relay(strict) as relay:
        done = relay.carry()

    assert (done.accepted, done.refused, done.trouble) == (2, 1, None)
    assert strict.ids() == [first, last]
    assert f"the broker refuses task {refused} for queue secret" in caplog.text
    with opened(strict) as database:
        (found,) = aside.refused(database)
        assert (found.id, found.queue) == (refused, "secret")
        assert "grant it by ACL SETUSER" in found.reason
        assert aside.send_again(database, ["nobody"]) == []
        assert strict.carry() == 0
        assert aside.send_again(database, [refused]) == [refused]
        assert aside.count_waiting(database) == 1
    assert strict.carry() == 1
    (delivery,) = strict.app.broker.reserve(["secret"], limit=9, lease=60)
    assert delivery.id == refused


def test_of_a_broker_whose_memory_is_full_nothing_is_set_aside(
    open_shop: OpenShop, redis_server: RedisServer
) -> None:
    shop = open_shop("sqlite", broker=redis_server.url)
    sent = shop.send("a", "b", "c")
    with shop.relay() as relay, redis_server.admin() as admin:
        admin.config_set("maxmemory", 1)
        done = relay.carry()
        assert (done.accepted, done.refused) == (0, 0)
        assert "raise maxmemory" in str(done.trouble)
        admin.config_set("maxmemory", 0)
        assert relay.carry().accepted == 3

    assert shop.ids() == sent


# -- What cannot be


def test_a_database_that_is_the_broker_needs_no_relay(shop: Shop) -> None:
    with pytest.raises(ImproperlyConfigured, match="needs no relay"):
        Relay("sqlite:///other.db", shop.database)


def test_urls_in_the_wrong_order_are_told_of() -> None:
    with pytest.raises(UnknownScheme, match="the first URL is the database's"):
        Relay("redis://localhost", "postgresql://localhost/shop")


def test_an_outbox_of_another_name_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="leave prefix= out"):
        Relay("sqlite:///shop.db?prefix=mine_", "redis://localhost")
