"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import dataclasses
import getpass
import math
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from taskq.clock import Seconds
from taskq.errors import NotSupported
from taskq.url import Url
from taskq_sql.dialects import Parameters
from taskq_sql.dialects.address import Address
from taskq_sql.dialects.ear import PostgresqlEar
from taskq_sql.dialects.server import Report, ServerDialect, Trouble
from taskq_sql.listener import Deaf
from taskq_sql.statements import postgresql

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

PORT: Final = 5432
OLDEST: Final = 12
"""The oldest major version that is tested with, or still used by many."""
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


_connecting: Final[ContextVar[Seconds]] = ContextVar("_connecting")
"""How long the connection that this thread is making may take to be made."""


class _Connection(psycopg.Connection[Any]):
    """A connection of psycopg on which no call waits for ever."""

    limit: Seconds | None = None

    @classmethod
    def _connect_gen(cls, *args: Any, **options: Any) -> Any:
        # The driver resumes this every tenth of a second.
        deadline = time.monotonic() + _connecting.get()
        steps = super()._connect_gen(*args, **options)
        ready: Any = None
        while True:
            try:
                waits = steps.send(ready)
            except StopIteration as done:
                return done.value
            ready = yield waits
            if time.monotonic() >= deadline:
                steps.close()
                raise errors.ConnectionTimeout("the server did not answer in time")

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.limit if timeout is None else timeout)
        except errors._WaitTimeout:
            # What the server is doing is not known, so the connection is of no more use.
            self.pgconn.finish()
            raise errors.ConnectionTimeout(
                f"the server did not answer within {self.limit:g} s"
            ) from None


class PostgresqlDialect(ServerDialect):
    """A database of a PostgreSQL server. It keeps no state in its session, for poolers."""

    family = "postgresql"
    shows_locks = "pg_stat_activity"

    def __init__(self, url: Url) -> None:
        address = Address.read(
            url,
            port=PORT,
            drivers=frozenset({"psycopg"}),
            user=url.username or getpass.getuser(),
            sslmode=str,
            sslrootcert=str,
            sslcert=str,
            sslkey=str,
            application_name=str,
            prepare=bool,
            notify=bool,
            schema=str,
        )
        notifies = address.options.pop("notify", True)
        super().__init__(address, postgresql.POSTGRESQL)
        if not notifies:
            self.statements = dataclasses.replace(self.statements, notify="")

    def engine(self, left: Callable[[], Seconds] | None = None) -> Engine:
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: self._connect(left() if left else self.timeout),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # They hold what tasks are given; an error's text goes to logs.
            hide_parameters=True,
            # A transaction pooler may hand over another session at any time.
            use_native_hstore=False,
        )

    def _connect(self, left: Seconds) -> psycopg.Connection[Any]:
        address = self._address
        limit = min(left, address.connect_timeout)
        _connecting.set(limit)
        options = dict(address.options)
        prepares = options.pop("prepare", True)
        try:
            connection = _Connection.connect(
                host=address.host,
                port=address.port,
                dbname=address.database,
                user=address.user,
                password=address.password or None,
                # `_Connection` is exact where the driver knows nothing below 2 seconds.
                connect_timeout=max(2, math.ceil(limit)),
                autocommit=True,
                prepare_threshold=5 if prepares else None,
                **({"application_name": "taskq"} | options),
            )
        except psycopg.Error as error:
            # With it the driver hands out all it was told, the password too.
            error._pgconn = None
            raise
        connection.limit = left
        return connection

    def prepare(self, connection: Connection, *, reading: bool = False) -> None:
        driver: Any = connection.connection.driver_connection
        version = driver.info.server_version // 10000
        if version < OLDEST:
            raise NotSupported(
                f"{self._address}: PostgreSQL {version} is older than {OLDEST}; upgrade it"
            )
        if reading:
            # A plan that is kept was made for the size the tables had then: of small ones it
            # reads all. Transactions say that they do not want that (`begin`).
            driver.prepare_threshold = None

    def limit(self, connection: Connection, patience: Seconds) -> None:
        driver: Any = connection.connection.driver_connection
        driver.limit = patience

    def now(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql(_NOW).scalar_one())

    def array(self, values: Sequence[object]) -> object:
        return list(values)

    def batch(self, rows: list[Parameters], common: Parameters) -> Parameters:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return columns | common

    def _read(self, error: DBAPIError) -> Report:
        cause = error.orig
        state = getattr(cause, "sqlstate", None) or ""
        # Before what the server says of a connection, libpq says which one it is.
        told = str(cause).partition("\n")[0].rpartition("FATAL:  ")[2]
        if state in _AGAIN:
            return Report(Trouble.BUSY)
        if state == "25P03":
            return Report(Trouble.PAUSED)
        if state in _CURES:
            return Report(Trouble.REFUSED, told, _CURES[state])
        lasting = next((cure for words, cure in _LASTING.items() if words in told), None)
        if not state and lasting is not None:
            return Report(Trouble.REFUSED, told, lasting)
        if not state or state[:2] in {"08", "57"} or state == "53300":
            return Report(Trouble.LOST, told)
        if state == "42P01":
            return Report(Trouble.NO_TABLE)
        return Report(Trouble.REFUSED, told, "PostgreSQL refused")

    def listen(self) -> PostgresqlEar:
        try:
            return PostgresqlEar(self._connect(self.timeout))
        except psycopg.Error as error:
            raise Deaf(str(error).partition("\n")[0]) from error

    def lock_schema(self, connection: Connection) -> None:
        name = {"name": self.names.table("schema")}
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%(name)s))", name)

    def _weakness(self, connection: Connection) -> str | None:
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() != "off":
            return None
        return (
            "synchronous_commit is off: what was accepted last may be lost if the server dies; "
            "set it to on for this database or user"
        )


_USER: Final = "user or password were refused; correct them in the URL"
_LASTING: Final = {
    "authentication": _USER,
    "no password supplied": _USER,
    "pg_hba.conf": "the user was refused; correct the user in the URL, or pg_hba.conf",
    "permission denied": "the user lacks the right; grant it",
    "not permitted": "the user lacks the right; grant it",
    'role "': _USER,
    'database "': "there is no such database; create it, or correct the URL",
    "invalid sslmode": "correct sslmode in the URL: disable, allow, prefer, require, verify-ca "
    "or verify-full",
    "certificate": "the certificate was refused; correct sslrootcert, sslcert or sslkey in the URL",
}
"""What a server that refuses a connection says if trying again is of no use. A refusal to
connect comes without a code, and not always in English; in doubt it is tried again."""
_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available: the transaction was rolled back."""
_CURES: Final = {
    "25006": "it is read-only; name the primary server in the URL",
    "28000": "the user was refused; correct the user in the URL, or pg_hba.conf",
    "28P01": "the password was refused; correct it in the URL",
    "3D000": "there is no such database; create it, or correct the URL",
    "42501": "the user lacks a right; grant it SELECT, INSERT, UPDATE and DELETE on taskq's "
    "tables and USAGE of their schema, and to who makes them CREATE as well",
    "53100": "the server's disk is full, so nothing was written; make room",
    "53200": "the server is out of memory",
    "57014": "the server took too long; raise its statement_timeout",
}
