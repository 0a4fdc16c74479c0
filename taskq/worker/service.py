"""A service: one job of a worker, with a thread, a step and an end."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from taskq.clock import Seconds
from taskq.errors import BrokerError, Closed
from taskq.worker.outage import LONGEST_PAUSE, Outage

log = logging.getLogger(__name__)

OnDeath: TypeAlias = Callable[["Service", BaseException], None]
T = TypeVar("T")


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
        self.pace = outage.pace
        self.stopping = threading.Event()
        self._on_death = on_death
        self._thread: threading.Thread | None = None
        self._failures = 0

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

    def step(self) -> Seconds:
        """Take one step, or note that the broker kept it from that; return how long to pause."""
        try:
            delay = self.run_once()
        except Closed:
            raise
        except BrokerError as error:
            self._failures += 1
            pause = self.outage.pause(self.name, error, self._failures)
            return min(pause, self.longest_pause)
        if self._failures:
            self._failures = 0
            self.outage.over(self.name)
        return delay

    def guard(self, part: Callable[[], T]) -> T | None:
        """Do a part of the service's work; None if it was the service's death."""
        try:
            return part()
        except BaseException as error:
            if not (isinstance(error, Closed) and self.stopping.is_set()):
                log.exception("service %s died", self.name)
                self._on_death(self, error)
            return None

    def _loop(self) -> None:
        self.guard(self._work)

    def _work(self) -> None:
        while not self.stopping.is_set():
            delay = self.step()
            if delay > 0:
                self.stopping.wait(delay)
        self.end()
