"""Keeps the leases of all that the worker holds, and tells tasks that lost theirs."""

from __future__ import annotations

import logging
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service
from taskq.worker.shelf import Held, Shelf

log = logging.getLogger(__name__)

LOOKS_PER_LEASE: Final = 6


class LeaseKeeper(Service):
    """Renews each lease once a third of it is over, all of them in one call.

    A lease that is gone is told to its task at once (`request.lost`).
    """

    name = "leases"

    def __init__(
        self,
        broker: Consumer,
        shelf: Shelf,
        lease: Seconds,
        *,
        outage: Outage,
        on_death: OnDeath,
    ) -> None:
        super().__init__(outage, on_death)
        self._broker = broker
        self._shelf = shelf
        self._lease = lease
        self.longest_pause = lease / LOOKS_PER_LEASE

    def run_once(self) -> Seconds:
        due = self.pace.now() + self._lease * 2 / 3
        old = [held for held in self._shelf.held() if 0.0 < held.until <= due]
        if old:
            self._renew(old)
        return self._lease / LOOKS_PER_LEASE

    def _renew(self, old: list[Held]) -> None:
        before = self.pace.now()
        extension = self._broker.extend([held.delivery for held in old], lease=self._lease)
        lost = {(delivery.id, delivery.token) for delivery in extension.lost}
        for held in old:
            if (held.delivery.id, held.delivery.token) not in lost:
                held.until = before + self._lease
            elif held.ended:
                # Just settled, or lost to somebody else: there is nothing to renew either way.
                held.until = 0.0
            elif held.lose():
                log.warning("task %s: the lease was lost while it ran", held.delivery.id)


class Fence(Service):
    """Tells tasks whose leases were not renewed until two thirds were over.

    From then on another worker may be about to start them. It asks no broker,
    so that a call which hangs cannot keep it from telling.
    """

    name = "fence"

    def __init__(self, shelf: Shelf, lease: Seconds, *, outage: Outage, on_death: OnDeath) -> None:
        super().__init__(outage, on_death)
        self._shelf = shelf
        self._lease = lease

    def run_once(self) -> Seconds:
        limit = self.pace.now() + self._lease / 3
        for held in self._shelf.unfinished():
            if held.until <= limit and held.warn():
                log.warning("task %s: the lease could not be renewed in time", held.delivery.id)
        return self._lease / LOOKS_PER_LEASE
