"""What differs between databases, as one object chosen when a client is opened.

Another database is another `Dialect` and another table of `Statements`; no
other module asks which one it talks to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from taskq.clock import Seconds
from taskq.errors import ConnectionFailed, TaskqError

Parameters: TypeAlias = dict[str, Any]

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

    from taskq_sql.listener import Ear
    from taskq_sql.naming import Names
    from taskq_sql.statements import Statements


class Locked(ConnectionFailed):
    """Another transaction is in the way; nothing happened. Trying again helps."""


class Dialect(Protocol):
    """One database, and how to speak with it. Stateless, so safe in any thread."""

    @property
    def sentences(self) -> Statements:
        """The statements with placeholders that SQLAlchemy's `text` takes."""
        ...

    @property
    def statements(self) -> Statements:
        """Return the sentences, about tables as `names` calls them."""
        ...

    @property
    def names(self) -> Names:
        """What the tables are called."""
        ...

    @property
    def family(self) -> str:
        """What SQLAlchemy and Alembic call databases of this kind."""
        ...

    @property
    def key(self) -> str:
        """Name what clients wait for each other in; equal for those that reach the same."""
        ...

    @property
    def home(self) -> str | None:
        """What `identify` returns in this database, where that is known without asking it."""
        ...

    @property
    def timeout(self) -> Seconds:
        """How long a call may wait for the database, where it has no limit of its own."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether one writer at a time has the whole database to itself."""
        ...

    @property
    def creates(self) -> bool:
        """Whether an empty database gets its tables at first use, and old ones are changed."""
        ...

    def engine(self, left: Callable[[], Seconds] | None = None) -> Engine:
        """Return an engine whose connections commit each statement by itself.

        Asked when it connects, `left` says how long that may take, where that is
        less than the URL says.

        Raises:
            ImproperlyConfigured: the place the URL names cannot hold a database.
        """
        ...

    def prepare(self, connection: Connection, *, reading: bool = False) -> None:
        """Set up a new connection; for `reading`, no transaction will begin on it.

        Raises:
            NotSupported: the database cannot give what taskq promises.
        """
        ...

    def limit(self, connection: Connection, patience: Seconds) -> None:
        """Let each of the server's next answers take so long and no longer."""
        ...

    def now(self, connection: Connection) -> int:
        """Return the server's time in microseconds."""
        ...

    def array(self, values: Sequence[object]) -> object:
        """Return many values as one parameter, for `:array`."""
        ...

    def identify(self, connection: Connection) -> str:
        """Return what no other database has, of the one that a connection is in."""
        ...

    def batch(self, rows: list[Parameters], common: Parameters) -> Parameters | list[Parameters]:
        """Return the parameters of a change of many rows, in order, and of what is common to all.

        There is a row, and all have the same keys.
        """
        ...

    def translate(self, error: DBAPIError, *, committing: bool = False) -> TaskqError:
        """Return taskq's own error for the driver's."""
        ...

    def busy(self) -> Locked:
        """Return the error for a lock that did not become free in time."""
        ...

    def listen(self) -> Ear:
        """Return a new connection that notifications come by, where `Statements.notify` is said.

        Raises:
            Deaf: there is none.
        """
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Keep all others from changing these tables until the transaction or connection ends.

        Raises:
            Locked: another went on doing so for a minute.
        """
        ...

    def check(self, connection: Connection) -> list[str]:
        """Return one sentence for each promise that the database's settings weaken."""
        ...
