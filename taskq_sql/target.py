"""The conformance kit's way to a SQL database: one namespace per example.

A URL without a path (``sqlite://``) means a file in a temporary folder that
lives as long as the target, without flushing: the kit tests laws, not disks.

SQLite has no connection that a proxy could break. What fails there is the disk,
and so the statements of a breakable client's driver fail, as many as are asked
for, with the error and the consequences of a disk that fails.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Table, delete, event, func, select
from sqlalchemy.exc import DBAPIError

from taskq.clock import Seconds, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.errors import BrokerError, ConnectionFailed
from taskq.plugins import Plugins
from taskq.testing.faults import Fault, Trigger
from taskq.testing.target import Restart, UrlTarget
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.dialects.sqlite import SqliteDialect
from taskq_sql.engine import Database, open_database
from taskq_sql.results import SqlResults
from taskq_sql.session import Session
from taskq_sql.tables import tables

if TYPE_CHECKING:
    from sqlalchemy import Engine


_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}


class SqlTarget(UrlTarget):
    """A namespace in a database."""

    processes = True

    def footprint(self) -> list[str]:
        def count(session: Session, table: Table) -> int:
            query = select(func.count()).where(table.c.namespace == self.url.namespace)
            return session.connection.execute(query).scalar_one()

        with closing(open_database(self.url, self.clock)) as database:
            counts = {
                table.name: database.read(partial(count, table=table)) for table in self._tables()
            }
        return [f"{count} rows in {name}" for name, count in counts.items() if count]

    def wipe(self) -> None:
        def empty(session: Session) -> None:
            for table in self._tables():
                query = delete(table).where(table.c.namespace == self.url.namespace)
                session.connection.execute(query)

        with closing(open_database(self.url, self.clock)) as database:
            database.transact(empty)

    def _tables(self) -> tuple[Table, ...]:
        return tables(dialect_of(self.url).names).namespaced


class ServerTarget(SqlTarget):
    """A namespace on a server, in a database that the kit may make tables in."""

    def __init__(
        self, url: str | Url, plugins: Plugins | None = None, *, restart: Restart | None = None
    ) -> None:
        super().__init__(url, plugins, restart=restart)
        self._made = False

    @property
    def server(self) -> str:
        with closing(open_database(self.given, self.clock)) as database:
            ((said,),) = database.read(lambda session: session.rows("SELECT version()", {}))
        # "PostgreSQL 15.2 on x86…", "10.11.2-MariaDB-1…", "8.4.1"
        number, _, kind = said.partition("-")
        if number.startswith("PostgreSQL"):
            return " ".join(number.split()[:2])
        return f"{'MariaDB' if 'MariaDB' in kind else 'MySQL'} {number}"

    @property
    def address(self) -> tuple[str, int] | None:
        return self.url.host or "localhost", self.url.port or _PORTS[self.url.scheme]

    def crash(self, broker: Broker) -> None:
        super().crash(broker)
        # All that a server sees of a death is the end of its connections.
        with suppress(BrokerError):
            broker.close()

    def begin(self, *, breakable: bool = False) -> VirtualClock:
        if not self._made:
            self._make()
        return super().begin(breakable=breakable)

    def _make(self) -> None:
        dialect = dialect_of(self.given)
        try:
            schema.make(dialect)
        except DBAPIError as error:
            translated = dialect.translate(error)
            # That a server is not there is for the kit to find out, at its first call.
            if not isinstance(translated, ConnectionFailed):
                raise translated from error
        else:
            self._made = True


class SqliteTarget(SqlTarget):
    """A namespace in a SQLite file.

    An exchange is one statement, BEGIN and COMMIT included, and those that a new
    connection begins with. BEFORE: it fails without having been carried out.
    AFTER: it was carried out. MIDDLE: the same (of a statement for many rows, the
    first half), and the connection is of no more use.
    """

    def __init__(
        self, url: str | Url, plugins: Plugins | None = None, *, restart: Restart | None = None
    ) -> None:
        super().__init__(url, plugins, restart=restart)
        if not self.url.path:
            folder = tempfile.mkdtemp(prefix="taskq-kit-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            query = {"synchronous": "off", **self.url.query}
            self.url = self.url.replace(path=f"/{folder}/kit.db", query=query)

    @property
    def server(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @property
    def faults(self) -> frozenset[Fault]:
        return frozenset(Fault)

    def new_broker(self, url: Url) -> Broker:
        if not self.breakable:
            return super().new_broker(url)
        trigger = Trigger()
        broker = SqlBroker(self._breakable_database(url, trigger))
        self.may_break(broker, trigger)
        return broker

    def new_results(self, url: Url) -> Results:
        if not self.breakable:
            return super().new_results(url)
        trigger = Trigger()
        results = SqlResults(self._breakable_database(url, trigger))
        self.may_break(results, trigger)
        return results

    def _breakable_database(self, url: Url, trigger: Trigger) -> Database:
        return Database(_FailingSqlite(url, trigger), self.clock, namespace=url.namespace)


class _FailingSqlite(SqliteDialect):
    """SQLite on a disk that fails when the trigger says so."""

    def __init__(self, url: Url, trigger: Trigger) -> None:
        super().__init__(url)
        self._trigger = trigger

    def engine(self, left: Callable[[], Seconds] | None = None) -> Engine:
        engine = super().engine(left)

        @event.listens_for(engine, "do_connect")
        def use_ours(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
            options["factory"] = partial(_Connection, trigger=self._trigger)

        return engine


class _Connection(sqlite3.Connection):
    """A connection of the driver whose statements fail."""

    def __init__(self, *args: Any, trigger: Trigger, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trigger = trigger
        self.lost = False

    def cursor(self) -> _Cursor:  # type: ignore[override]  # nobody names another kind
        return super().cursor(_Cursor)


class _Cursor(sqlite3.Cursor):
    """Fails as its connection's trigger says."""

    connection: _Connection

    def execute(self, statement: str, parameters: Any = (), /) -> Self:
        fault = self._next()
        super().execute(statement, parameters)
        if fault is not None:
            self._fail(fault)
        return self

    def executemany(self, statement: str, rows: Iterable[Any], /) -> Self:
        fault = self._next()
        rows = list(rows)
        if fault is Fault.MIDDLE:
            rows = rows[: (len(rows) + 1) // 2]
        super().executemany(statement, rows)
        if fault is not None:
            self._fail(fault)
        return self

    def _next(self) -> Fault | None:
        """Count a statement; fail before it, or return how it will fail."""
        fault = self.connection.trigger.pull()
        if self.connection.lost or fault is Fault.BEFORE:
            raise _disk_error()
        return fault

    def _fail(self, fault: Fault) -> None:
        self.connection.lost = fault is Fault.MIDDLE
        raise _disk_error()


def _disk_error() -> sqlite3.OperationalError:
    """Return what the driver raises when reading or writing the file fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    error.sqlite_errorname = "SQLITE_IOERR"
    return error
