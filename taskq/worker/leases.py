"""Keeps the leases of everything the worker holds, and tells a task that lost its own."""

from __future__ import annotations

import logging
import time
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.errors import BrokerError
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service
from taskq.worker.shelf import Held, Shelf

log = logging.getLogger(__name__)

LOOKS_PER_LEASE: Final = 6


class LeaseKeeper(Service):
    """Renews each lease once a third of it is over, all of them in one call.

    If that fails until two thirds are over, the task is told (`request.lost`):
    from then on another worker may be about to start it.
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

    def run_once(self) -> Seconds:
        due = time.monotonic() + self._lease * 2 / 3
        old = [held for held in self._shelf.held() if held.until <= due]
        if old:
            try:
                self._renew(old)
            except BrokerError:
                self._fence(old)
                raise
        return self._lease / LOOKS_PER_LEASE

    def _renew(self, old: list[Held]) -> None:
        before = time.monotonic()
        extension = self._broker.extend([held.delivery for held in old], lease=self._lease)
        lost = {id(delivery) for delivery in extension.lost}
        for held in old:
            if id(held.delivery) not in lost:
                held.until = before + self._lease
            elif held.lose():
                log.warning("task %s: the lease was lost while it ran", held.delivery.id)

    def _fence(self, old: list[Held]) -> None:
        limit = time.monotonic() + self._lease / 3
        for held in old:
            if held.until <= limit and held.request is not None and not held.request.lost:
                held.request.lost = True
                log.warning("task %s: the lease could not be renewed in time", held.delivery.id)
