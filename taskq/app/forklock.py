"""A lock for what a forked child goes on using."""

from __future__ import annotations

import os
import threading


class ForkLock:
    """One reentrant lock per process: `with lock(): …`.

    Whoever held the parent's lock at the time of a fork does not exist in the
    child, where it would stay held for ever; so the child gets one of its own.
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def __call__(self) -> threading.RLock:
        """Return this process's lock."""
        # Not a get and a set: two threads must never see two locks.
        return self._locks.setdefault(os.getpid(), threading.RLock())
