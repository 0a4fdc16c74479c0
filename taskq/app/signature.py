"""A call of a task that has not been made yet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

import msgspec

from taskq.clock import Seconds

if TYPE_CHECKING:
    from typing import Unpack

    from taskq.app.application import TaskQ
    from taskq.app.result import AsyncResult

R = TypeVar("R", covariant=True)


class CallOptions(TypedDict, total=False):
    """What a call may say about itself; every key may be left out."""

    countdown: Seconds | dt.timedelta | None
    """Start no earlier than this long from now, by the broker's clock."""
    eta: dt.datetime | None
    """Start no earlier than this instant; must have a time zone."""
    expires: Seconds | dt.timedelta | dt.datetime | None
    """Do not start after this long from now, or after this instant."""
    queue: str | None
    """Where it goes, whatever routes and the task say."""
    priority: int | None
    """0 to 9; 9 is the most urgent."""
    task_id: str | None
    """Any legal name; a UUIDv7 if left out."""
    headers: Mapping[str, str | int | float | bool | None] | None
    """For the task to read: `self.request.headers`."""
    ignore_result: bool | None
    """Drop what it returns, or keep it, whatever the task says."""


def call_text(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as one would write it."""
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task}({', '.join(given)})"


class Signature(msgspec.Struct, Generic[R], frozen=True):
    """Task, arguments and options. Made by `task.s(…)`; sent by `app.bulk` or by itself."""

    app: TaskQ
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: CallOptions

    def __repr__(self) -> str:
        more = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<call {call_text(self.task, self.args, self.kwargs)}{more}>"

    def set(self, **options: Unpack[CallOptions]) -> Signature[R]:
        """Return a copy with more options."""
        merged: CallOptions = {**self.options, **options}
        return msgspec.structs.replace(self, options=merged)

    def delay(self) -> AsyncResult[R]:
        """Send it."""
        return self.app.bulk([self])[0]

    def apply_async(
        self, *, session: object | None = None, connection: object | None = None
    ) -> AsyncResult[R]:
        """Send it, perhaps in a transaction of yours, as `Task.apply_async` does."""
        return self.app.bulk([self], session=session, connection=connection)[0]
