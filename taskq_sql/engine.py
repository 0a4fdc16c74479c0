"""Connections, transactions and the patience for locks.

A `Database` is what one client has of one database. It keeps two connections
per process, one that reads and one that writes, and opens them at the first
use. Work is a function of a `Session`, because a transaction that met another
one is rolled back and done again until the caller's deadline.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sqlalchemy.exc import DBAPIError

from taskq.clock import Clock, Seconds, to_microseconds
from taskq.errors import Closed
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialect import Dialect, Locked
from taskq_sql.lanes import Lane
from taskq_sql.sqlite import SqliteDialect

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Result = TypeVar("Result")
Parameters: TypeAlias = dict[str, Any]
_PAUSE: Final[Seconds] = 0.001
"""Between two tries, where the database reports a lock without having waited."""


def open_database(url: Url, clock: Clock) -> Database:
    """Return the database a URL names; it connects at its first use.

    Raises:
        ImproperlyConfigured: the URL has an error.
    """
    return Database(SqliteDialect(url), clock, namespace=url.namespace)


class Bell:
    """Tells the clients in this process that a database has changed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rung = 0
        """How often; read it before you look, and hand it to `wait`."""

    def ring(self) -> None:
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout: Seconds) -> None:
        """Return when it has rung since `seen`, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.rung != seen, timeout)


class Site:
    """What all clients of one database in one process share.

    Writers queue at the lock, which wakes them in order and at once; the
    database's own lock, which is polled, then has one contender per process.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self.writing = threading.Lock()


_sites: Final[weakref.WeakValueDictionary[tuple[int, str], Site]] = weakref.WeakValueDictionary()
"""Interns sites by process and database, as a file's locks are interned by the system."""


class Session:
    """One open transaction, or one read; valid inside the function it is given to."""

    __slots__ = ("_dialect", "connection", "now", "sql")

    def __init__(self, connection: Connection, dialect: Dialect, offset: int) -> None:
        self.connection = connection
        self._dialect = dialect
        self.sql = dialect.statements
        self.now = dialect.now(connection) + offset
        """The server's time in microseconds, the same for all that happens in here."""

    def rows(self, statement: str, parameters: Parameters) -> Sequence[Any]:
        """Return what a query finds."""
        return self.connection.exec_driver_sql(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Parameters | list[Parameters]) -> int:
        """Carry out a change, once for each set of parameters; return how many rows it met."""
        if not parameters:
            return 0
        return self.connection.exec_driver_sql(statement, parameters).rowcount

    def array(self, values: Sequence[object]) -> object:
        return self._dialect.array(values)


class _Link:
    """What one process has open."""

    def __init__(self, dialect: Dialect, site: Site) -> None:
        self._dialect = dialect
        self._engine: Engine | None = None
        self._current = False
        self.site = site
        self.writing = Lane(site.writing)
        self.reading = Lane(threading.Lock())

    def connect(self, lane: Lane) -> Connection:
        """Return the lane's connection; call it with the lane's lock held."""
        if lane.connection is None:
            if self._engine is None:
                self._engine = self._dialect.engine()
            lane.connection = self._engine.connect()
            try:
                self._dialect.prepare(lane.connection)
                if not self._current:
                    schema.ensure(lane.connection, self._dialect.statements)
            except BaseException:
                lane.drop()
                raise
            self._current = True
        return lane.connection


class Database:
    """One client's way to one namespace of a database. Thread-safe, and safe over a fork.

    A fork finds nothing open (see `taskq_sql.lanes`), and the child opens its
    own. Only a transaction that lasts longer than a fork waits is inherited; it
    stays referenced and unused: closing it would act on the parent's files.
    """

    def __init__(self, dialect: Dialect, clock: Clock, *, namespace: str) -> None:
        self.namespace = namespace
        self.closed = False
        self._dialect = dialect
        self._clock = clock
        self._links: dict[int, _Link] = {}

    @property
    def timeout(self) -> Seconds:
        """How long a call waits for the database at most."""
        return self._dialect.timeout

    @property
    def bell(self) -> Bell:
        return self._link().site.bell

    def transact(
        self, work: Callable[[Session], Result], *, timeout: Seconds | None = None
    ) -> Result:
        """Return what `work` does in one transaction; it may be called more than once.

        Raises:
            Locked: other transactions were in the way for `timeout` seconds.
        """
        link = self._link()
        return self._patiently(link, link.writing, lambda c: self._commit(c, work, link), timeout)

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Return what `work` finds, without locking out anybody."""
        link = self._link()
        return self._patiently(link, link.reading, lambda c: work(self._session(c)), None)

    def check(self) -> list[str]:
        """Contact the database; return its warnings."""
        link = self._link()
        return self._patiently(link, link.writing, self._dialect.check, None)

    def ensure_open(self) -> None:
        if self.closed:
            raise Closed

    def close(self) -> None:
        """Close what this process has open. Work under way ends first, or closes it itself."""
        self.closed = True
        link = self._links.get(os.getpid())
        if link is None:
            return
        for lane in (link.reading, link.writing):
            if lane.lock.acquire(blocking=False):
                lane.drop()
                lane.lock.release()
        link.site.bell.ring()

    def _link(self) -> _Link:
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:
            key = (pid, self._dialect.key)
            site = _sites.setdefault(key, Site())
            link = self._links.setdefault(pid, _Link(self._dialect, site))
        return link

    def _patiently(
        self,
        link: _Link,
        lane: Lane,
        work: Callable[[Connection], Result],
        timeout: Seconds | None,
    ) -> Result:
        limit = self._dialect.timeout if timeout is None else min(timeout, self._dialect.timeout)
        deadline = time.monotonic() + limit
        while True:
            try:
                return self._try(link, lane, work, deadline)
            except Locked:
                if time.monotonic() >= deadline:
                    raise
                link.site.bell.wait(link.site.bell.rung, _PAUSE)

    def _try(
        self, link: _Link, lane: Lane, work: Callable[[Connection], Result], deadline: float
    ) -> Result:
        self.ensure_open()
        if not lane.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._dialect.busy()
        try:
            return work(link.connect(lane))
        except DBAPIError as error:
            translated = self._dialect.translate(error)
            if not isinstance(translated, Locked):
                lane.drop()
            raise translated from error
        finally:
            if self.closed:
                lane.drop()
            lane.lock.release()

    def _session(self, connection: Connection) -> Session:
        return Session(connection, self._dialect, to_microseconds(self._clock.offset))

    def _commit(
        self, connection: Connection, work: Callable[[Session], Result], link: _Link
    ) -> Result:
        connection.exec_driver_sql(self._dialect.statements.begin)
        committed = False
        try:
            result = work(self._session(connection))
            try:
                connection.exec_driver_sql("COMMIT")
            except DBAPIError as error:
                raise self._dialect.translate(error, committing=True) from error
            committed = True
        finally:
            if not committed:
                link.writing.drop()
        link.site.bell.ring()
        return result
