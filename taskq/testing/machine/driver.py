"""How random sequences talk to a backend: each call is timed, and its answer judged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import DeadLetter, Delivery
from taskq.contract.message import Send
from taskq.contract.results import Results
from taskq.contract.settlement import Ack, Release, Settlement
from taskq.errors import Closed, UnknownScheme
from taskq.testing.laws.case import expire_all
from taskq.testing.machine.making import Maker
from taskq.testing.machine.strategies import CLIENTS, QUEUES
from taskq.testing.machine.trace import Trace
from taskq.testing.model.claim import check_claim
from taskq.testing.model.cutting import cut_off
from taskq.testing.model.doubt import pay_debts
from taskq.testing.model.entry import Entry, Span, Where
from taskq.testing.model.looking import check_counted, check_letters, check_located
from taskq.testing.model.operating import check_purged_dead
from taskq.testing.model.reach import Claim, take_back
from taskq.testing.model.spec import Spec
from taskq.testing.record import Ledger
from taskq.testing.target import Target

PLENTY: Final = 1000
FEW: Final = 3
"""Whatever is there comes within so many looks with a long time between them."""
MANY: Final = 10
"""So often nothing comes before what may not exist at all is given up."""
LONG: Final[Seconds] = 7000.0
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Client:
    """One client of the broker, and which one it is."""

    broker: Broker
    number: int
    interrupted: bool = False


class Driver(RuleBasedStateMachine):
    """Calls a few clients of one namespace, and compares each answer.

    One more client, the observer, only looks.
    """

    breakable: ClassVar[bool] = False

    def __init__(self, target: Target, ledger: Ledger) -> None:
        super().__init__()
        self.target = target
        self.ledger = ledger
        self.clock = target.begin(breakable=self.breakable)
        self.trace = Trace(target.given, type(self).__name__)
        self.make = Maker()
        self.results = _results(target)
        can = target.capabilities
        self.spec = Spec(
            ledger,
            timed=can.timed_leases,
            doubles=not (can.timed_leases or can.unique_ids),
            keeps_results=self.results is not None,
        )
        self.observer = target.open()
        self.clients: list[Client] = []
        self.seen: list[tuple[Client, Delivery]] = []
        self._opened = 0
        for _ in range(CLIENTS):
            self.clients.append(self._open())

    # Clients

    def _open(self) -> Client:
        self._opened += 1
        return Client(self.target.open(), self._opened)

    def _close(self, broker: Broker) -> None:
        broker.close()
        broker.close()
        try:
            broker.reserve(QUEUES, limit=1, lease=60.0)
        except Closed:
            self.ledger.check("L25", True, "")
        else:
            self.ledger.check("L25", False, "reserve works after close")

    def _crash(self, client: Client) -> None:
        self.target.crash(client.broker)
        cut_off(self.spec, client.number, self._present())

    def _mine(self, client: Client) -> list[Delivery]:
        """Return all a client ever got, the latest first."""
        return [delivery for owner, delivery in reversed(self.seen) if owner is client]

    def _holder(self, client: int) -> Client:
        """Return a client that has claimed something, the given one if it has."""
        owners = [owner for owner, _ in self.seen]
        ordered = [*self.clients[client:], *self.clients[:client]]
        return next((one for one in ordered if one in owners), self.clients[client])

    # Calls

    def _present(self) -> Span:
        return Span(self.clock.now(), self.clock.now())

    def _timed(self, call: Callable[[], Answer]) -> tuple[Answer, Span]:
        """Return what the call returns, and when it was made."""
        before = self.clock.now()
        answer = call()
        return answer, Span(before, self.clock.now())

    def _items(self, given: Sequence[dict[str, Any]]) -> list[Send]:
        """Return what was drawn, without the ids of which nobody knows whether they are free."""
        now, known = self._present(), list(self.spec.entries)
        items: list[Send] = []
        for one in given:
            again = one.get("again")
            id = None if again is None or not known else known[-1 - again % len(known)]
            if id is None or self._may_send_again(id, now):
                items.append(self.make.item(one, id, now))
        return items

    def _may_send_again(self, id: str, now: Span) -> bool:
        return self.target.capabilities.unique_ids and self.spec.free(id, now) is not None

    def _send(self, sender: Client, batch: Sequence[Send]) -> None:
        _, now = self._timed(lambda: sender.broker.send(batch))
        self.spec.sent(batch, now, producer=sender.number)
        self._check_sent(batch, "L15")

    def _reserve(
        self, client: Client, queues: Sequence[str], limit: int, lease: float
    ) -> list[Delivery]:
        got, now = self._timed(lambda: client.broker.reserve(queues, limit=limit, lease=lease))
        return self._claimed(client, Claim(queues, limit, lease, got, now, client.number))

    def _claimed(self, client: Client, claim: Claim) -> list[Delivery]:
        if client.interrupted:
            self.ledger.check("L24", claim.got == [], "an interrupted client has claimed")
            take_back(self.spec, claim.now, client.number)
            return []
        check_claim(self.spec, claim)
        self.seen.extend((client, delivery) for delivery in claim.got)
        return list(claim.got)

    def _settle(self, holder: Client, batch: list[Settlement]) -> None:
        lost, now = self._timed(lambda: holder.broker.settle(batch))
        taken = self.spec.settled(batch, lost, now, client=holder.number)
        self._check_effects(batch, taken)

    def _extend(self, holder: Client, deliveries: Sequence[Delivery], lease: float) -> None:
        answer, now = self._timed(lambda: holder.broker.extend(deliveries, lease=lease))
        self.spec.extended(deliveries, answer.lost, lease, now)

    # Looks

    def _check_sent(self, batch: Sequence[Send], law: str) -> None:
        """Check that what was sent exists, and what was refused does not."""
        if not batch or not self.target.capabilities.locate:
            return
        ids = list(dict.fromkeys(item.message.id for item in batch))
        found, now = self._timed(lambda: self.observer.locate(ids))
        for id in ids:
            entry = self.spec.entries.get(id)
            exists = entry is not None and entry.where is not Where.GONE
            if entry is None or entry.sure:
                self.ledger.check(law, (id in found) == exists, f"{id}: exists is not {exists}")
        check_located(self.spec, ids, found, now)

    def _check_effects(self, batch: Sequence[Settlement], taken: Sequence[Settlement]) -> None:
        """Check that results and successors are there, or not, with their settlement."""
        for settlement in batch:
            law = "L16" if any(settlement is one for one in taken) else "L4"
            if not isinstance(settlement, Release) and settlement.result is not None:
                self._check_results([settlement.delivery.id], law)
            if isinstance(settlement, Ack):
                self._check_sent(settlement.send, law)

    def _check_results(self, ids: Sequence[str], law: str) -> None:
        results = self.results
        if results is None:
            return
        found, now = self._timed(lambda: results.fetch(ids))
        self.spec.results.fetched(ids, found, now, law=law)

    def _locate(self, ids: Sequence[str]) -> None:
        if self.target.capabilities.locate:
            found, now = self._timed(lambda: self.observer.locate(ids))
            check_located(self.spec, ids, found, now)

    def _check_dead(self, queue: str, page: int) -> list[DeadLetter]:
        letters, now = self._timed(lambda: self._all_letters(queue, page))
        check_letters(self.spec, queue, letters, now)
        return letters

    def _all_letters(self, queue: str, page: int) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while len(letters) <= PLENTY:
            last = letters[-1] if letters else None
            more = self.observer.dead_letters(queue, limit=page, after=last)
            self.ledger.check("L19", len(more) <= page, f"a page of {page} has {len(more)}")
            letters.extend(more)
            if not more:
                break
        return letters

    def _check_all_dead(self) -> None:
        for queue in QUEUES:
            self._check_dead(queue, 100)

    def _look(self) -> None:
        """Compare all that can be seen."""
        stats, now = self._timed(self.observer.stats)
        check_counted(self.spec, stats, now)
        ids = [*self.spec.entries, "nobody"]
        self._locate(ids)
        self._check_results(ids, "R6")

    # The end of a sequence

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
                self._clean()
        except Exception as error:
            self.trace.tell(error)
            raise
        finally:
            self.target.end()

    def _drain(self) -> None:
        """Take all there is, until nothing more can come."""
        for client in self.clients:
            self._crash(client)
        client = self._open()
        idle = quiet = 0
        for _ in range(PLENTY):
            got = self._reserve(client, QUEUES, 50, 60.0)
            if got:
                self._settle(client, [Ack(delivery) for delivery in got])
                quiet = 0
                continue
            self._check_all_dead()
            pay_debts(self.spec)
            if not self._still_to_come(idle) and not self._copies_to_come(quiet):
                break
            idle, quiet = idle + 1, quiet + 1
            self.clock.advance(210.0)
        for copies in self.spec.copies.values():
            what = f"{copies.message.id}: no copy came, and none was concluded"
            self.ledger.check("L1", not copies.owed, what)
        self._look()

    def _still_to_come(self, idle: int) -> list[Entry]:
        """Return what may yet be claimed; after a long wait only what certainly exists."""
        left = [entry for entry in self.spec.of(QUEUES) if self._may_come(entry)]
        return left if idle < MANY else [entry for entry in left if entry.sure]

    def _may_come(self, entry: Entry) -> bool:
        places = {way.where for way in self.spec.ways(entry.id)}
        return not places.isdisjoint({Where.WAITING, Where.LEASED, Where.CUT})

    def _copies_to_come(self, quiet: int) -> bool:
        """Say whether to wait for copies: for any for a while, and for the last one longer."""
        copies = self.spec.copies.values()
        return bool(copies) and (quiet < FEW or (quiet < MANY and any(one.owed for one in copies)))

    def _clean(self) -> None:
        """Drop what is left, and check that nothing is."""
        for queue in QUEUES:
            check_purged_dead(self.spec, queue, None, self.observer.purge_dead(queue))
            dropped = self.observer.purge(queue)
            self.ledger.check("L13", dropped == 0, f"{dropped} left in {queue} after a drain")
        for beat in self.spec.workers.beats:
            self.observer.send_heartbeat(beat, ttl=0)
        self.clock.advance(LONG)
        if self.results is not None:
            expire_all(self.results, self.ledger)
            self.ledger.check("R3", not self.results.fetch(self.spec.results.ids), "results stay")
        left = self.target.footprint()
        self.ledger.check("L27", left == [], f"left behind: {left}")


def _results(target: Target) -> Results | None:
    """Open a client of the results, where the backend keeps any."""
    try:
        return target.open_results()
    except UnknownScheme:
        return None
