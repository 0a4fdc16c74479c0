"""Kept connections, and how they get out of the way of a fork."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from taskq.clock import Seconds

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PATIENCE: Final[Seconds] = 1.0
"""How long a fork waits for the transaction of another thread."""


class Lane:
    """A kept connection and the lock of the thread that uses it."""

    def __init__(self, lock: threading.Lock) -> None:
        self.pid = os.getpid()
        self.lock = lock
        self.connection: Connection | None = None
        self.opened = 0
        """How many connections of its client had been lost when this one was opened."""
        _forks.watch(self)

    def drop(self) -> None:
        """Close the connection; the database rolls back what was open on it."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(DBAPIError):
                # Not as good as new: it would be rolled back first, by a server that may hang.
                connection.invalidate()
                connection.close()

    def __del__(self) -> None:
        # SQLAlchemy's objects hold each other, so a connection that is merely forgotten stays
        # open until the next collection: hundreds may be, where clients come and go.
        if self.connection is not None and self.pid == os.getpid():
            self.drop()


class _Forks:
    """Closes every lane before a fork; the next use opens it again.

    SQLite notes in its own memory which locks on a file its process holds. A
    child inherits the notes without the locks. It would count on them, and
    could go on writing to a log that others have deleted meanwhile.
    """

    def __init__(self) -> None:
        self._lanes: set[weakref.ref[Lane]] = set()
        self._forking = threading.local()
        os.register_at_fork(
            before=self._close, after_in_parent=self._release, after_in_child=self._release
        )

    def watch(self, lane: Lane) -> None:
        self._lanes.add(weakref.ref(lane, self._lanes.discard))

    def _close(self) -> None:
        held = self._forking.held = set[threading.Lock]()
        pid = os.getpid()
        for lane in [reference() for reference in tuple(self._lanes)]:
            if lane is None or lane.pid != pid:
                continue
            # The lock stays ours until after the fork, or another thread would
            # open the lane anew. Lanes that write share theirs.
            if lane.lock in held or lane.lock.acquire(timeout=_PATIENCE):
                held.add(lane.lock)
                lane.drop()

    def _release(self) -> None:
        for lock in self._forking.held:
            lock.release()
        self._forking.held.clear()


_forks: Final = _Forks()
"""One per process, as the system's hooks around a fork are."""
