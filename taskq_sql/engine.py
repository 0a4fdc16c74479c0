"""Connections, transactions and the patience for locks.

A `Database` is what one client has of one database. It keeps two connections
per process, one that reads and one that writes, and opens them at the first
use. Work is a function of a `Session`, because a transaction that met another
one is rolled back and done again until the caller's deadline.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.exc import DBAPIError

from taskq.clock import Clock, Seconds, to_microseconds
from taskq.errors import (
    Closed,
    ConnectionFailed,
    OutcomeUnknown,
    ServerRefused,
    TaskqError,
)
from taskq.url import Url
from taskq_sql.dialects import Dialect, Locked
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.lanes import Lane
from taskq_sql.link import Link
from taskq_sql.listener import ECHO, channel_of
from taskq_sql.session import Session
from taskq_sql.site import Bell, site_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

Result = TypeVar("Result")
_SHORTEST: Final[Seconds] = 0.1
"""How long a server has to answer at the least, however near the deadline is."""
_CLOSING: Final[Seconds] = 0.5
"""How long closing waits for other clients of the same file."""
_PAUSE: Final[Seconds] = 0.001
"""Between two tries, where the database reports a lock without having waited."""


def open_database(url: Url, clock: Clock) -> Database:
    """Return the database a URL names; it connects at its first use.

    Raises:
        ImproperlyConfigured: the URL has an error.
    """
    return Database(dialect_of(url), clock, namespace=url.namespace)


@contextlib.contextmanager
def after(done: int) -> Iterator[None]:
    """Run one transaction of many: after `done` changes by others, "nothing happened" is not true.

    Raises:
        OutcomeUnknown: it failed, and others had been committed.
    """
    try:
        yield
    except (ConnectionFailed, ServerRefused) as error:
        if done:
            raise OutcomeUnknown(f"carried out in part, then: {error}") from error
        raise


class _Unbegun(Exception):
    """Nothing was changed: the call failed before it had begun to."""

    def __init__(self, reason: TaskqError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _left(end: float) -> Seconds:
    return max(_SHORTEST, end - time.monotonic())


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
        self._links: dict[int, Link] = {}
        self._channel = channel_of(str(dialect.names), namespace)
        self._notified = float("-inf")
        self._identity: str | None = None

    @property
    def timeout(self) -> Seconds:
        """How long a call waits for the database at most."""
        return self._dialect.timeout

    @property
    def dialect(self) -> Dialect:
        """How to speak with the database."""
        return self._dialect

    @property
    def offset(self) -> int:
        """Microseconds by which tests have moved the server's clock."""
        return to_microseconds(self._clock.offset)

    @property
    def identity(self) -> str:
        """What no other database has."""
        if self._identity is None:
            home = self._dialect.home
            read = self._dialect.identify
            self._identity = home or self.read(lambda session: read(session.connection))
        return self._identity

    @property
    def bell(self) -> Bell:
        return self._link().site.bell

    def listen(self) -> None:
        """Let what other processes do ring the bell from now on, where the database can."""
        if self._dialect.statements.notify:
            listener = self._link().site.listener
            listener.join(self, self._channel, self._dialect.listen)
            if self.closed:
                listener.leave(self)

    @property
    def echoes(self) -> bool:
        """Whether the bell rang just now for what is not there yet, or may not ring for more."""
        site = self._link().site
        return site.bell.promises or site.listener.echoes()

    def transact(
        self,
        work: Callable[[Session], Result],
        *,
        timeout: Seconds | None = None,
        turn: Seconds | None = None,
    ) -> Result:
        """Return what `work` does in one transaction; it may be called more than once.

        It ends within `timeout` seconds, and waits for others for `turn` of them.

        Raises:
            Locked: other transactions were in the way for so long.
        """
        link = self._link()
        commit = partial(self._commit, work=work, link=link)
        return self._patiently(link, link.writing, commit, timeout, turn)

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Return what `work` finds, without locking out anybody."""
        link = self._link()
        return self._patiently(link, link.reading, lambda c: self._look(c, work))

    def check(self) -> list[str]:
        """Contact the database; return its warnings."""
        link = self._link()
        return self._patiently(link, link.writing, self._dialect.check)

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
            # A file's lock is shared with other clients, who give it back in a moment.
            if lane.lock.acquire(timeout=_CLOSING if self._dialect.exclusive else 0):
                lane.drop()
                lane.lock.release()
        link.site.listener.leave(self)
        link.site.bell.ring()

    def _link(self) -> Link:
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:
            link = self._links.setdefault(pid, Link(self._dialect, site_of(self._dialect.key)))
        return link

    def _patiently(
        self,
        link: Link,
        lane: Lane,
        work: Callable[[Connection], Result],
        timeout: Seconds | None = None,
        turn: Seconds | None = None,
    ) -> Result:
        limit = self._dialect.timeout if timeout is None else min(timeout, self._dialect.timeout)
        end = time.monotonic() + limit
        turned = end if turn is None else min(end, time.monotonic() + turn)
        while True:
            try:
                return self._try(link, lane, work, end, turned)
            except Locked:
                if time.monotonic() >= turned:
                    raise
                link.site.bell.wait(link.site.bell.rung, _PAUSE)

    def _try(
        self,
        link: Link,
        lane: Lane,
        work: Callable[[Connection], Result],
        end: float,
        turned: float,
    ) -> Result:
        self.ensure_open()
        if not lane.lock.acquire(timeout=max(0.0, turned - time.monotonic())):
            raise self._dialect.busy()
        try:
            kept = lane.connection is not None
            try:
                return work(link.connect(lane, _left(end)))
            except _Unbegun as error:
                # A server may have ended what was idle, and nothing has happened yet.
                stale = kept and not self._dialect.exclusive
                if not stale or not isinstance(error.reason, ConnectionFailed):
                    raise
                if isinstance(error.reason, Locked):
                    raise
                link.lose(lane)
                if time.monotonic() >= end:
                    raise
                return work(link.connect(lane, _left(end)))
        except _Unbegun as error:
            if not isinstance(error.reason, Locked):
                link.lose(lane)
            raise error.reason from error
        except DBAPIError as error:
            translated = self._dialect.translate(error)
            if not isinstance(translated, Locked):
                link.lose(lane)
            raise translated from error
        except OutcomeUnknown:
            link.lose(lane)
            raise
        finally:
            lane.lock.release()
            if self.closed:
                # Whoever closed it may have found the lane in use.
                self.close()

    def _session(self, connection: Connection) -> Session:
        return Session(connection, self._dialect, self.offset)

    def _commit(
        self, connection: Connection, work: Callable[[Session], Result], link: Link
    ) -> Result:
        try:
            connection.exec_driver_sql(self._dialect.statements.begin)
        except DBAPIError as error:
            raise _Unbegun(self._dialect.translate(error)) from error
        committed = False
        try:
            session = self._session(connection)
            result = work(session)
            try:
                connection.exec_driver_sql("COMMIT")
            except DBAPIError as error:
                raise self._dialect.translate(error, committing=True) from error
            committed = True
        finally:
            if not committed:
                self._undo(connection, link.writing)
        if session.changed:
            link.site.bell.ring()
        if session.woken and session.sql.notify:
            self._notify(session, link.writing)
        return result

    def _notify(self, session: Session, lane: Lane) -> None:
        """Tell other processes. It is a hint, so that its failure is nobody's."""
        now = time.monotonic()
        if now - self._notified >= ECHO:
            self._notified = now
            try:
                session.rows(session.sql.notify, {"channel": self._channel})
            except DBAPIError:
                lane.drop()

    def _undo(self, connection: Connection, lane: Lane) -> None:
        """Roll back, where that is more than to close the connection."""
        # Between answers a connection is as good as new; in the midst of one it is not, and
        # neither is a file that could not be read or written.
        reason = sys.exception()
        failed = isinstance(reason, DBAPIError) and self._dialect.exclusive
        if failed or connection.invalidated or not isinstance(reason, Exception):
            lane.drop()
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except DBAPIError:
            lane.drop()

    def _look(self, connection: Connection, work: Callable[[Session], Result]) -> Result:
        try:
            return work(self._session(connection))
        except DBAPIError as error:
            raise _Unbegun(self._dialect.translate(error)) from error
