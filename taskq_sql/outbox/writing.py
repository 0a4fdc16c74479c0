"""Tasks in transactions of any database, for a broker that is none.

A task waits in the table ``taskq_outbox``, beside the caller's own data, until
`taskq_sql.outbox.relay` carries it to the broker. A row bears the namespace of the
broker's URL, by which a relay finds its own; its times are instants of the
database's clock, so that what is carried late starts, or has expired, as if it
had not been late.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine

from taskq.clock import Clock, to_microseconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.contract.transaction import Transaction, Transactions
from taskq.errors import ImproperlyConfigured, NotSupported
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects import Dialect
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.moves import times
from taskq_sql.results import CHUNK
from taskq_sql.transactions import Guest, check_transactional, connection_of

WAITS: Final = 0
"""The state of a row that a relay is to carry; 1 is that of one the broker refused."""
_ANY: Final = {
    "postgresql": "postgresql://taskq@localhost/any",
    "mysql": "mysql://taskq@localhost/any",
    "mariadb": "mariadb://taskq@localhost/any",
    "sqlite": "sqlite:///any.db",
}
"""A URL for each kind of database. It tells how to speak with one; none is opened by it."""


class Outbox(Transactions):
    """The way into transactions of any database, for one broker."""

    settles = False

    def __init__(self, broker: Url, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._dialects: dict[str, Dialect] = {}
        self._known: weakref.WeakSet[Engine] = weakref.WeakSet()

    def join(self, transaction: object, /) -> OutboxTransaction:
        connection = connection_of(transaction)
        check_transactional(connection)
        dialect = self._dialect(connection.dialect.name)
        guest = Guest(connection, dialect, to_microseconds(self._clock.offset))
        if connection.engine not in self._known:
            self._check(guest, dialect)
        return OutboxTransaction(guest, self._broker)

    def _dialect(self, name: str) -> Dialect:
        if name not in _ANY:
            raise TypeError(
                f"a transaction of {name} cannot take tasks: an outbox can be in PostgreSQL, "
                "MySQL, MariaDB or SQLite"
            )
        if name not in self._dialects:
            self._dialects[name] = dialect_of(Url.parse(_ANY[name]))
        return self._dialects[name]

    def _check(self, guest: Guest, dialect: Dialect) -> None:
        try:
            schema.admit(guest.connection, dialect)
        except NotSupported:
            raise
        except ImproperlyConfigured as error:
            raise ImproperlyConfigured(
                f"tasks for {self._broker} wait in the transaction's own database for a relay: "
                f"{error}"
            ) from error
        # Tables in a file may be this transaction's own, and go again if it is rolled back.
        if not dialect.creates:
            self._known.add(guest.connection.engine)

    def close(self) -> None:
        """Nothing is open: rows are written by the callers' connections."""


class OutboxTransaction(Transaction):
    """One transaction of a caller's."""

    def __init__(self, guest: Guest, broker: Url) -> None:
        self._guest = guest
        self._broker = broker

    def send(self, items: Sequence[Send], /) -> None:
        guest = self._guest
        for start in range(0, len(items), CHUNK):
            rows = [_row(item, guest.now) for item in items[start : start + CHUNK]]
            guest.each(guest.sql.post, rows, namespace=self._broker.namespace, state=WAITS)

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:  # noqa: ARG002 - as the contract
        raise NotSupported(
            f"complete(session) concludes a task within a transaction, and its broker, "
            f"{self._broker.scheme}://, is not in that database: let the broker be the database "
            "of the session, or return from the task instead"
        )


def _row(item: Send, now: int) -> dict[str, Any]:
    message = item.message
    due, expires = times(item, now)
    return {
        "id": message.id,
        "queue": message.queue,
        "priority": message.priority,
        "max_deliveries": message.max_deliveries,
        "due": due if due > now else None,
        "expires": expires,
        "envelope": message.envelope,
    }
