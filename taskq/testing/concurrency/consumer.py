"""The consumers: they conclude at once or too late, and record what they are told."""

from __future__ import annotations

import contextlib
import enum
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.concurrency.history import (
    Claimed,
    Extended,
    Fate,
    Got,
    Instant,
    Item,
    Key,
    Settled,
)
from taskq.testing.concurrency.work import Pulse, Signals, Worker, to_message

LONG: Final[Seconds] = 30.0
"""A lease that no thread outlives, unless the machine stands still."""
SHORT: Final = (0.3, 0.4, 0.6)
"""Leases that are held to their end and over it."""
SLOW: Final = 0.2
"""The share of claims with a short lease, and of claims after which maintenance runs."""
EAGER: Final = 0.6
"""The share of claims with a short lease where something is to be lost a second time."""
KEEP: Final[Seconds] = 0.25
"""How long a message that was lost is kept, so that its first holder meets the second."""
ORDERS: Final = (("a", "b"), ("b", "a"), ("a",), ("b",))
LIMITS: Final = (1, 5, 20, 50)
DELAYS: Final = (0.0, 0.0, 0.0, 0.05, 0.2)
PAUSE: Final[Seconds] = 0.02
"""How long a claim waits for messages."""
MEETING: Final[Seconds] = 0.03
"""How long one thread waits for another, so that they call at the same time."""
PATIENCE: Final = 3
"""A message with as many leases behind it is concluded by the next."""


class Way(enum.Enum):
    """When a delivery is settled that is held too long."""

    RACE = enum.auto()
    """At the end of its lease, while others reclaim it."""
    LATE = enum.auto()
    """When others have reclaimed it."""
    ABANDON = enum.auto()
    """Never."""


@dataclass(slots=True)
class Held:
    """Deliveries that are settled later."""

    deliveries: list[Delivery]
    settle: Instant
    late: Seconds = 0.0
    """How long after the end of the lease that is."""
    extend: Instant | None = None
    abandoned: bool = False
    """They are not settled even then."""


class Duel:
    """A delivery that two threads settle at the same instant, if both are in time."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self._both = threading.Barrier(2)

    def meet(self) -> None:
        """Return when the other has come too, or cannot be waited for any longer."""
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait(MEETING)


class Consumer(Worker):
    """Claims, and concludes at once or too late, until nothing more comes."""

    def __init__(self, broker: Broker, who: str, pulse: Pulse, signals: Signals) -> None:
        super().__init__(broker, who, pulse, signals)
        self._made = 0
        self._mortal = broker.capabilities.timed_leases
        """If not, nothing brings back what is abandoned while its client is connected."""
        self._ways = cycle((Way.ABANDON, Way.LATE, Way.RACE, Way.LATE, Way.RACE))
        self._agains = cycle((True, False, False, False))
        self._slowed = False
        """It has held something: each consumer does, however few messages there are."""
        self._lapsed = False
        """Of what it has held some is lost, which soon comes again, to whomever asks."""
        self._repeated = False
        """It has let something be lost a second time."""
        self._held: list[Held] = []
        self._late: list[Settlement] = []
        """To be settled now, together with what the next claim brings."""
        self._duels: deque[Duel] = deque()
        self._crew: Sequence[Consumer] = [self]
        self._rivals: list[Consumer] = []

    def meet(self, crew: Sequence[Consumer]) -> None:
        """Note the consumers of this process; those with the same client become rivals."""
        self._crew = crew
        self._rivals = [one for one in crew if one.broker is self.broker and one is not self]

    def run(self) -> None:
        idle = 0
        while not self._signals.halt.is_set() and (idle < 2 or not self._over()):
            self._catch_up()
            idle = 0 if self._claim() else idle + 1

    def _over(self) -> bool:
        """Say whether nothing can come that nobody else will look for."""
        return self._signals.no_more.is_set() and not any(one._held for one in self._crew)

    # -- Claiming

    def _claim(self) -> bool:
        slow = self._random.random() < self._slowness()
        queues = self._random.choice(ORDERS)
        limit = self._random.randint(1, 4) if slow else self._random.choice(LIMITS)
        lease = self._random.choice(SHORT) if slow else LONG
        found, before = self.claim(queues, limit, lease, wait=self._pause())
        self._sort(found, before, lease)
        if self._random.random() < SLOW:
            self.broker.recover_expired(limit=10)
            self.broker.poll_schedule(limit=10)
        return bool(found)

    def _slowness(self) -> float:
        """Return how probable a short lease is: enough for losses, and for second ones."""
        if not self._slowed:
            return 1.0
        lapsed = any(one._lapsed for one in self._crew)
        repeated = any(one._repeated for one in self._crew)
        return EAGER if lapsed and self._mortal and not repeated else SLOW

    def _sort(self, found: Sequence[Delivery], before: Instant, lease: Seconds) -> None:
        """Conclude, keep for a while, or hold too long what a claim has brought."""
        lost = [delivery for delivery in found if delivery.losses > 0]
        if lost:
            self._keep(lost, before, lease)
        rest = [delivery for delivery in found if delivery.losses == 0]
        batch, self._late = self._late, []
        if rest and lease < LONG:
            self._hold(rest, before, lease)
            self._slowed = True
        elif rest:
            batch = [*batch, *(self._settlement(delivery) for delivery in self._doubled(rest))]
            self._challenge(rest)
        if batch:
            self.settle(batch)

    def claim(
        self, queues: Sequence[str], limit: int, lease: Seconds, *, wait: Seconds
    ) -> tuple[list[Delivery], Instant]:
        """Reserve; return what came, and the instant before the call."""
        found, before, after = self.timed(
            lambda: self.broker.reserve(queues, limit=limit, lease=lease, wait=wait)
        )
        got = [_got(delivery) for delivery in found]
        self.calls.append(Claimed(self.who, before, after, tuple(queues), limit, lease, got))
        return found, before

    def _pause(self) -> Seconds:
        """Return how long a claim may wait: until something held asks for attention."""
        if self._late:
            return 0.0
        instants = [held.extend or held.settle for held in self._held]
        left = min(instants, default=1e9) - self._pulse.read()
        return max(0.0, min(PAUSE, left))

    # -- Holding

    def _keep(self, lost: list[Delivery], before: Instant, lease: Seconds) -> None:
        """Keep what was lost for a while; let some be lost once more, to see it rest."""
        again = lease < LONG and all(delivery.losses == 1 for delivery in lost)
        abandoned = again and self._mortal and next(self._agains)
        self._repeated = self._repeated or abandoned
        self._held.append(Held(lost, before + min(KEEP, 0.6 * lease), abandoned=abandoned))

    def _hold(self, deliveries: list[Delivery], before: Instant, lease: Seconds) -> None:
        """Keep deliveries to the very end of their lease, or over it, or for ever."""
        chance = self._random
        way = next(self._ways)
        late = chance.uniform(-0.01, 0.01) if way is Way.RACE else chance.uniform(0.05, 0.15)
        end = before + lease + late
        extend = chance.choice([None, None, None, before + lease / 2, end])
        abandoned = way is Way.ABANDON and self._mortal
        self._held.append(Held(deliveries, end, late, extend, abandoned))

    def _catch_up(self) -> None:
        """Extend what is to be extended; settle what was held long enough, or is fought for.

        The settling is put off to the end of the next claim every other time,
        so that the lost and the held meet in one batch.
        """
        now = self._pulse.read()
        for held in [one for one in self._held if one.extend is not None and one.extend <= now]:
            self._extend(held)
        over = [held for held in self._held if held.settle <= now]
        self._lapsed = self._lapsed or any(held.abandoned for held in over)
        self._held = [held for held in self._held if held.settle > now]
        batch = [delivery for held in over if not held.abandoned for delivery in held.deliveries]
        duels = [self._duels.popleft() for _ in range(len(self._duels))]
        batch += [duel.delivery for duel in duels]
        self._late = [self._settlement(delivery, late=True) for delivery in batch]
        for duel in duels:
            duel.meet()
        if self._late and (duels or self._random.random() < 0.5):
            self.settle(self._late)
            self._late = []

    def _extend(self, held: Held) -> None:
        lease = SHORT[0]
        answer, before, after = self.timed(lambda: self.broker.extend(held.deliveries, lease=lease))
        missed = Counter(map(_key, answer.lost))
        keys = [_key(delivery) for delivery in held.deliveries]
        kept = [key for key in keys if not missed[key]]
        lost = [key for key in keys if missed[key]]
        strange = list((missed - Counter(lost)).elements())
        self.calls.append(Extended(self.who, before, after, lease, kept, lost, strange))
        held.extend = None
        if kept:
            held.settle = max(held.settle, before + lease + held.late)

    # -- Concluding

    def settle(self, batch: Sequence[Settlement]) -> None:
        """Settle, and record which were lost; of two for one delivery, the second."""
        lost, before, after = self.timed(lambda: self.broker.settle(batch))
        missed = Counter(map(_key, lost))
        fates: list[Fate] = []
        for settlement in reversed(batch):
            key = _key(settlement.delivery)
            fates.append(_fate(settlement, lost=missed[key] > 0))
            missed[key] -= 1
        self.calls.append(Settled(self.who, before, after, fates[::-1], list((+missed).elements())))

    def _challenge(self, deliveries: Sequence[Delivery]) -> None:
        """Let a rival settle one of what this consumer is about to settle, at the same time."""
        if self._rivals and self._random.random() < 0.3:
            duel = Duel(self._random.choice(deliveries))
            self._random.choice(self._rivals)._duels.append(duel)
            duel.meet()

    def _doubled(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Let a batch settle a delivery twice, now and then."""
        return [*deliveries, deliveries[0]] if self._random.random() < 0.1 else deliveries

    def _settlement(self, delivery: Delivery, *, late: bool = False) -> Settlement:
        """Choose how to conclude; what comes too late leaves a trace if it has an effect."""
        steps = delivery.retries + delivery.losses + delivery.releases
        chance = self._random.random() if steps < PATIENCE else 1.0
        delay = self._random.choice(DELAYS)
        if chance < 0.06:
            envelope = b"%s again" % delivery.message.envelope if chance < 0.03 else None
            return Retry(delivery, delay, envelope)
        if chance < 0.14:
            return Release(delivery, delay)
        if chance < 0.17:
            return Dead(delivery, "failed")
        if chance < (0.50 if late else 0.20):
            return Ack(delivery, send=(Send(self._successor(delivery)),))
        return Ack(delivery)

    def _successor(self, delivery: Delivery) -> Message:
        # Named after this try, so that one of an ack that was lost is told from others.
        self._made += 1
        name = f"{self.who}.successor.{self._made}"
        return to_message(Item(name, delivery.message.queue, delivery.message.priority, b"next"))


def _key(delivery: Delivery) -> Key:
    return delivery.id, delivery.token


def _item(send: Send) -> Item:
    message = send.message
    return Item(message.id, message.queue, message.priority, message.envelope)


def _got(delivery: Delivery) -> Got:
    message = delivery.message
    return Got(
        message.id,
        delivery.token,
        message.queue,
        message.priority,
        message.envelope,
        delivery.retries,
        delivery.losses,
        delivery.releases,
        delivery.run,
    )


def _fate(settlement: Settlement, *, lost: bool) -> Fate:
    id, token = settlement.delivery.id, settlement.delivery.token
    match settlement:
        case Ack():
            return Fate(id, token, "ack", lost, successors=tuple(map(_item, settlement.send)))
        case Retry():
            return Fate(id, token, "retry", lost, settlement.delay, settlement.envelope)
        case Release():
            return Fate(id, token, "release", lost, settlement.delay)
        case Dead():
            return Fate(id, token, "dead", lost)
