"""`with self.complete(session):` the effects of a task and its end in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from taskq.app.request import Request
from taskq.app.transaction import check_blocking, lend
from taskq.errors import ImproperlyConfigured


class Completion:
    """A block after which its task is done, exactly if the block's transaction was committed.

    At the end of the block the task's message is concluded by its token within
    the session's transaction, and the session is committed. If the block
    raises, or the lease was lost, it is rolled back. `value` is the task's
    result; what the function returns afterwards is not looked at.

    For one block of one run; not thread-safe.
    """

    def __init__(
        self, request: Request, transaction: Any, join: Callable[[object], object] | None
    ) -> None:
        if request.completed:
            raise ImproperlyConfigured("the task has been completed already; complete it once")
        if not hasattr(transaction, "commit") or not hasattr(transaction, "rollback"):
            raise TypeError(
                f"a {type(transaction).__name__} is no transaction: "
                "give complete() a Session or a Connection of SQLAlchemy"
            )
        self.value: Any = None
        """What the task's result will be."""
        self._request = request
        self._transaction = transaction
        self._join = join

    def __enter__(self) -> Self:
        check_blocking(self._transaction)
        if self._join is not None:
            # What would be refused at the end is refused before there are any effects.
            self._join(self._transaction)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._transaction.rollback()
            return
        try:
            self._conclude(self._transaction)
            self._transaction.commit()
        except BaseException:
            self._transaction.rollback()
            raise
        self._end()

    async def __aenter__(self) -> Self:
        if self._join is not None:
            await lend(self._transaction, self._join)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._transaction.rollback()
            return
        try:
            await lend(self._transaction, self._conclude)
            await self._transaction.commit()
        except BaseException:
            await self._transaction.rollback()
            raise
        self._end()

    def _conclude(self, transaction: Any) -> None:
        # What a session writes at its commit is written before: the message, once concluded, is
        # locked until the end, and the worker renews the leases of all others together with it.
        flush = getattr(transaction, "flush", None)
        if flush is not None:
            flush()
        conclude = self._request.conclude
        # A task that was called directly, or eagerly, has no message.
        if conclude is not None:
            conclude(self._request, transaction, self.value)

    def _end(self) -> None:
        self._request.value = self.value
        self._request.completed = True
