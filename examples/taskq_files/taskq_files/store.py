"""One client's copy of a namespace, which goes on where the journal ends.

Each step takes the lock, takes in what others have written, lets the caller look
and change, and writes his changes as one frame. Who dies in between has done nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taskq.clock import Clock, Seconds
from taskq_files.journal import Journal, wait_until
from taskq_files.namespace import Namespace
from taskq_files.records import decode, encode

LONGEST_NAP: Seconds = 0.02


class Store:
    """Steps on one namespace. Thread-safe, and usable in a child after a fork.

    It holds nothing open between two steps. `check` in all methods is called
    while one waits, and may raise to end that.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._namespace = Namespace()

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self._journal.options.folder

    @contextmanager
    def step(
        self, check: Callable[[], None], *, timeout: Seconds | None = None
    ) -> Iterator[Namespace]:
        """Let the caller look at everything and change it, in one step.

        Raises:
            ConnectionFailed: others had the lock for `timeout` seconds, those of the
                URL if None, or there is no way to the files; nothing happened.
            ServerRefused: the right to use them is missing, or room; nothing happened.
            OutcomeUnknown: the changes may survive, or not.
        """
        journal = self._journal
        with journal.locked(journal.options.timeout if timeout is None else timeout, check):
            # The owner may have closed or interrupted the client since it was first in line.
            check()
            try:
                self._catch_up()
                self._namespace.now = self._clock.now()
                yield self._namespace
                self._write()
            except BaseException:
                # Memory is ahead of the file, or behind it: who knows.
                journal.forget()
                raise

    def _catch_up(self) -> None:
        fresh, frames = self._journal.read()
        if fresh:
            self._namespace = Namespace()
        for frame in frames:
            self._namespace.take_in(decode(frame))

    def _write(self) -> None:
        if not (changes := self._namespace.changes()):
            return
        if self._journal.wasteful:
            self._journal.replace(encode(self._namespace.whole()))
        else:
            self._journal.append(encode(changes))
        self._namespace.written()

    def stamp(self) -> object:
        """Return something that is another thing after each change."""
        return self._journal.stamp()

    def wait(self, stamp: object, seconds: Seconds, check: Callable[[], None]) -> None:
        """Return when the namespace has changed since `stamp`, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        wait_until(lambda: self.stamp() != stamp, deadline, check, longest=LONGEST_NAP)

    def warnings(self) -> list[str]:
        """Return in which ways less is kept than taskq promises."""
        if self._journal.options.fsync:
            return []
        cost = "a power cut loses what was accepted last, and may damage the rest"
        return [f"{self.folder} is used with fsync=0: {cost}"]
