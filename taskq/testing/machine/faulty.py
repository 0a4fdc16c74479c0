"""Random sequences in which connections break in mid-call, and the server is restarted.

Each step here breaks one call and judges what its error says; then the client
has to go on by itself, and what the error left open is looked up or repeated,
as a program would do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery, State
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.errors import BrokerError, OutcomeUnknown, SendError
from taskq.testing.laws.case import beat as beat_of
from taskq.testing.machine import strategies as draw
from taskq.testing.machine.breaking import NOTHING, BreakingMachine, faults
from taskq.testing.machine.driver import PLENTY, Client
from taskq.testing.machine.trace import step
from taskq.testing.model.cutting import claim_in_limbo, reclaim_in_limbo, shake
from taskq.testing.model.doubt import (
    check_send_error,
    claim_in_doubt,
    clear_cut,
    purged_in_limbo,
    requeued_in_doubt,
    requeued_in_limbo,
    settled_in_doubt,
)
from taskq.testing.model.entry import Span, Where
from taskq.testing.model.operating import (
    check_purged,
    check_purged_dead,
    check_requeued,
    perhaps_purged,
)
from taskq.testing.model.reach import Claim

RARELY: Final = 2


class FaultyMachine(BreakingMachine):
    """Drives the same clients, and breaks their calls."""

    restarted = False

    # Producers

    @step(
        client=draw.clients,
        fault=faults,
        items=st.lists(draw.items, min_size=1, max_size=4),
        again=st.booleans(),
    )
    def send_broken(
        self, client: int, fault: dict[str, Any], items: list[dict[str, Any]], again: bool
    ) -> None:
        sender = self.clients[client]
        batch = list({item.message.id: item for item in self._items(items)}.values())
        _, error, now = self._broken(sender, fault, lambda: sender.broker.send(batch))
        if error is None:
            self.spec.sent(batch, now, producer=sender.number)
        else:
            self._check_refusal(batch, error, now, sender.number)
        self._check_sent(batch, "L2")
        self._after(sender, error)
        if again and isinstance(error, SendError):
            self._send(sender, self._known(batch, [*error.unsent, *error.unknown]))

    def _check_refusal(
        self, batch: Sequence[Send], error: BrokerError, now: Span, producer: int
    ) -> None:
        named = isinstance(error, SendError)
        self.ledger.check("L2", named, f"send raises {error!r}, which names no id")
        if isinstance(error, SendError):
            check_send_error(self.spec, batch, error, now, producer=producer)

    def _known(self, batch: Sequence[Send], ids: Sequence[str]) -> list[Send]:
        now = self._present()
        return [
            item
            for item in batch
            if item.message.id in ids and self._may_send_again(item.message.id, now)
        ]

    # Consumers

    @step(
        client=draw.clients,
        fault=faults,
        queues=draw.orders,
        limit=st.integers(1, 6),
        lease=draw.leases,
    )
    def reserve_broken(
        self, client: int, fault: dict[str, Any], queues: list[str], limit: int, lease: Seconds
    ) -> None:
        claimer = self.clients[client]
        tied = not self.spec.timed
        if not tied and not clear_cut(self.spec, queues, self._present()):
            return
        got, error, now = self._broken(
            claimer,
            fault,
            lambda: claimer.broker.reserve(queues, limit=limit, lease=lease),
        )
        if got is not None:
            self._claimed(claimer, Claim(queues, limit, lease, got, now, claimer.number))
        if isinstance(error, OutcomeUnknown) and tied:
            claim_in_limbo(self.spec, queues, lease, now, client=claimer.number)
        elif isinstance(error, OutcomeUnknown):
            haunted = claim_in_doubt(self.spec, queues, lease, now)
            self._look()
            leased = sum(entry.where is Where.LEASED for entry in haunted)
            self.ledger.check("L3", leased <= limit, f"a lost claim took {leased} of {limit}")
        self._after(claimer, error)

    @step(
        client=draw.clients,
        fault=faults,
        queues=draw.orders,
        choices=st.lists(draw.settlements, min_size=1, max_size=4),
        stale=st.none() | draw.picks,
    )
    def settle_broken(
        self,
        client: int,
        fault: dict[str, Any],
        queues: list[str],
        choices: list[dict[str, Any]],
        stale: int | None,
    ) -> None:
        """Claim, and settle what came, perhaps with something older."""
        holder = self.clients[client]
        self._stock(client, queues[0], choices)
        chosen = self._fresh(holder, queues, len(choices), stale)
        batch = [self.make.settlement(d, c) for d, c in zip(chosen, choices, strict=False)]
        lost, error, now = self._broken(holder, fault, lambda: holder.broker.settle(batch))
        if lost is not None:
            taken = self.spec.settled(batch, lost, now, client=holder.number)
            self._check_effects(batch, taken)
        self._after(holder, error)
        if isinstance(error, OutcomeUnknown):
            self._settle_again(holder, batch, now)
        elif error is not None:
            self._settle(holder, batch)

    def _settle_again(self, holder: Client, batch: list[Settlement], before: Span) -> None:
        lost, after = self._timed(lambda: holder.broker.settle(batch))
        now = Span(before.early, after.late)
        with self._instead("L30", "what was repeated is done whole"):
            taken = settled_in_doubt(self.spec, batch, lost, now, client=holder.number)
            self._check_effects(batch, taken)
            self._look()
        self.ledger.check("L30", True, "")

    def _fresh(
        self, holder: Client, queues: list[str], limit: int, stale: int | None
    ) -> list[Delivery]:
        """Return what a claim brings, and one of the holder's others, none about to end."""
        now = self._present()
        others = [
            delivery
            for delivery in self._mine(holder)
            if not self.spec.entries[delivery.id].lapsed(now, holder.number)
        ]
        got = self._reserve(holder, queues, limit, 31.0)
        return got if stale is None or not others else [others[stale % len(others)], *got]

    @step(
        client=draw.clients,
        fault=faults,
        queues=draw.orders,
        limit=st.integers(1, 3),
        lease=draw.leases,
        stale=st.none() | draw.picks,
    )
    def extend_broken(
        self,
        client: int,
        fault: dict[str, Any],
        queues: list[str],
        limit: int,
        lease: Seconds,
        stale: int | None,
    ) -> None:
        """Claim, and extend what came, perhaps with something older."""
        holder = self.clients[client]
        chosen = self._fresh(holder, queues, limit, stale)
        answer, error, now = self._broken(
            holder, fault, lambda: holder.broker.extend(chosen, lease=lease)
        )
        if answer is not None:
            self.spec.extended(chosen, answer.lost, lease, now)
        self._after(holder, error)
        if answer is None:
            self._extend(holder, chosen, lease)

    # Results

    @step(fault=faults, picks=draw.several, run=st.integers(0, 3), ttl=draw.ttls)
    def store_broken(self, fault: dict[str, Any], picks: list[int], run: int, ttl: float) -> None:
        results = self.results
        if results is None:
            return
        known = list(self.spec.entries) or ["m0"]
        ids = list(dict.fromkeys(known[-1 - pick % len(known)] for pick in picks))
        records = [self.make.record(id, run, ttl) for id in ids]
        _, error, now = self._broken(results, fault, lambda: results.store(records))
        self._goes_on("R9", lambda: results.fetch(ids))
        if error is not None:
            if not isinstance(error, OutcomeUnknown):
                with self._instead("R9", NOTHING):
                    self._check_results(ids, "R6")
            _, after = self._timed(lambda: results.store(records))
            now = Span(now.early, after.late)
        for record in records:
            self.spec.results.stored(record, now)
        self._check_results(ids, "R1")

    # Maintenance and operators

    @step(client=draw.clients, fault=faults, what=st.sampled_from(["poll", "recover", "beat"]))
    def upkeep_broken(self, client: int, fault: dict[str, Any], what: str) -> None:
        keeper = self.clients[client]
        broker = keeper.broker
        if what == "beat":
            beat = beat_of("w1", "w1-1", done=self.make.number())
            _, error, now = self._broken(keeper, fault, lambda: broker.send_heartbeat(beat, ttl=60))
            self._after(keeper, error)
            if error is not None:
                _, now = self._timed(lambda: broker.send_heartbeat(beat, ttl=60))
            self.spec.workers.beaten(beat, 60, now)
            alive, now = self._timed(self.observer.list_alive_workers)
            self.spec.workers.alive(alive, now)
            return
        call = broker.poll_schedule if what == "poll" else broker.recover_expired
        count, error, now = self._broken(keeper, fault, lambda: call(limit=PLENTY))
        if count is not None and what == "poll":
            self.spec.promoted(count, PLENTY, now)
        elif count is not None:
            self.spec.recovered(count, PLENTY, now, by=keeper.number)
        elif what == "recover" and isinstance(error, OutcomeUnknown) and not self.spec.timed:
            reclaim_in_limbo(self.spec, now, client=keeper.number)
        self._after(keeper, error)
        self._look()

    @step(client=draw.clients, fault=faults, queue=draw.queues, states=draw.states)
    def purge_broken(
        self, client: int, fault: dict[str, Any], queue: str, states: list[str]
    ) -> None:
        operator = self.clients[client]
        chosen = frozenset(map(State, states))
        count, error, now = self._broken(
            operator, fault, lambda: operator.broker.purge(queue, states=chosen)
        )
        if count is not None:
            check_purged(self.spec, queue, chosen, count, now)
        elif isinstance(error, OutcomeUnknown):
            perhaps_purged(self.spec, queue, chosen, now)
        self._locate([entry.id for entry in self.spec.of([queue])])
        self._after(operator, error)

    @step(
        client=draw.clients,
        fault=faults,
        queue=draw.queues,
        picks=draw.several,
        requeue=st.booleans(),
    )
    def letters_broken(
        self, client: int, fault: dict[str, Any], queue: str, picks: list[int], requeue: bool
    ) -> None:
        """Requeue or purge dead letters."""
        operator = self.clients[client]
        dead = [letter.message.id for letter in self._check_dead(queue, 100)]
        ids = list(dict.fromkeys(dead[pick % len(dead)] for pick in picks if dead)) or ["nobody"]
        locate = self.target.capabilities.locate
        if self.spec.timed and not locate:
            return
        call = operator.broker.requeue_dead if requeue else operator.broker.purge_dead
        count, error, now = self._broken(operator, fault, lambda: call(queue, ids))
        if isinstance(error, OutcomeUnknown) and not self.spec.timed:
            if requeue:
                requeued_in_limbo(self.spec, queue, ids, now)
            else:
                purged_in_limbo(self.spec, queue, ids)
        elif isinstance(error, OutcomeUnknown):
            found, _ = self._timed(lambda: self.observer.locate(ids))
            if requeue:
                requeued_in_doubt(self.spec, queue, ids, found, now)
            else:
                gone = [id for id in ids if id not in found]
                check_purged_dead(self.spec, queue, gone, len(set(gone) & set(dead)))
        elif count is not None and requeue:
            check_requeued(self.spec, queue, ids, count, now)
        elif count is not None:
            check_purged_dead(self.spec, queue, ids, count)
        self._after(operator, error)
        self._check_dead(queue, 100)
        self._look()

    # The server

    @precondition(lambda self: self.target.restarts and not self.restarted)
    @step(chance=st.integers(0, RARELY))
    def restart(self, chance: int) -> None:
        """Restart the server: everything is still there, and everybody goes on."""
        if chance:
            return
        self.restarted = True
        self.target.restart()
        for client in self.clients:
            shake(self.spec, client.number, self._present())
        self._goes_on("L31", self.observer.stats)
        results = self.results
        if results is not None:
            self._goes_on("R9", lambda: results.fetch(["nobody"]))
        for client in self.clients:
            self._goes_on("L31", client.broker.stats)
        with self._instead("L1", "nothing is lost in a restart"):
            self._look()
        self.ledger.check("L1", True, "")
