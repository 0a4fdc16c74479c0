"""Claims what the slots can start soon, and gives back what they did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Release, Settlement
from taskq.errors import BrokerError
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
"""How long a message with a loss stays away when it cannot start at once."""
CAREFUL: Final[Seconds] = 2 * NOT_HELD
"""How long only free slots are claimed for after that. On a shelf that is
always stocked the message would otherwise never find one."""
TRIAL: Final[Seconds] = 1.0
"""How long a message with a loss has to run before the next one may start beside it."""


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
        self._careful_until = 0.0
        self._most = LARGEST_CLAIM
        """How many to claim at most: few, as long as nearly all have a loss."""
        self.progress = self.pace.now()
        """When the loop last came round; the worker watches it."""

    def stop(self) -> None:
        super().stop()
        self._shelf.interrupt()

    def run_once(self) -> Seconds:
        before = self.progress = self.pace.now()
        wanted, low = self._wanted(before)
        if wanted <= 0:
            self._shelf.await_room(low, LOOK_AGAIN)
            self._give_back()
            return 0.0
        idle = self._shelf.room > 0
        deliveries = self._broker.reserve(
            self._queues,
            limit=min(wanted, self._most),
            lease=self._lease,
            wait=self.pace.wait(self._idle_wait) if idle else 0.0,
        )
        if self._rotate and len(self._queues) > 1:
            self._queues.append(self._queues.pop(0))
        if deliveries:
            self._shelve(deliveries, before + self._lease)
        elif not idle:
            # No more to be had while the shelf still has work: look again when that is done.
            self._shelf.await_room(0, LOOK_AGAIN)
        if not idle:
            self._give_back()
        return 0.0

    def _wanted(self, now: float) -> tuple[int, int]:
        """Return how many to claim now, and how many may wait when it is time to claim more."""
        shelf = self._shelf
        wanted = self._tuner.wanted(waiting=shelf.waiting, idle=shelf.idle, now=now)
        if now < self._careful_until:
            return min(wanted, shelf.room), 0
        return wanted, self._tuner.low

    def _shelve(self, deliveries: list[Delivery], until: float) -> None:
        """Put deliveries on the shelf; but hold no message with a loss unstarted.

        Whoever collects a second loss must really have run, or a task that
        kills its workers would take innocent neighbours with it.
        """
        now = self.pace.now()
        on_trial = self._on_trial(now)
        batch = [Held(delivery, now, until) for delivery in deliveries]
        # What is given back is on record, too, since that may take a while.
        self._shelf.record(batch)
        if suspects := [held for held in batch if held.delivery.losses]:
            batch = [held for held in batch if not held.delivery.losses]
            found = len(suspects)
            suspects = self._admit(suspects, now, on_trial)
            self._limit(found, len(suspects), len(batch))
            now = self.pace.now()
        else:
            self._most = LARGEST_CLAIM
        if self.stopping.is_set() or now >= until:
            # Slots are about to end, or would not start it because its lease may be over.
            self._return(suspects + batch)
            return
        if suspects:
            self._shelf.add(suspects, first=True)
        self._shelf.add(batch)

    def _admit(self, suspects: list[Held], now: float, on_trial: bool) -> list[Held]:
        """Choose the message with a loss that may start, if no other is about to; return the rest.

        Returned first: a task that kills its workers may do so at once, before
        a neighbour that was put on the shelf with it has started.
        """
        free = self._shelf.room > 0
        if not free:
            self._careful_until = now + CAREFUL
        admitted = suspects[:1] if free and not on_trial else []
        if rest := suspects[len(admitted) :]:
            try:
                self._broker.settle([Release(held.delivery, NOT_HELD) for held in rest])
            except BrokerError:
                self._return(rest, NOT_HELD)
            else:
                self._shelf.forget([held.delivery for held in rest])
        return admitted

    def _limit(self, found: int, admitted: int, others: int) -> None:
        """Choose how many to claim next, after a claim that brought messages with a loss.

        After an outage there may be thousands of them at the head of a queue. If each
        claim took hundreds to start one, giving back the rest would be all the work.
        But behind those that must wait for a trial to end there may be others.
        """
        if admitted and found > admitted:
            self._most = 1
        elif not admitted and not others:
            self._most = min(2 * self._most, LARGEST_CLAIM)

    def _on_trial(self, now: float) -> bool:
        """Say whether a message with a loss has not yet run for long."""
        return any(
            held.delivery.losses and (not held.started or now - held.started < TRIAL)
            for held in self._shelf.unfinished()
        )

    def _give_back(self) -> None:
        self._return(self._shelf.take_back(self.pace.now() - LONGEST_ON_SHELF))

    def _return(self, batch: list[Held], delay: Seconds = 0.0) -> None:
        for held in batch:
            # In this order: once nothing is unfinished, a flush must find every settlement.
            self._conclude(Release(held.delivery, delay))
            held.ended = True
