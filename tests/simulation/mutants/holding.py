"""Workers that hold wrongly: a broken claimer, shelf, lease keeper or fence."""

from __future__ import annotations

from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack
from taskq.worker.claimer import Claimer
from taskq.worker.leases import Fence, LeaseKeeper
from taskq.worker.shelf import Held, Shelf

from .mutant import breaks

# The lease keeper and the fence


@breaks("a lease is lost for a reason only", LeaseKeeper, "run_once")
def extends_nothing(self: LeaseKeeper) -> float:
    return self._lease / 6


@breaks("a lease is lost for a reason only", LeaseKeeper, "run_once")
def extends_too_late(self: LeaseKeeper) -> float:
    self._renew([held for held in self._shelf.held() if held.until <= self.pace.now()])
    return self._lease / 6


@breaks("a lost lease is extended no more", LeaseKeeper, "_renew")
def extends_for_ever(self: LeaseKeeper, old: list[Held]) -> None:
    before = self.pace.now()
    self._broker.extend([held.delivery for held in old], lease=self._lease)
    for held in old:
        held.until = before + self._lease


@breaks("a task is told before its lease ends", Fence, "run_once")
def warns_nobody(self: Fence) -> float:
    return self._lease / 6


@breaks("no task is told of a loss without one", Fence, "run_once")
def warns_everybody(self: Fence) -> float:
    for held in self._shelf.unfinished():
        if held.until <= self.pace.now() + self._lease * 0.9:
            held.warn()
    return self._lease / 6


# The claimer and the shelf

shelve = Claimer._shelve


@breaks("nothing is concluded before it has run", Claimer, "_shelve")
def acks_before_it_has_run(self: Claimer, deliveries: list[Delivery], until: float) -> None:
    for delivery in deliveries:
        self._conclude(Ack(delivery))
    shelve(self, deliveries, until)


@breaks("a worker that stops holds nothing back", Claimer, "_shelve")
def shelves_while_it_stops(self: Claimer, deliveries: list[Delivery], until: float) -> None:
    stopping = self.stopping.is_set()
    self.stopping.clear()
    shelve(self, deliveries, until)
    if stopping:
        self.stopping.set()


@breaks("nothing starts without a lease", Claimer, "_shelve")
def reckons_from_the_arrival(self: Claimer, deliveries: list[Delivery], until: float) -> None:
    shelve(self, deliveries, self.pace.now() + self._lease)


@breaks("one message with a loss is held, for a free slot", Claimer, "_admit")
def holds_messages_with_a_loss(
    self: Claimer, suspects: list[Held], now: float, on_trial: bool
) -> list[Held]:
    return suspects


@breaks("what does not start is given back", Claimer, "_give_back")
def keeps_what_does_not_start(self: Claimer) -> None:
    return


@breaks("no more is held than allowed", Claimer, "_wanted")
def claims_without_measure(self: Claimer, now: float) -> tuple[int, int]:
    return 1000, 0


@breaks("what was lost before is started at once, or given back", Claimer, "_shelve")
def mislays_what_was_lost_before(self: Claimer, deliveries: list[Delivery], until: float) -> None:
    shelve(self, [delivery for delivery in deliveries if not delivery.losses], until)


@breaks("nothing starts without a lease", Shelf, "take")
def starts_what_has_lapsed(self: Shelf, *, block: bool = True) -> Held | None:
    held = self._pop(block)
    if held is not None:
        held.started = self._now()
    return held


back = Claimer._return


@breaks("a worker that ended leaves no lease", Claimer, "_return")
def forgets_what_comes_too_late(self: Claimer, batch: list[Held], delay: float = 0.0) -> None:
    if self.stopping.is_set():
        self._shelf.forget([held.delivery for held in batch])
    else:
        back(self, batch, delay)
