"""Tasks in the transactions of a program's own database.

A caller's connection may use any driver that SQLAlchemy has for the database,
so statements travel by `text()` here. Everything else is as in the broker.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, bindparam, event, text

from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.contract.transaction import Transaction, Transactions
from taskq.errors import ImproperlyConfigured
from taskq_sql import schema
from taskq_sql.conclude import conclude, insert
from taskq_sql.dialects import Dialect, Parameters
from taskq_sql.engine import Database
from taskq_sql.results import CHUNK
from taskq_sql.session import Session

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, TextClause


class Guest(Session):
    """A transaction that belongs to somebody else."""

    def __init__(self, connection: Connection, dialect: Dialect, offset: int) -> None:
        super().__init__(connection, dialect, offset)
        self.sql = dialect.sentences

    def execute(
        self, statement: str, parameters: Parameters | list[Parameters]
    ) -> CursorResult[Any]:
        return self.connection.execute(_clause(statement), parameters)


@functools.cache
def _clause(statement: str) -> TextClause:
    clause = text(statement)
    # Where many values are a list in brackets, each driver has a placeholder of its own for them.
    if "IN :array" in statement:
        clause = clause.bindparams(bindparam("array", expanding=True))
    return clause


def connection_of(transaction: object) -> Connection:
    """Return the connection of a session, or a connection itself.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(transaction, Connection):
        return transaction
    if isinstance(transaction, Engine):
        raise TypeError("an Engine has no transaction: give a Session, or a Connection of it")
    # A scoped_session or a Session of another package need not be a subclass of Session.
    connect = getattr(transaction, "connection", None)
    connection = connect() if callable(connect) else None
    if not isinstance(connection, Connection):
        raise TypeError(
            f"a {type(transaction).__name__} is no transaction that tasks can be sent in: "
            "give a Session or a Connection of SQLAlchemy"
        )
    return connection


class SqlTransactions(Transactions):
    """The way into transactions of the database that is the broker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._latest = 0

    def join(self, transaction: object, /) -> SqlTransaction:
        connection = connection_of(transaction)
        check_transactional(connection)
        guest = Guest(connection, self._database.dialect, self._database.offset)
        if connection.engine not in self._known:
            self._check(connection)
        return SqlTransaction(guest, self)

    @property
    def database(self) -> Database:
        return self._database

    def place(self, now: int) -> int:
        """Return where the tail is, and was never before, though the clock may be set back."""
        self._latest = max(self._latest, now)
        return self._latest

    def _check(self, connection: Connection) -> None:
        dialect = self._database.dialect
        _check_kind(connection, dialect)
        if dialect.home is not None:
            self._compare(connection, dialect.home)
        schema.admit(connection, dialect)
        if dialect.home is None:
            self._compare(connection, self._database.identity)
        # Tables in a file may be this transaction's own, and go again if it is rolled back.
        if not dialect.creates:
            self._known.add(connection.engine)

    def _compare(self, connection: Connection, identity: str) -> None:
        dialect = self._database.dialect
        if dialect.identify(connection) != identity:
            raise ImproperlyConfigured(
                f"the transaction is in another database than the broker, {dialect.key}: a task "
                "exists with its transaction only in one and the same; correct the broker's URL, "
                "or the engine's"
            )

    def close(self) -> None:
        self._database.close()


def check_transactional(connection: Connection) -> None:
    """Refuse a connection that commits each statement by itself.

    Raises:
        ImproperlyConfigured: it does.
    """
    options = connection.get_execution_options()
    level = options.get("isolation_level") or connection.dialect._on_connect_isolation_level
    if level == "AUTOCOMMIT":
        raise ImproperlyConfigured(
            "the connection is in AUTOCOMMIT, so there is no transaction to send in; "
            "send without it, or use an engine with another isolation_level"
        )


def _check_kind(connection: Connection, dialect: Dialect) -> None:
    kind = connection.dialect.name.replace("mariadb", "mysql")
    if kind != dialect.family:
        raise ImproperlyConfigured(
            f"the transaction is in a database of {connection.dialect.name}, and the broker is "
            f"{dialect.key}: send without it, or let both be the same database"
        )


class SqlTransaction(Transaction):
    """One transaction of a caller's.

    Its isolation is the caller's choice, and may show the state of an hour ago;
    what decides is looked up on a connection of the broker's own.
    """

    def __init__(self, guest: Guest, owner: SqlTransactions) -> None:
        self._guest = guest
        self._owner = owner
        self._database = owner.database
        self._namespace = self._database.namespace

    def send(self, items: Sequence[Send], /) -> None:
        self._insert(self._guest, items)
        # Claims that wait in this process look at once, and then often, for the commit to come.
        event.listen(self._guest.connection, "commit", self._database.bell.promise)

    def _insert(self, session: Session, items: Sequence[Send]) -> None:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            if session.exclusive:
                insert(session, self._namespace, chunk, self._owner.place(session.now))
            elif new := self._new(chunk):
                place = self._owner.place(session.now)
                insert(session, self._namespace, new, place, self._database.read)

    def _new(self, items: Sequence[Send]) -> list[Send]:
        """Return those whose ids do not exist.

        To insert one that does is harmless, but on MariaDB and MySQL it would be
        locked, and its neighbours with it, until the caller commits.
        """

        def find(own: Session) -> Sequence[Any]:
            ids = own.array([item.message.id for item in items])
            return own.rows(own.sql.locate, {"namespace": self._namespace, "array": ids})

        known = {row[0] for row in self._database.read(find)}
        return [item for item in items if item.message.id not in known]

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        return conclude(self._guest, self._namespace, settlements, self._insert)
