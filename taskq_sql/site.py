"""What all clients of one database in one process share."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Final

from taskq.clock import Seconds
from taskq_sql.listener import Listener

COMMIT: Final[Seconds] = 0.1
"""How long a caller's commit takes, disks included, unless it has to wait."""


class Bell:
    """Tells the clients in this process that a database has changed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rung = 0
        """How often; read it before you look, and hand it to `wait`."""
        self._promised = float("-inf")

    def ring(self) -> None:
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    def promise(self, _connection: object) -> None:
        """Ring for a commit that is about to happen: SQLAlchemy tells of it before."""
        self._promised = time.monotonic()
        self.ring()

    @property
    def promises(self) -> bool:
        """Whether a commit was promised so lately that it may still be under way."""
        return time.monotonic() - self._promised < COMMIT

    def wait(self, seen: int, timeout: Seconds) -> None:
        """Return when it has rung since `seen`, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.rung != seen, timeout)


class Site:
    """What all clients of one database in one process share.

    Writers queue at the lock, which wakes them in order and at once; the
    database's own lock, which is polled, then has one contender per process.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self.listener = Listener(self.bell.ring)
        self.writing = threading.Lock()


_sites: Final[weakref.WeakValueDictionary[tuple[int, str], Site]] = weakref.WeakValueDictionary()
"""Interns sites by process and database, as a file's locks are interned by the system."""


def site_of(key: str) -> Site:
    """Return this process's site of a database, by the key of its dialect."""
    return _sites.setdefault((os.getpid(), key), Site())
