"""Waiting out broker trouble: one log line when it begins, one when it ends."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Final

from taskq.clock import Seconds
from taskq.errors import BrokerError

log = logging.getLogger(__name__)

FIRST_PAUSE: Final[Seconds] = 0.1
LONGEST_PAUSE: Final[Seconds] = 5.0


class Outage:
    """What one worker knows about its way to the broker. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def pause(self, error: BrokerError, failures: int) -> Seconds:
        """Note a failure; return how long to wait before the next attempt.

        `failures` counts the caller's own, in a row, this one included. The
        pause is jittered, so that workers do not come back together.
        """
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                log.warning("broker out of reach, trying again: %s", error)
        bound = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def over(self) -> None:
        """Note a success."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            log.warning("broker back after %.1f s", time.monotonic() - since)
