"""Throw-away servers, so that their CPU time and their counters are the contender's alone."""

from __future__ import annotations

import abc
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg
import pymysql
import redis

from tests import rabbitmq_servers, servers, sql_servers

SETTLED = 3
"""So many readings of a server's CPU time in a row that are equal mean that it rests."""
READING = 0.05
"""Seconds between two readings; the system counts in hundredths of a second."""


class Place(abc.ABC):
    """Where contenders put their tasks. `url` is that of an empty database after `clear`."""

    url: str
    counted: ClassVar[str] = "commands"
    """What `count` counts."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Begin anew with an empty database, and forget the old one."""

    @abc.abstractmethod
    def settings(self) -> dict[str, str]:
        """Return the version, and what decides how safe a message is once it is accepted."""

    def cpu(self) -> float:
        """Return the seconds of CPU that all of the server's processes have used, once it rests."""
        return 0.0

    def count(self) -> int:
        """Return how much of what is `counted` the server has carried out for its clients."""
        return 0


class File(Place):
    """A folder for a SQLite file. The server is the client."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / f"{number}.db" for number in itertools.count())

    def clear(self) -> None:
        self.url = f"sqlite:///{next(self._files)}"

    def settings(self) -> dict[str, str]:
        import sqlite3

        return {
            "version": f"SQLite {sqlite3.sqlite_version}",
            "journal_mode": "wal",
            "synchronous": "full",
        }


class Process(Place):
    """A server with processes of its own."""

    def __init__(self, server: servers.Server) -> None:
        assert server._process is not None, "the server was not started"
        self._server = psutil.Process(server._process.pid)

    def cpu(self) -> float:
        equal, last = 1, self._cpu()
        while equal < SETTLED:
            time.sleep(READING)
            now = self._cpu()
            equal, last = (equal + 1 if now == last else 1), now
        return last

    def _cpu(self) -> float:
        """Count those that live, and those that ended: their parent has inherited their time."""
        total = 0.0
        for process in (self._server, *self._server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return total


class Redis(Process):
    def __init__(self, server: servers.RedisServer) -> None:
        super().__init__(server)
        self.url = server.url
        self._client = redis.Redis(port=server.port)
        # Acknowledged is in memory, as with the server's own defaults.
        self._client.config_set("appendonly", "no")

    def clear(self) -> None:
        self._client.flushall()

    def count(self) -> int:
        """Count commands, those inside scripts included."""
        stats: Any = self._client.info("commandstats")
        return sum(int(line["calls"]) for name, line in stats.items() if "info" not in name)

    def settings(self) -> dict[str, str]:
        info: Any = self._client.info("server")
        options: Any = self._client.config_get("appendonly", "save")
        return {"version": f"Redis {info['redis_version']}", **options}


class Rabbitmq(Process):
    counted = "(nothing)"

    def __init__(self, server: rabbitmq_servers.RabbitmqServer) -> None:
        super().__init__(server)
        self.url = server.url
        self._owner = server

    def clear(self) -> None:
        self._owner.empty()

    def settings(self) -> dict[str, str]:
        return {"version": f"RabbitMQ {self._owner.ctl('version').strip()}"}


class Sql(Process):
    """A server of SQL. Every `clear` makes another database."""

    names: ClassVar[tuple[str, ...]]
    show: ClassVar[str]
    drop: ClassVar[str] = "DROP DATABASE {}"

    def __init__(self, server: sql_servers.SqlServer) -> None:
        super().__init__(server)
        self._place = server.url
        self._databases = (f"bench{number}" for number in itertools.count())
        self._database = ""
        self._connection = self._connect(server.port)

    @abc.abstractmethod
    def _connect(self, port: int) -> Any:
        """Return a connection to another database than those that are measured."""

    def clear(self) -> None:
        if self._database:
            self._ask(self.drop.format(self._database))
        self._database = next(self._databases)
        self._ask(f"CREATE DATABASE {self._database}")
        self.url = self._place.partition("?")[0].removesuffix("test") + self._database
        if query := self._place.partition("?")[2]:
            self.url += f"?{query}"

    def settings(self) -> dict[str, str]:
        return {name: str(self._ask(self.show.format(name))) for name in self.names}

    def _ask(self, query: str) -> Any:
        """Return the last column of the answer's first row."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
        return row and row[-1]


class Postgresql(Sql):
    counted = "transactions"
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "log_min_messages")
    show = "SHOW {}"
    # Autovacuum may be at work in it.
    drop = "DROP DATABASE {} WITH (FORCE)"

    def _connect(self, port: int) -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True
        )

    def count(self) -> int:
        query = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{self._database}'"
        return int(self._ask(query))


class Mariadb(Sql):
    counted = "statements"
    names = (
        "version",
        "innodb_flush_log_at_trx_commit",
        "innodb_flush_method",
        "innodb_buffer_pool_size",
        "log_bin",
    )
    show = "SHOW GLOBAL VARIABLES LIKE '{}'"

    def _connect(self, port: int) -> Any:
        return pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)

    def count(self) -> int:
        return int(self._ask("SHOW GLOBAL STATUS LIKE 'Questions'"))


class _PostgresqlServer(sql_servers.PostgresqlServer):
    """With the memory that PostgreSQL takes by default; that of tests is smaller."""

    def _command(self) -> list[str]:
        return [*super()._command(), "-c", "shared_buffers=128MB"]


@contextlib.contextmanager
def _file() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield File(Path(folder))


@contextlib.contextmanager
def _redis() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder, servers.RedisServer(Path(folder)) as server:
        yield Redis(server)


@contextlib.contextmanager
def _rabbitmq() -> Iterator[Place]:
    with rabbitmq_servers.RabbitmqServer() as server:
        yield Rabbitmq(server)


@contextlib.contextmanager
def _postgresql() -> Iterator[Place]:
    with _PostgresqlServer() as server:
        yield Postgresql(server)


@contextlib.contextmanager
def _mariadb() -> Iterator[Place]:
    # Its own defaults again, where those of tests are smaller.
    options = ("--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M")
    with sql_servers.MariadbServer(*options) as server:
        yield Mariadb(server)


PLACES: dict[str, Callable[[], contextlib.AbstractContextManager[Place]]] = {
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "sqlite": _file,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
}
"""By broker; each makes what is needed and removes it."""
