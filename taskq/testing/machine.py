"""Random sequences of calls against a backend, compared with the `Spec`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from taskq.contract.delivery import Delivery, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing import strategies as draw
from taskq.testing.driver import PLENTY, Driver
from taskq.testing.entry import Span
from taskq.testing.laws.case import beat as beat_of
from taskq.testing.record import Ledger
from taskq.testing.strategies import QUEUES
from taskq.testing.target import Target


class BrokerMachine(Driver):
    """Drives a few clients of one namespace, and compares each answer."""

    def _present(self) -> Span:
        return Span(self.clock.now(), self.clock.now())

    @rule(client=draw.clients, items=st.lists(draw.items, min_size=1, max_size=4))
    def send(self, client: int, items: list[dict[str, Any]]) -> None:
        now = self._present()
        batch = [item for item in (self._item(given, now) for given in items) if item]
        sender = self.clients[client]
        _, now = self._timed(lambda: sender.broker.send(batch))
        self.spec.sent(batch, now, producer=sender.number)
        self._check_sent(batch, "L15")

    @initialize(priorities=st.lists(draw.priorities, min_size=2, max_size=6))
    def start(self, priorities: list[int]) -> None:
        self.burst(0, "a", priorities)

    @rule(
        client=draw.clients,
        queue=draw.queues,
        priorities=st.lists(draw.priorities, min_size=2, max_size=6),
    )
    def burst(self, client: int, queue: str, priorities: list[int]) -> None:
        plain = {"again": None, "queue": queue, "max_deliveries": 2, "delay": 0.0}
        plain |= {"eta": None, "life": None, "absolute": False}
        self.send(client, [plain | {"priority": priority} for priority in priorities])

    def _item(self, given: dict[str, Any], now: Span) -> Send | None:
        self.named += 1
        known = list(self.spec.entries)
        again = given["again"]
        id = f"m{self.named}" if again is None or not known else known[-1 - again % len(known)]
        if self.spec.free(id, now) is None:
            return None
        message = Message(
            id, given["queue"], b"%d" % self.named, given["priority"], given["max_deliveries"]
        )
        eta, life = given["eta"], given["life"]
        absolute = given["absolute"] and life is not None
        return Send(
            message,
            delay=0.0 if eta is not None else given["delay"],
            eta=None if eta is None else now.early + eta,
            ttl=None if absolute else life,
            expires=now.early + life if absolute else None,
        )

    @rule(client=draw.clients, queues=draw.orders, limit=st.integers(1, 6), lease=draw.leases)
    def reserve(self, client: int, queues: list[str], limit: int, lease: float) -> None:
        self._reserve(self.clients[client], queues, limit, lease)

    @rule(
        client=draw.clients,
        queues=draw.orders,
        choices=st.lists(draw.settlements, min_size=2, max_size=6),
    )
    def work(self, client: int, queues: list[str], choices: list[dict[str, Any]]) -> None:
        """Claim, and settle all but the first at once."""
        holder = self.clients[client]
        got = self._reserve(holder, queues, len(choices), 31.0)
        pairs = list(zip(got, choices, strict=False))[1:]
        batch = [self._settlement(d, choice) for d, choice in pairs]
        if batch and choices[0]["changed"]:
            batch.append(self._settlement(batch[0].delivery, choices[0]))
        self._settle(holder, batch)

    @rule(
        client=draw.clients,
        queues=draw.orders,
        choices=st.lists(draw.settlements, min_size=1, max_size=3),
        extends=st.booleans(),
    )
    def freeze(
        self, client: int, queues: list[str], choices: list[dict[str, Any]], extends: bool
    ) -> None:
        """Claim, stand still until somebody else has the messages, and go on as if nothing was."""
        frozen, rival = self.clients[client], self.clients[client - 1]
        got = self._reserve(frozen, queues, len(choices), 10.0)
        self.clock.advance(14.0)
        self._reserve(rival, queues, 6, 31.0)
        if extends:
            self._extend(frozen, got, 60.0)
        pairs = zip(got, choices, strict=False)
        self._settle(frozen, [self._settlement(d, choice) for d, choice in pairs])

    @rule(
        client=draw.clients,
        queue=draw.queues,
        limit=st.integers(1, 3),
        result=draw.settlements,
    )
    def bury(self, client: int, queue: str, limit: int, result: dict[str, Any]) -> None:
        """Make some dead letters, one after the other."""
        holder = self.clients[client]
        for delivery in self._reserve(holder, [queue], limit, 31.0):
            self._settle(holder, [self._settlement(delivery, result | {"kind": "dead"})])
            self.clock.advance(7.0)

    @precondition(lambda self: self.seen)
    @rule(
        client=draw.clients,
        choices=st.lists(draw.settlements, min_size=1, max_size=4),
    )
    def settle(self, client: int, choices: list[dict[str, Any]]) -> None:
        holder = self._holder(client)
        mine = self._mine(holder)
        self._settle(
            holder, [self._settlement(mine[c["pick"] % len(mine)], c) for c in choices if mine]
        )

    def _settlement(self, delivery: Delivery, choice: dict[str, Any]) -> Settlement:
        result, delay = self._result(delivery, choice), choice["delay"]
        match choice["kind"]:
            case "ack":
                return Ack(delivery, result, self._successors(delivery, choice))
            case "retry":
                self.named += 1
                envelope = b"again %d" % self.named if choice["changed"] else None
                return Retry(delivery, delay, envelope, result)
            case "release":
                return Release(delivery, delay)
        return Dead(delivery, "failed", f"of {delivery.token}", result)

    def _result(self, delivery: Delivery, choice: dict[str, Any]) -> ResultRecord | None:
        if choice["ttl"] is None:
            return None
        self.named += 1
        state = "RETRY" if choice["kind"] == "retry" else "SUCCESS"
        payload = b"result %d" % self.named
        return ResultRecord(delivery.id, delivery.run, state, payload, choice["ttl"])

    def _successors(self, delivery: Delivery, choice: dict[str, Any]) -> tuple[Send, ...]:
        messages = []
        for _ in range(choice["successors"]):
            self.named += 1
            message = Message(f"m{self.named}", delivery.message.queue, b"next %d" % self.named)
            messages.append(Send(message, delay=choice["delay"]))
        return tuple(messages)

    @rule(pick=draw.picks, run=st.integers(0, 3), ttl=draw.ttls)
    def store(self, pick: int, run: int, ttl: float) -> None:
        known = list(self.spec.entries) or ["m0"]
        id = known[-1 - pick % len(known)]
        self.named += 1
        record = ResultRecord(id, run, "SUCCESS", b"stored %d" % self.named, ttl)
        _, now = self._timed(lambda: self.results.store([record]))
        self.spec.stored(record, now)
        self._check_results([id], "R1")

    @precondition(lambda self: self.seen)
    @rule(
        client=draw.clients,
        picks=st.lists(draw.picks, min_size=1, max_size=3, unique=True),
        lease=draw.leases,
    )
    def extend(self, client: int, picks: list[int], lease: float) -> None:
        holder = self._holder(client)
        mine = self._mine(holder)
        chosen = {pick % len(mine): mine[pick % len(mine)] for pick in picks if mine}
        self._extend(holder, list(chosen.values()), lease)

    @rule(seconds=draw.steps)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(client=draw.clients, limit=st.sampled_from([1, PLENTY, PLENTY]))
    def maintain(self, client: int, limit: int) -> None:
        broker = self.clients[client].broker
        count, now = self._timed(lambda: broker.recover_expired(limit=limit))
        self.spec.recovered(count, limit, now)
        count, now = self._timed(lambda: broker.poll_schedule(limit=limit))
        self.spec.promoted(count, limit, now)
        self._look()

    @rule()
    def look(self) -> None:
        self._look()

    @rule(queue=draw.queues, page=draw.pages, picks=st.lists(draw.picks, max_size=2))
    def requeue_dead(self, queue: str, page: int, picks: list[int]) -> None:
        broker = self.clients[0].broker
        letters = self._check_dead(broker, queue, page)
        ids = list({letters[pick % len(letters)].message.id for pick in picks if letters})
        count, now = self._timed(lambda: broker.requeue_dead(queue, [*ids, "nobody"]))
        self.spec.requeued(queue, ids, count, now)
        self._check_results(ids, "L19")

    @rule(
        queue=draw.queues,
        states=st.sets(st.sampled_from([State.READY, State.SCHEDULED]), min_size=1),
    )
    def purge(self, queue: str, states: set[State]) -> None:
        count, now = self._timed(
            lambda: self.clients[0].broker.purge(queue, states=frozenset(states))
        )
        self.spec.purged(queue, frozenset(states), count, now)
        self._locate([entry.id for entry in self.spec.of([queue])])

    @rule(queue=draw.queues, everything=st.booleans(), pick=draw.picks)
    def drop_dead(self, queue: str, everything: bool, pick: int) -> None:
        broker = self.clients[0].broker
        if everything:
            self._check_all_dead(broker)
            count, now = self._timed(lambda: broker.expire_dead(older_than=100.0))
            self.spec.expired_dead(100.0, count, now)
        else:
            dead = [entry.id for entry in self.spec.dead(queue)]
            ids = dead[pick % len(dead) :][:1] if dead else ["nobody"]
            self.spec.purged_dead(queue, ids, broker.purge_dead(queue, ids))
        self._check_all_dead(broker)

    @rule(
        worker=st.sampled_from(["w1", "w2"]),
        start=st.integers(1, 2),
        ttl=st.sampled_from([0, 15, 60]),
    )
    def beat(self, worker: str, start: int, ttl: float) -> None:
        self.named += 1
        beat = beat_of(worker, f"{worker}-{start}", done=self.named)
        _, now = self._timed(lambda: self.clients[0].broker.send_heartbeat(beat, ttl=ttl))
        self.spec.beaten(beat, ttl, now)
        alive, now = self._timed(self.clients[1].broker.list_alive_workers)
        self.spec.alive(alive, now)

    @rule(client=draw.clients, how=st.sampled_from(["crash", "close", "interrupt"]))
    def trouble(self, client: int, how: str) -> None:
        victim = self.clients[client]
        if how == "interrupt" and not victim.interrupted:
            victim.broker.interrupt()
            victim.interrupted = True
            self._reserve(victim, QUEUES, 5, 60.0)
            return
        if how == "crash":
            self.target.crash(victim.broker)
        else:
            self._close(victim.broker)
        self.clients[client] = self._open()


def run_machine(target: Target, ledger: Ledger, chosen: settings) -> None:
    """Run random sequences against a target.

    There is one factory for all backends: a sequence that broke one is the
    first to be replayed on the next.

    Raises:
        LawBroken: an answer no right broker could have given.
    """
    run_state_machine_as_test(lambda: BrokerMachine(target, ledger), settings=chosen)  # type: ignore[arg-type]  # a factory is documented, and typed as a class
