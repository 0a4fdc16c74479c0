"""Sending and concluding in a transaction that belongs to the caller.

The application never looks into a session: the backend that can write into it
does. A session of asyncio brings `run_sync`, which lends the one inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_AWAIT: Final = (
    "of asyncio: await aapply_async, asend_task or abulk with it, or `async with self.complete`"
)


def chosen(session: object | None, connection: object | None) -> object | None:
    """Return the one that a call was given, or None."""
    if session is not None and connection is not None:
        raise TypeError("give session or connection, not both: a session has a connection")
    return connection if session is None else session


def check_blocking(transaction: object) -> None:
    """Raise a TypeError for what only a coroutine can use."""
    if hasattr(transaction, "run_sync"):
        raise TypeError(f"{type(transaction).__name__} is {_AWAIT}")


async def lend(transaction: Any, call: Callable[[Any], T]) -> T:
    """Call a function with the transaction, in whatever way it wants that to be done."""
    run_sync = getattr(transaction, "run_sync", None)
    if run_sync is None:
        return call(transaction)
    value: T = await run_sync(call)
    return value
