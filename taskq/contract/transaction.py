"""The contract of a backend that can write into its callers' transactions.

What is written exists exactly if the caller commits. The transaction stays the
caller's: nothing here begins, commits or rolls back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement


class Transaction(ABC):
    """A transaction of the caller's. As thread-safe as that is: usually not at all.

    Errors of the database are raised as its driver's, since whoever owns a
    transaction handles those anyway, deadlocks and lost connections included.
    """

    @abstractmethod
    def send(self, items: Sequence[Send], /) -> None:
        """Write messages. A delay counts from now, not from the commit."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        """Conclude deliveries; return those whose lease was lost, as `Broker.settle` does.

        Raises:
            NotSupported: the broker is not in the database of this transaction.
        """


class Transactions(ABC):
    """The way into any transaction. Thread-safe, and safe to use after a fork."""

    settles: bool = True
    """Whether `Transaction.settle` works: the broker is in the transaction's database."""

    @abstractmethod
    def join(self, transaction: object, /) -> Transaction:
        """Take part in a transaction.

        Raises:
            TypeError: it is nothing that this backend can write into.
            ImproperlyConfigured: it belongs to another database than the broker,
                or the database lacks a table; says what to do.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what it has opened for itself. Idempotent."""
