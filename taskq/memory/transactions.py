"""Transactions for `memory://`, which has none.

Tests of a program send with its session as the program does. What they send
here is there at once, and stays there if the session is rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.contract.transaction import Transaction, Transactions
from taskq.memory.broker import MemoryBroker


class MemoryTransactions(Transactions):
    """Joins anything, and sends at once."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def join(self, transaction: object, /) -> Transaction:  # noqa: ARG002 - none has a say
        return _AtOnce(self._broker)

    def close(self) -> None:
        self._broker.close()


class _AtOnce(Transaction):
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def send(self, items: Sequence[Send], /) -> None:
        self._broker.send(items)

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        return self._broker.settle(settlements)
