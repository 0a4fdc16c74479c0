"""What work on a database is done with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskq_sql.dialects import Dialect, Parameters

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult


class Session:
    """One open transaction, or one read; valid inside the function it is given to."""

    def __init__(self, connection: Connection, dialect: Dialect, offset: int) -> None:
        self.connection = connection
        self._dialect = dialect
        self.offset = offset
        self._now: int | None = None
        self.sql = dialect.statements
        self.changed = False
        """Some row was changed in here."""
        self.woken = False
        """Something became ready in here, so that who waits for work is to look."""

    @property
    def exclusive(self) -> bool:
        """Whether nobody else can change anything during this transaction."""
        return self._dialect.exclusive

    # Python 3.11's `cached_property` would have all threads wait for the slowest server.
    @property
    def now(self) -> int:
        """The server's time in microseconds, the same for all that happens in here."""
        if self._now is None:
            self._now = self._dialect.now(self.connection) + self.offset
        return self._now

    def execute(
        self, statement: str, parameters: Parameters | list[Parameters]
    ) -> CursorResult[Any]:
        """Carry out a statement, with a list of parameters once for each of them."""
        return self.connection.exec_driver_sql(statement, parameters)

    def rows(self, statement: str, parameters: Parameters) -> Sequence[Any]:
        """Return what a query finds."""
        return self.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Parameters) -> int:
        """Carry out a change; return how many rows it met."""
        count = self.execute(statement, parameters).rowcount
        self.changed = self.changed or count != 0
        return count

    def each(self, statement: str, rows: list[Parameters], **common: object) -> None:
        """Carry out a change for each row, in order, with what is common to all."""
        if rows:
            self.changed = True
            self.execute(statement, self._dialect.batch(rows, common))

    def change(self, statement: str, found: Sequence[Sequence[Any]], **common: object) -> int:
        """Change what was found, by the first column of its rows; return how many there were."""
        if not found:
            return 0
        return self.run(statement, {"array": self.array([row[0] for row in found]), **common})

    def array(self, values: Sequence[object]) -> object:
        return self._dialect.array(values)
