"""Bare clients: the least at-least-once worker of each broker, and the limit of what it can do.

Batches, no threads, json, a dict of functions. Each deletes what it has run in
the transaction that claims the next batch. No hooks, retries or results.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.contender import BATCH, CLAIM, Contender, run, write


def batches(count: int) -> Iterator[list[str]]:
    """Yield the messages of a bulk send."""
    for first in range(0, count, BATCH):
        yield [write(number) for number in range(first, min(first + BATCH, count))]


class BareRedis(Contender):
    SCRIPT = """
        local ids = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
        if #ids > 0 then redis.call('RPUSH', KEYS[2], unpack(ids)) end
        return ids"""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        import redis

        self.client = redis.Redis.from_url(url)

    def send(self, count: int) -> None:
        for number in range(count):
            self.client.rpush("ready", write(number))

    def bulk(self, count: int) -> None:
        for batch in batches(count):
            self.client.rpush("ready", *batch)

    def drain(self, count: int) -> None:
        claim = self.client.register_script(self.SCRIPT)
        done = 0
        while done < count:
            batch = claim(keys=["ready", "leased"], args=[CLAIM])
            for text in batch:
                run(text)
            self.client.ltrim("leased", len(batch), -1)
            done += len(batch)

    def versions(self) -> dict[str, str]:
        return {"redis-py": version("redis")}


class BareRabbitmq(Contender):
    """pika: confirmed in batches, consumed with prefetch, acknowledged in batches."""

    QUEUE = "task"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        import pika

        self.lasting = pika.BasicProperties(delivery_mode=2)
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.missing = 0

    def prepare(self) -> None:
        arguments = {"x-queue-type": "quorum"}
        self.channel.queue_declare(self.QUEUE, durable=True, arguments=arguments)
        # What the blocking channel offers waits for each confirm by itself.
        self.channel._impl.confirm_delivery(self._confirmed)
        self.last = 0

    def _confirmed(self, frame: Any) -> None:
        """Count: the server answers for several at once, in order on a quorum queue."""
        self.last = max(self.last, frame.method.delivery_tag)

    def send(self, count: int) -> None:
        for number in range(count):
            self._publish([write(number)])

    def bulk(self, count: int) -> None:
        for batch in batches(count):
            self._publish(batch)

    def _publish(self, texts: Sequence[str]) -> None:
        self.missing += len(texts)
        for text in texts:
            self.channel._impl.basic_publish("", self.QUEUE, text.encode(), self.lasting)
        # Public calls of the blocking connection return for messages, not for confirms.
        self.connection._flush_output(lambda: self.last >= self.missing)

    def drain(self, count: int) -> None:
        done = 0

        def take(channel: Any, method: Any, _: object, body: bytes) -> None:
            nonlocal done
            run(body)
            done += 1
            if done % CLAIM == 0 or done == count:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if done == count:
                channel.stop_consuming()

        self.channel.basic_qos(prefetch_count=5 * CLAIM)
        self.channel.basic_consume(self.QUEUE, take)
        self.channel.start_consuming()

    def versions(self) -> dict[str, str]:
        return {"pika": version("pika")}


class BareSql(Contender):
    """What the bare clients of SQL databases share. Subclasses say how rows get in and out."""

    def send(self, count: int) -> None:
        for number in range(count):
            self.insert([write(number)])

    def bulk(self, count: int) -> None:
        for batch in batches(count):
            self.insert(batch)

    def insert(self, texts: Sequence[str]) -> None:
        """Insert and commit."""
        raise NotImplementedError

    def exchange(self, done: Sequence[int]) -> Sequence[tuple[int, str]]:
        """Delete what was run and claim the next batch, in one transaction."""
        raise NotImplementedError

    def drain(self, count: int) -> None:
        done: list[int] = []
        ran = 0
        while done or ran < count:
            batch = self.exchange(done)
            for _, text in batch:
                run(text)
            done = [number for number, _ in batch]
            ran += len(batch)


class BareSqlite(BareSql):
    """The sqlite3 module, with a flush per commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self.connection.execute(f"PRAGMA {pragma}")

    def prepare(self) -> None:
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, body TEXT, leased INTEGER)"
        )
        self.connection.execute("CREATE INDEX IF NOT EXISTS place ON task (leased, id)")

    def insert(self, texts: Sequence[str]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            "INSERT INTO task (body, leased) VALUES (?, 0)", [(text,) for text in texts]
        )
        self.connection.execute("COMMIT")

    def exchange(self, done: Sequence[int]) -> Sequence[tuple[int, str]]:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        self.connection.executemany("DELETE FROM task WHERE id = ?", [(one,) for one in done])
        batch = execute(
            "UPDATE task SET leased = 1 WHERE id IN "
            f"(SELECT id FROM task WHERE leased = 0 ORDER BY id LIMIT {CLAIM}) RETURNING id, body"
        ).fetchall()
        execute("COMMIT")
        return batch

    def versions(self) -> dict[str, str]:
        return {"SQLite": sqlite3.sqlite_version}


class BarePostgresql(BareSql):
    """psycopg in autocommit mode: one statement, and so one round trip, per batch."""

    CLAIM = f"""
        WITH gone AS (DELETE FROM task WHERE id = ANY(%s))
        UPDATE task SET leased = true WHERE id = ANY(ARRAY(
            SELECT id FROM task WHERE NOT leased ORDER BY id LIMIT {CLAIM} FOR UPDATE SKIP LOCKED))
        RETURNING id, body"""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        import psycopg

        self.connection = psycopg.connect(url, autocommit=True)

    def prepare(self) -> None:
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS task "
            "(id bigserial PRIMARY KEY, body text, leased boolean NOT NULL DEFAULT false)"
        )
        self.connection.execute("CREATE INDEX IF NOT EXISTS place ON task (id) WHERE NOT leased")

    def insert(self, texts: Sequence[str]) -> None:
        self.connection.execute(
            "INSERT INTO task (body) SELECT unnest(%s::text[])", [list(texts)], prepare=True
        )

    def exchange(self, done: Sequence[int]) -> Sequence[tuple[int, str]]:
        return self.connection.execute(self.CLAIM, [list(done)], prepare=True).fetchall()

    def versions(self) -> dict[str, str]:
        return {"psycopg": version("psycopg")}


class BareMariadb(BareSql):
    """PyMySQL: select, update and delete by primary key, in one transaction.

    Without an index on `leased`: what InnoDB has not purged of it yet would have to be passed.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from urllib.parse import urlsplit

        import pymysql

        place = urlsplit(url)
        self.connection = pymysql.connect(
            host=place.hostname,
            port=place.port or 0,
            user=place.username,
            database=place.path.removeprefix("/"),
            autocommit=False,
            ssl_disabled=True,
        )
        self.cursor = self.connection.cursor()
        self.cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def prepare(self) -> None:
        self.cursor.execute(
            "CREATE TABLE IF NOT EXISTS task (id bigint AUTO_INCREMENT PRIMARY KEY, "
            "body text, leased tinyint NOT NULL DEFAULT 0)"
        )

    def insert(self, texts: Sequence[str]) -> None:
        self.cursor.executemany("INSERT INTO task (body) VALUES (%s)", [(text,) for text in texts])
        self.connection.commit()

    def exchange(self, done: Sequence[int]) -> Sequence[tuple[int, str]]:
        execute = self.cursor.execute
        if done:
            execute("DELETE FROM task WHERE id IN %s", [done])
        execute(
            "SELECT id, body FROM task WHERE leased = 0 "
            f"ORDER BY id LIMIT {CLAIM} FOR UPDATE SKIP LOCKED"
        )
        batch = self.cursor.fetchall()
        if batch:
            execute("UPDATE task SET leased = 1 WHERE id IN %s", [[one for one, _ in batch]])
        self.connection.commit()
        return batch

    def versions(self) -> dict[str, str]:
        return {"PyMySQL": version("PyMySQL")}


class BareAlchemy(BareSql):
    """SQLAlchemy Core as its tutorial has it, on one kept connection, alike everywhere."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from sqlalchemy import create_engine

        scheme, _, rest = url.partition("://")
        drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
        lite = scheme == "sqlite"
        self.engine = create_engine(
            f"{drivers.get(scheme, scheme)}://{rest.partition('?')[0]}",
            isolation_level="AUTOCOMMIT" if lite else "READ COMMITTED",
        )
        self.connection = self.engine.connect()
        if lite:
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self.connection.exec_driver_sql(f"PRAGMA {pragma}")
        self.begin: Callable[[], object] = (
            (lambda: self.connection.exec_driver_sql("BEGIN IMMEDIATE")) if lite else lambda: None
        )
        self.commit: Callable[[], object] = (
            (lambda: self.connection.exec_driver_sql("COMMIT")) if lite else self.connection.commit
        )
        self._declare()

    def _declare(self) -> None:
        from sqlalchemy import (
            BigInteger,
            Boolean,
            Column,
            Index,
            Integer,
            MetaData,
            Table,
            Text,
            bindparam,
            delete,
            insert,
            select,
            update,
        )

        serial = BigInteger().with_variant(Integer(), "sqlite")
        self.table = table = Table(
            "task",
            MetaData(),
            Column("id", serial, primary_key=True),
            Column("body", Text),
            Column("leased", Boolean, nullable=False, default=False),
            Index("place", "leased", "id"),
        )
        ids: Any = bindparam("ids", expanding=True)
        ready = select(table.c.id, table.c.body).where(table.c.leased.is_(False))
        self.select = ready.order_by(table.c.id).limit(CLAIM).with_for_update(skip_locked=True)
        self.lease = update(table).where(table.c.id.in_(ids)).values(leased=True)
        self.delete = delete(table).where(table.c.id.in_(ids))
        self.statement = insert(table)

    def prepare(self) -> None:
        self.table.metadata.create_all(self.engine)

    def insert(self, texts: Sequence[str]) -> None:
        self.begin()
        self.connection.execute(self.statement, [{"body": text} for text in texts])
        self.commit()

    def exchange(self, done: Sequence[int]) -> Sequence[tuple[int, str]]:
        execute = self.connection.execute
        self.begin()
        if done:
            execute(self.delete, {"ids": done})
        batch = [(number, text) for number, text in execute(self.select)]
        if batch:
            execute(self.lease, {"ids": [number for number, _ in batch]})
        self.commit()
        return batch

    def versions(self) -> dict[str, str]:
        return {"SQLAlchemy": version("SQLAlchemy")}
