"""Senders that say what is not so, and a server that breaks its laws."""

from __future__ import annotations

import contextlib
from typing import Any

from taskq.app.application import TaskQ
from taskq.app.request import current_request
from taskq.contract.message import Send
from taskq.errors import EnqueueError
from taskq.memory.server import Entry, MemoryServer

from .mutant import breaks

submit = TaskQ.submit


@breaks("sent is sent", TaskQ, "submit")
def sends_with_its_eyes_closed(self: TaskQ, *arguments: Any) -> None:
    with contextlib.suppress(EnqueueError):
        submit(self, *arguments)


@breaks("unsent is not sent", TaskQ, "submit")
def calls_unknown_unsent(self: TaskQ, *arguments: Any) -> Any:
    try:
        return submit(self, *arguments)
    except EnqueueError as error:
        unsent = (*error.unsent, *error.unknown)
        raise EnqueueError(sent=error.sent, unsent=unsent) from error


@breaks("what a task sent exists", TaskQ, "submit")
def drops_what_a_task_sends(self: TaskQ, *arguments: Any) -> Any:
    return submit(self, *arguments) if current_request() is None else None


@breaks("a task ends once", MemoryServer, "drop")
def delivers_what_was_acked(self: MemoryServer, entry: Entry) -> None:
    self.place(entry, self.clock.now())


accept = MemoryServer.accept


@breaks("what has ended is not accepted again", MemoryServer, "accept")
def asks_no_result_before_it_accepts(self: MemoryServer, item: Send) -> bool:
    kept = self.results.pop(item.message.id, None)
    new = accept(self, item)
    if kept is not None:
        self.results[item.message.id] = kept
    return new
