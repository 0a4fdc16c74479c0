"""What differs between databases, as one object chosen when a client is opened.

Another database is another `Dialect` and another table of `Statements`; no
other module asks which one it talks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from taskq.clock import Seconds
from taskq.errors import ConnectionFailed, TaskqError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

    from taskq_sql.statements import Statements


class Locked(ConnectionFailed):
    """Another transaction is in the way; nothing happened. Trying again helps."""


class Dialect(Protocol):
    """One database, and how to speak with it. Stateless, so safe in any thread."""

    @property
    def statements(self) -> Statements: ...

    @property
    def key(self) -> str:
        """Name the database; equal for clients that reach the same one."""
        ...

    @property
    def timeout(self) -> Seconds:
        """How long a call may wait for the database, where it has no limit of its own."""
        ...

    def engine(self) -> Engine:
        """Return an engine whose connections commit each statement by itself.

        Raises:
            ImproperlyConfigured: the place the URL names cannot hold a database.
        """
        ...

    def prepare(self, connection: Connection) -> None:
        """Set up a new connection.

        Raises:
            NotSupported: the database cannot give what taskq promises.
        """
        ...

    def now(self, connection: Connection) -> int:
        """Return the server's time in microseconds."""
        ...

    def array(self, values: Sequence[object]) -> object:
        """Return many values as one parameter, for `:array`."""
        ...

    def translate(self, error: DBAPIError, *, committing: bool = False) -> TaskqError:
        """Return taskq's own error for the driver's."""
        ...

    def busy(self) -> Locked:
        """Return the error for a lock that did not become free in time."""
        ...

    def check(self, connection: Connection) -> list[str]:
        """Return one sentence for each promise that the database's settings weaken."""
        ...
