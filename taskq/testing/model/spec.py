"""The relation a broker is compared with: what it may and what it must do.

Pure bookkeeping: no I/O, no hypothesis. The machine tells a `Spec` each call
with its answer and the `Span` in which it was made; the spec raises
`LawBroken` if no right broker could have answered so, and takes in what the
answer gives away. This module has what producers and consumers do to messages;
its neighbours check claims, what is seen, what operators do, and calls that fail.

Mostly one thing is true of a message. Where a connection that leases are tied
to was lost, or may have been, several may be: each is an `Entry`, one of the
*ways* things are. What a broker answers has to be right in one of them, and the
others are given up.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.model.copies import Copies
from taskq.testing.model.entry import DRIFT, NOBODY, Entry, Place, Span, Where, later
from taskq.testing.model.records import Records
from taskq.testing.model.workers import Workers
from taskq.testing.record import LawBroken, Ledger


class Spec:
    """What is known of one namespace. Used by one thread."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        timed: bool = True,
        doubles: bool = False,
        keeps_results: bool = True,
    ) -> None:
        self.ledger = ledger
        self.keeps_results = keeps_results
        """A settlement's result is stored; else it is ignored."""
        self.timed = timed
        """Leases end by time alone; else they are tied to their holder's connection."""
        self.doubles = doubles
        """A step in doubt may leave a second copy."""
        self.entries: dict[str, Entry] = {}
        self.copies: dict[str, Copies] = {}
        """Of what there may be more than one."""
        self.debts: dict[str, list[str]] = {}
        """The successors of an ack in doubt: they exist if it was done."""
        self._others: dict[str, list[Entry]] = {}
        self.results = Records(ledger)
        self.workers = Workers(ledger)
        self._step = 0
        self._number = 0

    # What is there

    def of(self, queues: Collection[str]) -> list[Entry]:
        """Return the entries of these queues, gone ones too."""
        return [entry for entry in self.entries.values() if entry.message.queue in queues]

    def ways(self, id: str) -> list[Entry]:
        """Return all that may be true of a message: one, unless nobody can know."""
        return [self.entries[id], *self._others.get(id, ())]

    def suppose(self, id: str, ways: Sequence[Entry]) -> None:
        """Take in that one of these is true of a message."""
        for way in ways:
            if way.where is Where.LEASED:
                # It comes back to the head, or is settled: where it stood does not matter.
                way.place, way.due, way.moved, way.reason = Place(), None, True, "L1"
        distinct = [way for number, way in enumerate(ways) if way not in ways[:number]]
        self._others.pop(id, None)
        self.entries[id] = distinct[0]
        if len(distinct) > 1:
            self._others[id] = distinct[1:]

    def certain(self, entry: Entry) -> bool:
        """Say whether just one thing can be true of a message."""
        return entry.where is not Where.BLURRED and entry.id not in self._others

    def narrow(self, id: str, test: Callable[[Entry, Ledger], None]) -> None:
        """Put all that may be true of a message to a test, and give up what does not pass.

        Raises:
            LawBroken: nothing does.
        """
        ways = self.ways(id)
        if len(ways) == 1:
            test(ways[0], self.ledger)
            return
        kept: list[Entry] = []
        broken: list[LawBroken] = []
        for way in ways:
            trial = Ledger("")
            try:
                test(way, trial)
            except LawBroken as error:
                broken.append(error)
            else:
                if not kept:
                    self.ledger.counts.update(trial.counts)
                kept.append(way)
        if not kept:
            self.ledger.check(broken[0].law, False, broken[0].what)
        self.suppose(id, kept)

    def blur(self, entry: Entry, copies: Copies) -> None:
        """Take in that there may be more than one copy of a message."""
        blurred = Entry(entry.message, Place(), where=Where.BLURRED, sure=False)
        blurred.tokens = entry.tokens
        self.suppose(entry.id, [blurred])
        self.copies[entry.id] = copies
        self.debts.pop(entry.id, None)

    def forgive(self, id: str) -> None:
        """Take in that nobody owes this successor any more: it may have been purged."""
        for successors in self.debts.values():
            if id in successors:
                successors.remove(id)

    def dead(self, queue: str) -> list[Entry]:
        """Return what certainly is a dead letter of the queue."""
        return [
            entry
            for entry in self.of([queue])
            if all(way.where is Where.DEAD and way.sure for way in self.ways(entry.id))
        ]

    def free(self, id: str, now: Span) -> bool | None:
        """Say whether a message of this id would be accepted; None if nobody can know."""
        entry = self.entries.get(id)
        if entry is not None and not self.certain(entry):
            return None
        if entry is not None and entry.where is not Where.GONE:
            return False if entry.sure else None
        taken = self.results.readable(id, now)
        return None if taken is None else not taken

    def next_order(self) -> tuple[int, int]:
        """Return the order of one more arrival at a tail: behind all before it in its step."""
        self._number += 1
        return self._step, self._number

    def loose_order(self) -> tuple[int, int]:
        """Return the order of an arrival that may come before or behind others of its step."""
        return self._step, 0

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Take in what one call brings about: it comes before all that follows."""
        self._step += 1
        yield
        self._step += 1

    # Sending

    def sent(self, items: Iterable[Send], now: Span, *, producer: int) -> None:
        """Take in that a send has returned, or that successors were sent."""
        for item in items:
            free = self.free(item.message.id, now)
            if free is None:
                raise ValueError(f"{item.message.id} may not be sent while nobody knows its state")
            if free:
                self._accept(item, now, producer)

    def _accept(self, item: Send, now: Span, producer: int) -> None:
        message = item.message
        due = now.plus(item.delay) if item.delay > 0 else None
        prompt = item.eta is None and due is None
        if item.eta is not None and item.eta > now.early - DRIFT:
            due = Span(item.eta, item.eta)
        place = (
            later(due)
            if due
            else Place(producer=producer if prompt else None, order=self.next_order(), joined=now)
        )
        old = self.entries.get(message.id)
        entry = Entry(message, place, tokens=old.tokens if old else set())
        entry.wait(place, due)
        if item.ttl is not None:
            entry.expires = now.plus(item.ttl)
        elif item.expires is not None:
            entry.expires = Span(item.expires, item.expires)
        self.suppose(message.id, [entry])

    # Settling

    def settled(
        self, settlements: Sequence[Settlement], lost: Sequence[Delivery], now: Span, *, client: int
    ) -> list[Settlement]:
        """Check which of a batch were lost; return those that took effect."""
        given = Counter(_key(s.delivery) for s in settlements)
        missed = Counter(_key(d) for d in lost)
        for key in missed - given:
            self.ledger.check("L17", False, f"{key[0]}: returned as lost more often than given")
        taken: list[Settlement] = []
        with self.step():
            for settlement in settlements:
                key = _key(settlement.delivery)
                if key not in given:
                    continue
                if self._accepted(settlement.delivery, given.pop(key), missed[key], now):
                    self.apply(settlement, now, client)
                    taken.append(settlement)
        return taken

    def _accepted(self, delivery: Delivery, given: int, missed: int, now: Span) -> bool:
        """Check how a lease was judged, and say whether it still held."""
        if given > 1:
            self.ledger.check(
                "L17", missed >= given - 1, f"{delivery.id}: two settlements of one delivery held"
            )
        held = missed < given
        copies = self.copies.get(delivery.id)
        if copies is not None:
            copies.answered(delivery.token, self.ledger, held=held)
            return held
        ways = self.ways(delivery.id)
        mine = [way for way in ways if way.delivery and way.delivery.token == delivery.token]
        if not mine:
            self.ledger.check(
                "L4", not held, f"{delivery.id}: a settlement with a stale token was accepted"
            )
            return False
        if mine[0].tied:
            rest = [way for way in ways if way not in mine]
            self.ledger.check(
                "L3", held or bool(rest), f"{delivery.id}: a lease that nobody had ended was lost"
            )
            self.suppose(delivery.id, mine if held else rest)
            return held
        [entry] = mine
        if entry.until.pending(now):
            self.ledger.check("L3", held, f"{delivery.id}: a lease that had not ended was lost")
        elif not held:
            entry.reclaim(now)
        return held

    def apply(self, settlement: Settlement, now: Span, client: int) -> None:
        """Take in that a settlement took effect."""
        id = settlement.delivery.id
        copies = self.copies.get(id)
        if copies is not None:
            copies.concluded(settlement, now)
            self.forget_copies(id)
        else:
            for way in self.ways(id):
                self.conclude(way, settlement, now)
            self.suppose(id, self.ways(id))
        if not isinstance(settlement, Release):
            self.store(settlement.result, now)
        if isinstance(settlement, Ack):
            self.sent(settlement.send, now, producer=client)

    def conclude(self, entry: Entry, settlement: Settlement, now: Span) -> None:
        """Take in what a settlement did to the message alone."""
        match settlement:
            case Ack():
                entry.where, entry.delivery = Where.GONE, None
            case Retry():
                self._retried(entry, settlement, now)
            case Release():
                entry.releases += 1
                entry.first_released = entry.first_released or now
                due = now.plus(settlement.delay) if settlement.delay > 0 else None
                entry.wait(Place(returned=True), due)
            case Dead():
                entry.bury(now, code=settlement.code, detail=settlement.detail)

    def forget_copies(self, id: str) -> None:
        """Take in that no copy is left, if so."""
        if id in self.copies and not self.copies[id].most:
            del self.copies[id]
            self.entries[id].where, self.entries[id].sure = Where.GONE, True

    def _retried(self, entry: Entry, retry: Retry, now: Span) -> None:
        entry.retries += 1
        entry.run += 1
        if retry.envelope is not None:
            old = entry.message
            entry.message = Message(
                old.id, old.queue, retry.envelope, old.priority, old.max_deliveries
            )
        if retry.delay > 0:
            due = now.plus(retry.delay)
            entry.wait(later(due), due)
        else:
            entry.wait(Place(order=self.loose_order(), joined=now), None)

    def extended(
        self, deliveries: Sequence[Delivery], lost: Sequence[Delivery], lease: Seconds, now: Span
    ) -> None:
        """Check which extensions were lost."""
        missed = Counter(_key(d) for d in lost)
        for delivery in deliveries:
            if not self._accepted(delivery, 1, missed[_key(delivery)], now):
                continue
            copies = self.copies.get(delivery.id)
            if copies is not None:
                copies.extended(delivery.token, now.plus(lease))
            else:
                for way in self.ways(delivery.id):
                    self.lease(way, lease, now)

    def lease(self, entry: Entry, lease: Seconds, now: Span) -> None:
        """Take in that a lease was granted or extended."""
        entry.until = now.plus(lease)
        entry.tied = not self.timed

    def store(self, record: ResultRecord | None, now: Span) -> None:
        """Take in that a settlement's result was stored."""
        if record is not None and self.keeps_results:
            self.results.stored(record, now)

    # Time

    def promoted(self, count: int, limit: int, now: Span) -> None:
        """Take in what `poll_schedule` returned."""
        possible = [
            entry
            for entry in self.entries.values()
            if any(way.promotable(now) for way in self.ways(entry.id))
        ]
        most = min(limit, len(possible) + sum(copies.most for copies in self.copies.values()))
        self.ledger.check("L26", count <= most, f"promoted {count} of {len(possible)}")
        if len(possible) <= limit:
            for entry in possible:
                for way in self.ways(entry.id):
                    if way.overdue(now):
                        way.promote(now)

    def recovered(self, count: int, limit: int, now: Span, *, by: int = NOBODY) -> None:
        """Take in what `recover_expired` of client `by` returned."""
        possible = [
            entry
            for entry in self.entries.values()
            if any(way.lapsed(now, by) for way in self.ways(entry.id))
        ]
        sure = [
            entry
            for entry in possible
            if entry.tied and all(way.lost(now, by) for way in self.ways(entry.id))
        ]
        many = len(possible) + sum(copies.lapsed(now, by) for copies in self.copies.values())
        least, most = min(limit, len(sure)), min(limit, many)
        self.ledger.check(
            "L26", least <= count <= most, f"recovered {count}, not {least} to {most}"
        )
        for entry in possible:
            self.reclaim(entry.id, now, by, sure=many <= limit)

    def reclaim(self, id: str, now: Span, by: int, *, sure: bool) -> None:
        """Take in that client `by` was to take back what is lost; unless `sure`, perhaps not all.

        While nobody can know, a lease that is tied is both; one that ends by time is
        as before, since it may be taken back by anybody at any time.
        """
        ways: list[Entry] = []
        for way in self.ways(id):
            done = sure and way.lost(now, by)
            if way.lapsed(now, by) and (done or way.tied):
                back = way.copy()
                back.reclaim(now)
                ways += [back] if done else [way, back]
            else:
                ways.append(way)
        self.suppose(id, ways)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.id, delivery.token
