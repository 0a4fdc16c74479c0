"""The relation a broker is compared with: what it may and what it must do.

Pure bookkeeping: no I/O, no hypothesis. The machine tells a `Spec` each call
with its answer and the `Span` in which it was made; the spec raises
`LawBroken` if no right broker could have answered so, and takes in what the
answer gives away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from taskq.clock import Seconds
from taskq.contract.delivery import DeadLetter, Delivery, Heartbeat, QueueStats, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.entry import DRIFT, Entry, Place, Span, Where, later
from taskq.testing.record import Ledger


@dataclass(frozen=True, slots=True)
class Stored:
    """A result record, and until when it can be read."""

    record: ResultRecord
    until: Span
    challenged: bool = False
    """A record of an older run was stored later, in vain."""


class Spec:
    """What is known of one namespace. Used by one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.entries: dict[str, Entry] = {}
        self.results: dict[str, Stored] = {}
        self.beats: dict[str, tuple[Heartbeat, Span]] = {}
        self._order = 0

    # What is there

    def of(self, queues: Collection[str]) -> list[Entry]:
        """Return the entries of these queues, gone ones too."""
        return [entry for entry in self.entries.values() if entry.message.queue in queues]

    def dead(self, queue: str) -> list[Entry]:
        """Return what certainly is a dead letter of the queue."""
        return [entry for entry in self.of([queue]) if entry.where is Where.DEAD and entry.sure]

    def readable(self, id: str, now: Span) -> bool | None:
        """Say whether the id has a result; None if nobody can know."""
        stored = self.results.get(id)
        if stored is None or stored.until.passed(now):
            return False
        return True if stored.until.pending(now) else None

    def free(self, id: str, now: Span) -> bool | None:
        """Say whether a message of this id would be accepted; None if nobody can know."""
        entry = self.entries.get(id)
        if entry is not None and entry.where is not Where.GONE:
            return False if entry.sure else None
        taken = self.readable(id, now)
        return None if taken is None else not taken

    def next_order(self) -> int:
        """Return the number of one more arrival at a tail."""
        self._order += 1
        return self._order

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
        self.entries[message.id] = entry

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
        for settlement in settlements:
            key = _key(settlement.delivery)
            if key not in given:
                continue
            if self._accepted(settlement.delivery, given.pop(key), missed[key], now):
                self._apply(settlement, now, client)
                taken.append(settlement)
        return taken

    def _accepted(self, delivery: Delivery, given: int, missed: int, now: Span) -> bool:
        """Check how a lease was judged, and say whether it still held."""
        entry = self.entries[delivery.id]
        if given > 1:
            self.ledger.check(
                "L17", missed >= given - 1, f"{delivery.id}: two settlements of one delivery held"
            )
        held = missed < given
        if entry.delivery is None or entry.delivery.token != delivery.token:
            self.ledger.check(
                "L4", not held, f"{delivery.id}: a settlement with a stale token was accepted"
            )
            return False
        if entry.until.pending(now):
            self.ledger.check("L3", held, f"{delivery.id}: a lease that had not ended was lost")
        elif not held:
            entry.reclaim(now)
        return held

    def _apply(self, settlement: Settlement, now: Span, client: int) -> None:
        entry = self.entries[settlement.delivery.id]
        match settlement:
            case Ack():
                entry.where, entry.delivery = Where.GONE, None
                self._keep(settlement.result, now)
                self.sent(settlement.send, now, producer=client)
            case Retry():
                self._retried(entry, settlement, now)
                self._keep(settlement.result, now)
            case Release():
                entry.releases += 1
                entry.first_released = entry.first_released or now
                due = now.plus(settlement.delay) if settlement.delay > 0 else None
                entry.wait(Place(returned=True), due)
            case Dead():
                entry.bury(now, code=settlement.code, detail=settlement.detail)
                self._keep(settlement.result, now)

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
            entry.wait(Place(order=self.next_order(), joined=now), None)

    def extended(
        self, deliveries: Sequence[Delivery], lost: Sequence[Delivery], lease: Seconds, now: Span
    ) -> None:
        """Check which extensions were lost."""
        missed = Counter(_key(d) for d in lost)
        for delivery in deliveries:
            if self._accepted(delivery, 1, missed[_key(delivery)], now):
                self.entries[delivery.id].until = now.plus(lease)

    # Results

    def _keep(self, record: ResultRecord | None, now: Span) -> None:
        if record is not None:
            self.stored(record, now)

    def stored(self, record: ResultRecord, now: Span) -> None:
        """Take in that a record was stored."""
        old = self.results.get(record.id)
        if old is None or old.until.passed(now) or record.run >= old.record.run:
            self.results[record.id] = Stored(record, now.plus(record.ttl))
        elif old.until.pending(now):
            self.results[record.id] = Stored(old.record, old.until, challenged=True)
        else:
            self.results[record.id] = Stored(record, Span(now.early, math.inf))

    def fetched(
        self, ids: Collection[str], found: dict[str, ResultRecord], now: Span, *, law: str = "R6"
    ) -> None:
        """Compare the records with those there ought to be."""
        for id in ids:
            record, stored = found.get(id), self.results.get(id)
            if stored is None:
                self.ledger.check(law, record is None, f"{id}: a result that was never stored")
            elif stored.until.passed(now):
                self.ledger.check("R3", record is None, f"{id}: a result after its ttl")
            elif stored.until.pending(now):
                self.ledger.check(law, record is not None, f"{id}: its result is missing")
                self._same_record(record, stored)
        self.ledger.check("R6", set(found) <= set(ids), "fetch returned ids nobody asked for")

    def _same_record(self, found: ResultRecord | None, stored: Stored) -> None:
        if found is None:
            return
        kept = stored.record
        if stored.challenged:
            self.ledger.check("R2", found.run == kept.run, f"{found.id}: an older run replaced it")
        same = (found.run, found.state, found.payload) == (kept.run, kept.state, kept.payload)
        self.ledger.check("R8", same, f"{found.id}: {found} is not what was stored")

    # Time

    def promoted(self, count: int, limit: int, now: Span) -> None:
        """Take in what `poll_schedule` returned."""
        possible = [entry for entry in self.entries.values() if entry.unmoved(now)]
        most = min(limit, len(possible))
        self.ledger.check("L26", count <= most, f"promoted {count} of {len(possible)}")
        if len(possible) <= limit:
            for entry in possible:
                if entry.overdue(now):
                    entry.promote(now)

    def recovered(self, count: int, limit: int, now: Span) -> None:
        """Take in what `recover_expired` returned."""
        possible = [entry for entry in self.entries.values() if entry.lapsed(now)]
        most = min(limit, len(possible))
        self.ledger.check("L26", count <= most, f"recovered {count} of {len(possible)}")
        if len(possible) <= limit:
            for entry in possible:
                if entry.lost(now):
                    entry.reclaim(now)

    # Looking

    def located(self, ids: Collection[str], found: dict[str, State], now: Span) -> None:
        """Compare the states with those there can be."""
        for id in ids:
            state, entry = found.get(id), self.entries.get(id)
            allowed = entry.states(now) if entry else frozenset()
            if entry is None or not allowed:
                self.ledger.check("L22", state is None, f"{id} does not exist, but is {state}")
            elif state is None:
                self.ledger.check(
                    "L22", not entry.sure, f"{id} is missing; it ought to be {allowed}"
                )
                entry.where = Where.GONE
            else:
                self.ledger.check("L22", state in allowed, f"{id} is {state}, not in {allowed}")
                entry.sure = True
                if entry.lapsed(now) and state is not State.PROCESSING:
                    entry.reclaim(now)
        self.ledger.check("L22", set(found) <= set(ids), "locate returned ids nobody asked for")

    def counted(self, stats: Sequence[QueueStats], now: Span) -> None:
        """Compare the counts with those there can be."""
        names = [line.queue for line in stats]
        self.ledger.check("L21", names == sorted(set(names)), f"queues are not sorted: {names}")
        lines = {line.queue: line for line in stats}
        for queue in {entry.message.queue for entry in self.entries.values()} | set(names):
            line = lines.get(queue) or QueueStats(queue, 0, 0, 0, 0)
            self._counted(line, now)

    def _counted(self, line: QueueStats, now: Span) -> None:
        allowed = [(entry.states(now), entry.sure) for entry in self.of([line.queue])]
        for state in State:
            found: int = getattr(line, state.value)
            least = sum(states == {state} and sure for states, sure in allowed)
            most = sum(state in states for states, _ in allowed)
            self.ledger.check(
                "L21",
                least <= found <= most,
                f"{line.queue} has {found} {state}, not {least} to {most}",
            )
        total = line.ready + line.scheduled + line.processing + line.dead
        least, most = sum(bool(a) and sure for a, sure in allowed), sum(bool(a) for a, _ in allowed)
        self.ledger.check("L21", least <= total <= most, f"{line.queue} has {total}, not {most}")

    # Dead letters

    def listed(self, queue: str, letters: Sequence[DeadLetter], now: Span) -> None:
        """Compare the whole list of a queue's dead letters with what it ought to be."""
        ids = [letter.message.id for letter in letters]
        died = [letter.died for letter in letters]
        self.ledger.check("L19", died == sorted(died), f"dead letters of {queue} are not in order")
        self.ledger.check("L19", len(ids) == len(set(ids)), f"one of {queue} is listed twice")
        for entry in self.of([queue]):
            states = entry.states(now)
            if entry.id in ids:
                law = "L13" if entry.where is Where.GONE else "L19"
                self.ledger.check(law, State.DEAD in states, f"{entry.id} is listed as dead")
                entry.sure = True
                if entry.where is Where.LEASED:
                    entry.reclaim(now)
            elif states == {State.DEAD} and not entry.sure:
                entry.where = Where.GONE
            elif states == {State.DEAD}:
                law = "L12" if entry.code == "worker_lost" else "L19"
                self.ledger.check(law, False, f"{entry.id} is not among the dead letters")
        for letter in letters:
            self._same_letter(letter)

    def _same_letter(self, letter: DeadLetter) -> None:
        entry = self.entries.get(letter.message.id)
        if entry is None:
            self.ledger.check("L19", False, f"{letter.message.id} was never sent")
            return
        if entry.code == "worker_lost":
            self.ledger.check("L12", letter.code == entry.code, f"{entry.id}: code {letter.code}")
        self.ledger.check(
            "L19",
            letter.code == entry.code and letter.detail == (entry.detail or letter.detail),
            f"{entry.id} died of {letter.code}: {letter.detail}, not of {entry.code}",
        )
        counters = (letter.retries, letter.losses, letter.releases, letter.run)
        self.ledger.check("L11", counters == entry.counters, f"{entry.id}: {letter}")
        self.ledger.check("L14", letter.message == entry.message, f"{entry.id}: {letter.message}")
        self.ledger.check("L19", entry.died.holds(letter.died), f"{entry.id}: died {letter.died}")

    def requeued(self, queue: str, ids: Collection[str], count: int, now: Span) -> None:
        """Check how many were made ready again."""
        dead = [entry for entry in self.dead(queue) if entry.id in ids]
        self.ledger.check("L19", count == len(dead), f"requeued {count}, not {len(dead)}")
        order = self.next_order()
        for entry in dead:
            entry.retries = entry.losses = entry.releases = 0
            entry.run += 1
            entry.first_released = None
            entry.expiry_open = entry.expires is not None
            entry.wait(Place(order=order, joined=now), None)
            self.results.pop(entry.id, None)

    def purged_dead(self, queue: str, ids: Collection[str] | None, count: int) -> None:
        """Check how many dead letters were dropped."""
        dead = [entry for entry in self.dead(queue) if ids is None or entry.id in ids]
        self.ledger.check("L13", count == len(dead), f"purged {count}, not {len(dead)}")
        for entry in dead:
            entry.where = Where.GONE

    def expired_dead(self, older_than: Seconds, count: int, now: Span) -> None:
        """Take in which dead letters must have been dropped, and which may."""
        ends = {
            e.id: e.died.plus(older_than) for e in self.entries.values() if e.where is Where.DEAD
        }
        old = [id for id, end in ends.items() if not end.pending(now)]
        self.ledger.check("L29", count <= len(old), f"dropped {count} of {len(old)}")
        for id in old:
            if ends[id].passed(now):
                self.entries[id].where = Where.GONE
            else:
                self.entries[id].sure = False

    def purged(self, queue: str, states: frozenset[State], count: int, now: Span) -> None:
        """Check how many were purged; what nobody can know has to be located next."""
        certain = [
            e for e in self.of([queue]) if e.sure and e.states(now) <= states and e.states(now)
        ]
        possible = [e for e in self.of([queue]) if e.states(now) & states]
        self.ledger.check(
            "L20",
            len(certain) <= count <= len(possible),
            f"{queue}: purged {count} of {states}, not {len(certain)} to {len(possible)}",
        )
        for entry in possible:
            if entry in certain:
                entry.where = Where.GONE
            else:
                entry.sure = False

    # Workers

    def beaten(self, beat: Heartbeat, ttl: Seconds, now: Span) -> None:
        """Take in a heartbeat."""
        self.beats[beat.incarnation] = (beat, now.plus(ttl) if ttl > 0 else Span(0.0, 0.0))

    def alive(self, beats: Sequence[Heartbeat], now: Span) -> None:
        """Compare the list of workers with what it ought to be."""
        names = [beat.worker for beat in beats]
        self.ledger.check("L23", names == sorted(names), f"workers are not sorted: {names}")
        found = {beat.incarnation: beat for beat in beats}
        for incarnation, (beat, until) in self.beats.items():
            if until.pending(now):
                same = found.get(incarnation) == beat
                self.ledger.check("L23", same, f"{beat.worker} is not listed with its last beat")
            elif until.passed(now):
                gone = incarnation not in found
                self.ledger.check("L23", gone, f"{beat.worker} is listed after its time")
        self.ledger.check("L23", len(beats) == len(found), "one worker is listed twice")


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.id, delivery.token
