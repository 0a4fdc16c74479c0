"""What all database servers have in common, whichever driver speaks with them."""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from taskq.clock import Seconds
from taskq.errors import (
    ConnectionFailed,
    ImproperlyConfigured,
    OutcomeUnknown,
    ServerRefused,
    TaskqError,
)
from taskq_sql.dialects import Locked
from taskq_sql.dialects.pyformat import pyformat
from taskq_sql.statements import PAUSE, Statements, renamed

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

    from taskq_sql.dialects.address import Address


class Trouble(enum.Enum):
    """What an error of a driver comes to."""

    BUSY = enum.auto()
    """Another transaction was in the way; this one was rolled back."""
    PAUSED = enum.auto()
    """The server found that we had left the transaction alone; it was rolled back."""
    LOST = enum.auto()
    """The connection is of no more use; it may never have been made."""
    NO_TABLE = enum.auto()
    REFUSED = enum.auto()


class Report(NamedTuple):
    """An error, as far as a driver's code tells."""

    trouble: Trouble
    told: str = ""
    """In the server's or the driver's words."""
    cure: str = ""
    """What is wrong and what helps, of what was refused."""


class ServerDialect(abc.ABC):
    """A database of a server."""

    family: ClassVar[str]
    shows_locks: ClassVar[str]
    """Where an operator sees who holds locks."""
    exclusive = False
    creates = False

    home = None

    def __init__(self, address: Address, statements: Statements) -> None:
        self._address = address
        self.names = address.names
        self.sentences = renamed(statements, address.names)
        self.statements = pyformat(self.sentences)
        self.timeout: Seconds = address.timeout

    @property
    def key(self) -> str:
        return f"{self.family}://{self._address} {self.names}"

    def identify(self, connection: Connection) -> str:
        return str(connection.exec_driver_sql(self.sentences.select_identity).scalar_one())

    def translate(self, error: DBAPIError, *, committing: bool = False) -> TaskqError:
        trouble, told, cure = self._read(error)
        match trouble:
            case Trouble.BUSY:
                return self.busy()
            case Trouble.PAUSED:
                return Locked(
                    f"{self._address}: a transaction that had paused for {PAUSE} s was rolled "
                    "back; nothing happened; give this process more time of the processor"
                )
            case Trouble.LOST if committing:
                return OutcomeUnknown(f"{self._address} was lost during a commit: {told}")
            case Trouble.LOST:
                return ConnectionFailed(f"{self._address} was not reached: {told}")
            case Trouble.NO_TABLE:
                return ImproperlyConfigured(
                    f"{self._address} lacks tables called {self.names}; "
                    "make them with: taskq sql upgrade DATABASE_URL"
                )
            case Trouble.REFUSED:
                return ServerRefused(f"{self._address}: {cure}: {told}")

    @abc.abstractmethod
    def _read(self, error: DBAPIError) -> Report:
        """Return what the driver's error comes to."""

    def busy(self) -> Locked:
        return Locked(
            f"{self._address}: other transactions stayed in the way; nothing happened; "
            f"end the one that holds locks on taskq's tables ({self.shows_locks} shows it)"
        )

    def check(self, connection: Connection) -> list[str]:
        weakness = self._weakness(connection)
        return [] if weakness is None else [f"{self._address}: {weakness}"]

    @abc.abstractmethod
    def _weakness(self, connection: Connection) -> str | None:
        """Return how a setting of the server makes a commit less durable, and the cure."""
