"""Random sequences of calls against a backend whose server can be reached."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from taskq.contract.delivery import State
from taskq.testing.laws.case import beat as beat_of
from taskq.testing.machine import strategies as draw
from taskq.testing.machine.driver import PLENTY, Client, Driver
from taskq.testing.machine.strategies import QUEUES
from taskq.testing.machine.trace import first, step
from taskq.testing.model.cutting import cut_off
from taskq.testing.model.entry import Where
from taskq.testing.model.operating import (
    check_expired_dead,
    check_purged,
    check_purged_dead,
    check_requeued,
)


class BrokerMachine(Driver):
    """Drives a few clients of one namespace, and compares each answer.

    No answer decides which step may follow: hypothesis takes a choice that is not
    there when it repeats a sequence for an error of the test.
    """

    # What producers do

    @first(priorities=st.lists(draw.priorities, min_size=2, max_size=6))
    def start(self, priorities: list[int]) -> None:
        self._burst(0, "a", priorities)

    @step(client=draw.clients, items=st.lists(draw.items, min_size=1, max_size=4))
    def send(self, client: int, items: list[dict[str, Any]]) -> None:
        self._send(self.clients[client], self._items(items))

    @step(
        client=draw.clients,
        queue=draw.queues,
        priorities=st.lists(draw.priorities, min_size=2, max_size=6),
    )
    def burst(self, client: int, queue: str, priorities: list[int]) -> None:
        self._burst(client, queue, priorities)

    def _burst(self, client: int, queue: str, priorities: list[int]) -> None:
        items = [
            {"queue": queue, "max_deliveries": 2, "priority": priority} for priority in priorities
        ]
        self._send(self.clients[client], self._items(items))

    def _stock(self, client: int, queue: str, choices: list[dict[str, Any]]) -> None:
        """Let there be something to claim."""
        if not any(entry.where is Where.WAITING for entry in self.spec.of([queue])):
            self._burst(client, queue, [choice.get("priority", 5) for choice in choices])

    # What consumers do

    @step(client=draw.clients, queues=draw.orders, limit=st.integers(1, 6), lease=draw.leases)
    def reserve(self, client: int, queues: list[str], limit: int, lease: float) -> None:
        self._reserve(self.clients[client], queues, limit, lease)

    @step(
        client=draw.clients,
        queues=draw.orders,
        choices=st.lists(draw.settlements, min_size=2, max_size=6),
    )
    def work(self, client: int, queues: list[str], choices: list[dict[str, Any]]) -> None:
        """Claim, and settle all but the first at once."""
        holder = self.clients[client]
        self._stock(client, queues[0], choices)
        got = self._reserve(holder, queues, len(choices), 31.0)
        pairs = list(zip(got, choices, strict=False))[1:]
        batch = [self.make.settlement(d, choice) for d, choice in pairs]
        if batch and choices[0].get("changed"):
            batch.append(self.make.settlement(batch[0].delivery, choices[0]))
        self._settle(holder, batch)

    @step(
        client=draw.clients,
        queues=draw.orders,
        choices=st.lists(draw.settlements, min_size=1, max_size=3),
        extends=st.booleans(),
    )
    def freeze(
        self, client: int, queues: list[str], choices: list[dict[str, Any]], extends: bool
    ) -> None:
        """Claim, stand still until somebody else has the messages, and go on as if nothing was."""
        self._stock(client, queues[0], choices)
        frozen, rival = self.clients[client], self.clients[client - 1]
        got = self._reserve(frozen, queues, len(choices), 10.0)
        self.clock.advance(14.0)
        self._reserve(rival, queues, 6, 31.0)
        if extends:
            self._extend(frozen, got, 60.0)
        pairs = zip(got, choices, strict=False)
        self._settle(frozen, [self.make.settlement(d, choice) for d, choice in pairs])

    @step(
        client=draw.clients,
        queue=draw.queues,
        limit=st.integers(1, 3),
        result=draw.settlements,
    )
    def bury(self, client: int, queue: str, limit: int, result: dict[str, Any]) -> None:
        """Make some dead letters, one after the other."""
        holder = self.clients[client]
        for delivery in self._reserve(holder, [queue], limit, 31.0):
            self._settle(holder, [self.make.settlement(delivery, result | {"kind": "dead"})])
            self.clock.advance(7.0)

    @step(
        client=draw.clients,
        choices=st.lists(draw.settlements, min_size=1, max_size=4),
    )
    def settle(self, client: int, choices: list[dict[str, Any]]) -> None:
        holder = self._holder(client)
        mine = self._mine(holder)
        self._settle(
            holder,
            [self.make.settlement(mine[c.get("pick", 0) % len(mine)], c) for c in choices if mine],
        )

    @step(client=draw.clients, picks=draw.several, lease=draw.leases)
    def extend(self, client: int, picks: list[int], lease: float) -> None:
        holder = self._holder(client)
        mine = self._mine(holder)
        chosen = {pick % len(mine): mine[pick % len(mine)] for pick in picks if mine}
        self._extend(holder, list(chosen.values()), lease)

    @step(pick=draw.picks, run=st.integers(0, 3), ttl=draw.ttls)
    def store(self, pick: int, run: int, ttl: float) -> None:
        results = self.results
        if results is None:
            return
        known = list(self.spec.entries) or ["m0"]
        record = self.make.record(known[-1 - pick % len(known)], run, ttl)
        _, now = self._timed(lambda: results.store([record]))
        self.spec.results.stored(record, now)
        self._check_results([record.id], "R1")

    # What time and operators do

    @step(
        client=draw.clients,
        seconds=draw.steps,
        then=st.sampled_from(["nothing", "look", "maintain", "maintain", "maintain one"]),
    )
    def advance(self, client: int, seconds: float, then: str) -> None:
        self.clock.advance(seconds)
        if then == "look":
            self._look()
        elif then != "nothing":
            self._maintain(self.clients[client], 1 if then == "maintain one" else PLENTY)

    def _maintain(self, client: Client, limit: int) -> None:
        broker = client.broker
        count, now = self._timed(lambda: broker.recover_expired(limit=limit))
        self.spec.recovered(count, limit, now, by=client.number)
        count, now = self._timed(lambda: broker.poll_schedule(limit=limit))
        self.spec.promoted(count, limit, now)
        self._look()

    @step(queue=draw.queues, what=draw.operations, picks=draw.several)
    def operate(self, queue: str, what: str, picks: list[int]) -> None:
        """Do what an operator may do. One rule, or most messages would end by his hand."""
        broker = self.clients[0].broker
        if what.startswith("purge "):
            states = frozenset(map(State, what.split()[1:]))
            count, now = self._timed(lambda: broker.purge(queue, states=states))
            check_purged(self.spec, queue, states, count, now)
            self._locate([entry.id for entry in self.spec.of([queue])])
            return
        letters = [letter.message.id for letter in self._check_dead(queue, 1 + picks[0] % 3)]
        ids = list(dict.fromkeys(letters[pick % len(letters)] for pick in picks if letters))
        if what == "requeue":
            count, now = self._timed(lambda: broker.requeue_dead(queue, [*ids, "nobody"]))
            check_requeued(self.spec, queue, ids, count, now)
            self._check_results(ids, "L19")
        elif what == "drop":
            count = broker.purge_dead(queue, [*ids, "nobody"])
            check_purged_dead(self.spec, queue, ids, count)
        else:
            self._check_all_dead()
            count, now = self._timed(lambda: broker.expire_dead(older_than=100.0))
            check_expired_dead(self.spec, 100.0, count, now)
        self._check_all_dead()

    @step(
        worker=st.sampled_from(["w1", "w2"]),
        start=st.integers(1, 2),
        ttl=st.sampled_from([0, 15, 60]),
    )
    def beat(self, worker: str, start: int, ttl: float) -> None:
        beat = beat_of(worker, f"{worker}-{start}", done=self.make.number())
        _, now = self._timed(lambda: self.clients[0].broker.send_heartbeat(beat, ttl=ttl))
        self.spec.workers.beaten(beat, ttl, now)
        alive, now = self._timed(self.clients[1].broker.list_alive_workers)
        self.spec.workers.alive(alive, now)

    @step(client=draw.clients, how=st.sampled_from(["crash", "close", "interrupt"]))
    def trouble(self, client: int, how: str) -> None:
        victim = self.clients[client]
        if how == "interrupt" and not victim.interrupted:
            victim.broker.interrupt()
            victim.interrupted = True
            self._reserve(victim, QUEUES, 5, 60.0)
            return
        if how == "crash":
            self._crash(victim)
        else:
            self._close(victim.broker)
            cut_off(self.spec, victim.number, self._present())
        self.clients[client] = self._open()
