"""Claims what the slots can start soon, and gives back what they did not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Release, Settlement
from taskq.worker.options import WorkerOptions
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service
from taskq.worker.shelf import Held, Shelf
from taskq.worker.tuner import Tuner

IDLE_WAIT: Final[Seconds] = 1.0
"""How long one blocking claim lasts at most. A lease is reckoned from before
the call that grants it, so this, too, is kept short against the lease."""
LARGEST_CLAIM: Final = 1000
LOOK_AGAIN: Final[Seconds] = 0.25
"""How often a full shelf is looked at for what has waited too long."""
LONGEST_ON_SHELF: Final[Seconds] = 1.0
NOT_HELD: Final[Seconds] = 0.1
"""How long a message with a loss stays away when no slot is free for it."""


class Claimer(Service):
    """The claim loop."""

    name = "claim"

    def __init__(
        self,
        broker: Consumer,
        shelf: Shelf,
        tuner: Tuner,
        options: WorkerOptions,
        conclude: Callable[[Settlement], None],
        *,
        outage: Outage,
        on_death: OnDeath,
    ) -> None:
        super().__init__(outage, on_death)
        self._broker = broker
        self._shelf = shelf
        self._tuner = tuner
        self._queues = list(options.queues)
        self._rotate = options.queue_order == "rotate"
        self._lease = options.visibility_timeout
        self._idle_wait = min(IDLE_WAIT, self._lease / 6)
        self._conclude = conclude
        self.progress = time.monotonic()
        """When the loop last came round; the worker watches it."""

    def run_once(self) -> Seconds:
        self.progress = time.monotonic()
        wanted = self._tuner.wanted(waiting=self._shelf.waiting, idle=self._shelf.idle)
        if wanted <= 0:
            self._shelf.await_room(self._tuner.low, LOOK_AGAIN)
            self._give_back()
            return 0.0
        idle = self._shelf.room > 0
        before = time.monotonic()
        deliveries = self._broker.reserve(
            self._queues,
            limit=min(wanted, LARGEST_CLAIM),
            lease=self._lease,
            wait=self._idle_wait if idle else 0.0,
        )
        if self._rotate and len(self._queues) > 1:
            self._queues.append(self._queues.pop(0))
        if deliveries:
            self._shelve(deliveries, before + self._lease)
        elif not idle:
            # No more to be had while the shelf still has work: look again when that is done.
            self._shelf.await_room(0, LOOK_AGAIN)
            self._give_back()
        return 0.0

    def _shelve(self, deliveries: list[Delivery], until: float) -> None:
        """Put deliveries on the shelf; but hold no message with a loss unstarted.

        Whoever collects a second loss must really have run, or a task that
        kills its workers would take innocent neighbours with it.
        """
        now = time.monotonic()
        fresh: list[Held] = []
        room = self._shelf.room
        for delivery in deliveries:
            held = Held(delivery, now, until)
            if not delivery.losses:
                fresh.append(held)
            elif room > 0:
                room -= 1
                self._shelf.add([held], first=True)
            else:
                self._conclude(Release(delivery, NOT_HELD))
        self._shelf.add(fresh)

    def _give_back(self) -> None:
        for held in self._shelf.take_back(time.monotonic() - LONGEST_ON_SHELF):
            self._conclude(Release(held.delivery))
