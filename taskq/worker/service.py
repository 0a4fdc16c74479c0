"""A service: one job of a worker, with a thread, a step and an end."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from taskq.clock import Seconds
from taskq.errors import BrokerError, Closed
from taskq.worker.outage import LONGEST_PAUSE, Outage

log = logging.getLogger(__name__)

OnDeath: TypeAlias = Callable[["Service", BaseException], None]


class Service(ABC):
    """Runs `run_once` again and again in a thread of its own.

    Broker errors are waited out and the step is repeated; any other exception
    is the service's death, which is reported once and ends it. So is a client
    that was closed: it will never answer again.
    """

    name: str
    longest_pause: Seconds = LONGEST_PAUSE
    """Bound of the pause after a broker error."""

    def __init__(self, outage: Outage, on_death: OnDeath) -> None:
        self.outage = outage
        self.stopping = threading.Event()
        self._on_death = on_death
        self._thread: threading.Thread | None = None

    @abstractmethod
    def run_once(self) -> Seconds:
        """Take one step; return how many seconds to wait before the next."""

    def end(self) -> None:  # noqa: B027 - most have none
        """Say the last words, in the service's own thread, once it was stopped."""

    def start(self) -> None:
        """Start the thread. A daemon, so that a hung one cannot keep the process alive."""
        self._thread = threading.Thread(target=self._loop, name=f"taskq-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the service to end after the step it is in. Returns at once."""
        self.stopping.set()

    def join(self, timeout: Seconds) -> bool:
        """Wait for its end; say whether it came."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _loop(self) -> None:
        try:
            self._repeat()
            self.end()
        except BaseException as error:
            if isinstance(error, Closed) and self.stopping.is_set():
                return
            log.exception("service %s died", self.name)
            self._on_death(self, error)

    def _repeat(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            try:
                delay = self.run_once()
            except Closed:
                raise
            except BrokerError as error:
                failures += 1
                delay = min(self.outage.pause(self.name, error, failures), self.longest_pause)
            else:
                if failures:
                    failures = 0
                    self.outage.over(self.name)
            if delay > 0:
                self.stopping.wait(delay)
