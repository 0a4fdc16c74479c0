"""The services on a timer: heartbeat, schedule poll, reaper, server check."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Maintenance, Registry
from taskq.contract.delivery import Heartbeat
from taskq.contract.results import Results
from taskq.errors import BrokerError, NotSupported
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service

log = logging.getLogger(__name__)

BEATS_TO_LIVE: Final = 3
"""A worker is listed for this many intervals after its last heartbeat."""
BATCH: Final = 1000
CHECK_INTERVAL: Final[Seconds] = 60.0
SHORTEST: Final = 0.9
"""Part of an interval that a jittered one has at least, so that workers drift apart."""


class HeartbeatService(Service):
    """Tells the registry that the worker lives."""

    name = "heartbeat"

    def __init__(
        self,
        registry: Registry,
        beat: Callable[[], Heartbeat],
        interval: Seconds,
        *,
        outage: Outage,
        on_death: OnDeath,
    ) -> None:
        super().__init__(outage, on_death)
        self._registry = registry
        self._beat = beat
        self._interval = interval

    def run_once(self) -> Seconds:
        self._registry.send_heartbeat(self._beat(), ttl=self._interval * BEATS_TO_LIVE)
        return self._interval

    def end(self) -> None:
        """Take the worker off the list."""
        try:
            self._registry.send_heartbeat(self._beat(), ttl=0)
        except BrokerError as error:
            log.info("no farewell to the broker: %s", error)


class SchedulePoll(Service):
    """Makes due messages of all queues ready; claims do the same for their own."""

    name = "schedule"

    def __init__(
        self, broker: Maintenance, interval: Seconds, *, outage: Outage, on_death: OnDeath
    ) -> None:
        super().__init__(outage, on_death)
        self._broker = broker
        self._interval = interval

    def run_once(self) -> Seconds:
        moved = self._broker.poll_schedule(limit=BATCH)
        return 0.0 if moved >= BATCH else self.pace.jitter(self._interval, SHORTEST)


class Reaper(Service):
    """Reclaims lost leases of all queues, and drops what has had its time."""

    name = "reaper"

    def __init__(
        self,
        broker: Maintenance,
        results: Results | None,
        interval: Seconds,
        dead_letter_expires: Seconds | None,
        *,
        outage: Outage,
        on_death: OnDeath,
    ) -> None:
        super().__init__(outage, on_death)
        self._broker = broker
        self._results = results
        self._interval = interval
        self._dead_letter_expires = dead_letter_expires

    def run_once(self) -> Seconds:
        moved = [self._broker.recover_expired(limit=BATCH)]
        if self._dead_letter_expires is not None:
            moved.append(
                self._broker.expire_dead(older_than=self._dead_letter_expires, limit=BATCH)
            )
        if self._results is not None:
            moved.append(self._results.expire(BATCH))
        return 0.0 if max(moved) >= BATCH else self.pace.jitter(self._interval, SHORTEST)


class ServerCheck(Service):
    """Logs what the server keeps less than promised, at the start and when that changes.

    A setting can change under running workers, such as a Redis that is told to
    drop keys. They go on: stopping them would save no task.
    """

    name = "check"

    def __init__(
        self, inspect: Callable[[], list[str]], *, outage: Outage, on_death: OnDeath
    ) -> None:
        super().__init__(outage, on_death)
        self._inspect = inspect
        self._told: set[str] = set()

    def run_once(self) -> Seconds:
        level = logging.WARNING
        try:
            found = set(self._inspect())
        except NotSupported as error:
            level = logging.ERROR
            found = {str(error)}
        for sentence in sorted(found - self._told):
            log.log(level, "broker: %s", sentence)
        self._told = found
        return self.pace.jitter(CHECK_INTERVAL, SHORTEST)
