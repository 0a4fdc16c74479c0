"""A wait that a handler of signals can end."""

from __future__ import annotations

import os
import select
from contextlib import suppress

from taskq.clock import Seconds


class Stop:
    """Asked for once, by any thread or by a signal's handler, which may not touch locks.

    An `Event` has one, which the thread that handles a signal may hold itself.
    """

    def __init__(self) -> None:
        self.asked = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def ask(self) -> None:
        """End all waits, those that are to come as well."""
        self.asked = True
        # A pipe that is full, or closed already, wakes nobody less.
        with suppress(OSError):
            os.write(self._writer, b"x")

    def wait(self, timeout: Seconds) -> None:
        """Return when it was asked for, or after `timeout` seconds."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.poll(timeout * 1000)

    def close(self) -> None:
        """Close its pipe. Idempotent; it is not to be waited for afterwards."""
        reader, self._reader = self._reader, -1
        writer, self._writer = self._writer, -1
        if reader >= 0:
            os.close(reader)
            os.close(writer)
