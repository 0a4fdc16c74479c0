"""How random sequences talk to a backend: each call is timed, and its answer judged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import DeadLetter, Delivery
from taskq.contract.message import Send
from taskq.contract.settlement import Ack, Release, Settlement
from taskq.errors import Closed
from taskq.testing.claim import Claim, check_claim
from taskq.testing.entry import Span, Where
from taskq.testing.record import Ledger
from taskq.testing.spec import Spec
from taskq.testing.strategies import CLIENTS, QUEUES
from taskq.testing.target import Target

PLENTY: Final = 1000
LONG: Final[Seconds] = 7000.0
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Client:
    """One client of the broker, and which one it is."""

    broker: Broker
    number: int
    interrupted: bool = False


class Driver(RuleBasedStateMachine):
    """Calls a few clients of one namespace, and compares each answer."""

    def __init__(self, target: Target, ledger: Ledger) -> None:
        super().__init__()
        self.target = target
        self.clock = target.begin()
        self.ledger = ledger
        self.spec = Spec(ledger)
        self.results = target.open_results()
        self.clients: list[Client] = []
        self.seen: list[tuple[Client, Delivery]] = []
        self.opened = self.named = 0
        for _ in range(CLIENTS):
            self.clients.append(self._open())

    def _open(self) -> Client:
        self.opened += 1
        return Client(self.target.open(), self.opened)

    def _close(self, broker: Broker) -> None:
        broker.close()
        broker.close()
        try:
            broker.reserve(QUEUES, limit=1, lease=60.0)
        except Closed:
            self.ledger.check("L25", True, "")
        else:
            self.ledger.check("L25", False, "reserve works after close")

    def _timed(self, call: Callable[[], Answer]) -> tuple[Answer, Span]:
        """Return what the call returns, and when it was made."""
        before = self.clock.now()
        answer = call()
        return answer, Span(before, self.clock.now())

    def _mine(self, client: Client) -> list[Delivery]:
        """Return all a client ever got, the latest first."""
        return [delivery for owner, delivery in reversed(self.seen) if owner is client]

    def _holder(self, client: int) -> Client:
        """Return a client that has claimed something, the given one if it has."""
        owners = [owner for owner, _ in self.seen]
        ordered = [*self.clients[client:], *self.clients[:client]]
        return next((one for one in ordered if one in owners), self.clients[client])

    def _reserve(
        self, client: Client, queues: Sequence[str], limit: int, lease: float
    ) -> list[Delivery]:
        got, now = self._timed(lambda: client.broker.reserve(queues, limit=limit, lease=lease))
        if client.interrupted:
            self.ledger.check("L24", got == [], "an interrupted client has claimed")
            return []
        check_claim(self.spec, Claim(queues, limit, lease, got, now))
        self.seen.extend((client, delivery) for delivery in got)
        return got

    def _settle(self, holder: Client, batch: list[Settlement]) -> None:
        lost, now = self._timed(lambda: holder.broker.settle(batch))
        taken = self.spec.settled(batch, lost, now, client=holder.number)
        self._check_effects(batch, taken)

    def _extend(self, holder: Client, deliveries: Sequence[Delivery], lease: float) -> None:
        answer, now = self._timed(lambda: holder.broker.extend(deliveries, lease=lease))
        self.spec.extended(deliveries, answer.lost, lease, now)

    def _check_sent(self, batch: Sequence[Send], law: str) -> None:
        """Check that what was sent exists, and what was refused does not."""
        if not batch or not self.target.capabilities.locate:
            return
        ids = list(dict.fromkeys(item.message.id for item in batch))
        found, now = self._timed(lambda: self.clients[0].broker.locate(ids))
        for id in ids:
            entry = self.spec.entries.get(id)
            exists = entry is not None and entry.where is not Where.GONE
            if entry is None or entry.sure:
                self.ledger.check(law, (id in found) == exists, f"{id}: exists is not {exists}")
        self.spec.located(ids, found, now)

    def _check_effects(self, batch: list[Settlement], taken: list[Settlement]) -> None:
        """Check that results and successors are there, or not, with their settlement."""
        for settlement in batch:
            law = "L16" if any(settlement is one for one in taken) else "L4"
            if not isinstance(settlement, Release) and settlement.result is not None:
                self._check_results([settlement.delivery.id], law)
            if isinstance(settlement, Ack):
                self._check_sent(settlement.send, law)

    def _check_results(self, ids: Sequence[str], law: str) -> None:
        found, now = self._timed(lambda: self.results.fetch(ids))
        self.spec.fetched(ids, found, now, law=law)

    def _locate(self, ids: Sequence[str]) -> None:
        if self.target.capabilities.locate:
            found, now = self._timed(lambda: self.clients[0].broker.locate(ids))
            self.spec.located(ids, found, now)

    def _check_dead(self, broker: Broker, queue: str, page: int) -> list[DeadLetter]:
        letters, now = self._timed(lambda: _all_letters(broker, queue, page))
        self.spec.listed(queue, letters, now)
        return letters

    def _check_all_dead(self, broker: Broker) -> None:
        for queue in QUEUES:
            self._check_dead(broker, queue, 100)

    def _look(self) -> None:
        broker = self.clients[0].broker
        stats, now = self._timed(broker.stats)
        self.spec.counted(stats, now)
        ids = [*self.spec.entries, "nobody"]
        self._locate(ids)
        self._check_results(ids, "R6")

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
                self._clean()
        finally:
            self.target.end()

    def _drain(self) -> None:
        """Take all there is, until nothing more can come."""
        client = self._open()
        for _ in range(PLENTY):
            got = self._reserve(client, QUEUES, 50, 60.0)
            if got:
                self._settle(client, [Ack(delivery) for delivery in got])
            elif not any(e.where in {Where.WAITING, Where.LEASED} for e in self.spec.of(QUEUES)):
                break
            else:
                self.clock.advance(210.0)
        self.clients[0] = client
        self._check_all_dead(client.broker)
        self._look()

    def _clean(self) -> None:
        """Drop what is left, and check that nothing is."""
        broker = self.clients[0].broker
        for queue in QUEUES:
            dead = len(self.spec.dead(queue))
            dropped = broker.purge_dead(queue)
            self.ledger.check("L13", dropped == dead, f"{dropped} dead in {queue}, not {dead}")
            dropped = broker.purge(queue)
            self.ledger.check("L13", dropped == 0, f"{dropped} left in {queue} after a drain")
        for beat, _ in self.spec.beats.values():
            broker.send_heartbeat(beat, ttl=0)
        self.clock.advance(LONG)
        while self.results.expire():
            pass
        self.ledger.check("R3", not self.results.fetch(list(self.spec.results)), "results stay")
        left = self.target.footprint()
        self.ledger.check("L27", left == [], f"left behind: {left}")


def _all_letters(broker: Broker, queue: str, page: int) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    while more := broker.dead_letters(queue, limit=page, after=letters[-1] if letters else None):
        letters.extend(more)
        if len(letters) > PLENTY:
            break
    return letters
