"""Waiting out broker trouble: one log line when it begins, one when it ends."""

from __future__ import annotations

import logging
import threading
from typing import Final

from taskq.clock import Seconds
from taskq.errors import BrokerError
from taskq.worker.pace import Pace

log = logging.getLogger(__name__)

FIRST_PAUSE: Final[Seconds] = 0.1
LONGEST_PAUSE: Final[Seconds] = 5.0


class Outage:
    """What one worker knows about its way to the broker. Thread-safe.

    It begins when the first service fails, and is over when every service that
    failed has succeeded again, so that one that still gets through does not
    call it over for the others.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        """The worker's. Its services read it here."""
        self._lock = threading.Lock()
        self._troubled: set[str] = set()
        self._since = 0.0

    def pause(self, service: str, error: BrokerError, failures: int) -> Seconds:
        """Note a service's failure; return how long to wait before its next attempt.

        `failures` counts the caller's own, in a row, this one included. The
        pause is jittered, so that workers do not come back together.
        """
        with self._lock:
            if not self._troubled:
                self._since = self.pace.now()
                log.warning("broker out of reach, trying again: %s", error)
            self._troubled.add(service)
        bound = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
        return self.pace.jitter(bound, 0.5)

    def over(self, service: str) -> None:
        """Note a service's success after failures."""
        with self._lock:
            self._troubled.discard(service)
            if not self._troubled:
                log.warning("broker back after %.1f s", self.pace.now() - self._since)
