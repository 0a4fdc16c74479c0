"""A right broker that can do less: it has none of the capabilities that may be denied.

It stands for servers such as RabbitMQ, and shows that the kit holds a backend
to what it declares and to no more. Its store is the in-memory one, but ids are
not unique, nothing is found by id, absolute times are judged by the client's
clock, and a lease is tied to a connection: while that lives, nobody but its
holder ends it; when it is lost, the message is given back at once, and whoever
finds it lets it rest for a lease.

Each client has two connections, and either can be broken: one publishes, the
other consumes and asks. What moves a message publishes a copy, and then acks
the original. So a fault in between leaves both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from taskq.clock import Clock, Seconds, Timestamp
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import (
    WAITING,
    Command,
    DeadLetter,
    Delivery,
    Extension,
    Heartbeat,
    QueueStats,
    State,
)
from taskq.contract.message import Send
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import NotSupported, SendError
from taskq.memory.broker import LONGEST_NAP, MemoryBroker
from taskq.memory.server import Entry
from taskq.testing.faults import Fault
from tests.contract.relaxed_client import Broken, Connections, Held, do, half
from tests.contract.relaxed_server import LOTS, RelaxedServer, outer

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class RelaxedBroker(Connections, Broker):
    """The in-memory store over two connections, less all that may be denied."""

    capabilities = Capabilities(
        unique_ids=False, locate=False, server_time=False, timed_leases=False
    )

    def __init__(self, server: RelaxedServer, clock: Clock) -> None:
        super().__init__(server)
        self._store = MemoryBroker(server)
        self._clock = clock

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        self._store.send([])
        with self._server.changed:
            self._server.promote_all()
            copies = [partial(self._server.publish, self._sent(item)) for item in items]
            try:
                self._publish(copies)
            except Broken as broken:
                raise _send_error(broken.fault, [item.message.id for item in items]) from broken
            finally:
                self._server.changed.notify_all()

    def _sent(self, item: Send) -> Send:
        now = self._clock.now()
        delay = item.delay if item.eta is None else max(0.0, item.eta - now)
        ttl = item.ttl if item.expires is None else item.expires - now
        return Send(item.message, delay=delay, ttl=ttl)

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        deadline = time.monotonic() + wait
        while True:
            with self._call("reserve"):
                self._store.settle([])
                if self._store._interrupted:
                    return []
                for queue in queues:
                    self._take_back(self._lapsed([queue])[:limit])
                got: list[Delivery] = []
                for queue in queues:
                    got += self._claim(queue, limit - len(got), lease)
                left = deadline - time.monotonic()
                if got or left <= 0:
                    return got
                self._server.changed.wait(max(0.0, min(self._nap(), left)))

    def _nap(self) -> Seconds:
        due = [queue.scheduled[0][0] for queue in self._server.queues.values() if queue.scheduled]
        change = min([*due, *(held.until for held in self._held.values())], default=None)
        return LONGEST_NAP if change is None else min(LONGEST_NAP, change - self._now())

    def _now(self) -> Timestamp:
        return self._server.clock.now()

    def _claim(self, queue: str, limit: int, lease: Seconds) -> list[Delivery]:
        """Fetch until there are enough; what was given back is let rest, and not returned."""
        got: list[Delivery] = []
        while len(got) < limit:
            before = set(self._consuming)
            self._ask(partial(self._server.fetch, self._consuming, queue, limit - len(got)))
            fresh = [self._consuming[id] for id in self._consuming if id not in before]
            if not fresh:
                break
            deliveries = [self._lease(entry, lease) for entry in fresh]
            found = self._lost_by_others(fresh)
            self._let_rest(found, lease)
            got += [d for d, entry in zip(deliveries, fresh, strict=True) if entry not in found]
        return got

    def _lost_by_others(self, fresh: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in fresh if entry.message.id in self._server.given_back]

    def _let_rest(self, found: Sequence[Entry], lease: Seconds) -> None:
        """Count what was lost, and let it come again when its last holder has stopped."""
        self._move(found, [partial(self._lose, entry, lease) for entry in found])

    def _take_back(self, lapsed: Sequence[Held]) -> None:
        """Take back what this client has lost."""
        entries = [held.entry for held in lapsed]
        self._move(entries, [partial(self._lose, entry, 0.0) for entry in entries])

    def _lose(self, entry: Entry, rest: Seconds) -> None:
        self._server.lost(self._server.duplicate(entry), rest)

    def _lapsed(self, queues: Sequence[str]) -> list[Held]:
        return [
            held
            for held in self._held.values()
            if held.entry.message.queue in queues and held.until <= self._now()
        ]

    def _lease(self, entry: Entry, seconds: Seconds) -> Delivery:
        token, now = next(self._server.tokens), self._now()
        self._held[token] = Held(entry, now + seconds)
        return Delivery(
            message=outer(entry.message),
            token=token,
            claimed=now,
            lease_until=now + seconds,
            retries=entry.retries,
            losses=entry.losses,
            releases=entry.releases,
            run=entry.run,
            expired=entry.expires is not None and entry.expires <= now,
            first_released=entry.first_released,
        )

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        self._store.settle([])
        lost: list[Delivery] = []
        todo: dict[str, Settlement] = {}
        with self._call("settle"):
            for one in settlements:
                token = one.delivery.token
                if token in self._held and token not in todo:
                    todo[token] = one
                else:
                    lost.append(one.delivery)
            entries = [self._held[token].entry for token in todo]
            self._conclude(entries, list(todo.values()))
        return lost

    def _conclude(self, entries: Sequence[Entry], batch: Sequence[Settlement]) -> None:
        """Publish what a batch brings, one settlement after the other; then end the originals."""
        effects = [self._effects(*pair) for pair in zip(entries, batch, strict=True)]
        self._move(entries, [partial(do, some) for some in effects if some])

    def _effects(self, entry: Entry, settlement: Settlement) -> list[Callable[[], None]]:
        """Return what a settlement publishes, which is nothing for a mere ack."""
        effects: list[Callable[[], None]] = []
        if isinstance(settlement, Ack):
            effects += [partial(self._server.publish, self._sent(item)) for item in settlement.send]
        else:
            effects.append(partial(self._bring_back, entry, settlement))
        if not isinstance(settlement, Release) and settlement.result is not None:
            effects.append(partial(self._server.keep_result, settlement.result))
        return effects

    def _bring_back(self, entry: Entry, settlement: Retry | Release | Dead) -> None:
        twin, now = self._server.duplicate(entry), self._now()
        if isinstance(settlement, Dead):
            self._server.messages[twin.message.id] = twin
            self._server.bury(twin, settlement.code, settlement.detail)
            return
        twin.returned = isinstance(settlement, Release)
        if isinstance(settlement, Release):
            twin.releases += 1
            twin.first_released = twin.first_released or now
        else:
            twin.retries += 1
            twin.run += 1
            if settlement.envelope is not None:
                twin.message = replace(twin.message, envelope=settlement.envelope)
        self._server.put(twin, now + settlement.delay)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        self._store.settle([])
        with self._call("extend"):
            if deliveries:
                self._ask(lambda: None)
            lost = [delivery for delivery in deliveries if delivery.token not in self._held]
            for delivery in deliveries:
                if delivery.token in self._held:
                    self._held[delivery.token].until = self._now() + lease
        return Extension(lost=lost, cancelled=[])

    def interrupt(self) -> None:
        self._store.interrupt()

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:
        self._store.settle([])
        return 0

    def recover_expired(self, *, limit: int = 1000) -> int:
        self._store.settle([])
        with self._call("recover_expired"):
            lapsed = self._lapsed(list(self._server.queues))[:limit]
            self._take_back(lapsed)
        return len(lapsed)

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        with self._call("expire_dead"):
            expire = partial(self._store.expire_dead, older_than=older_than, limit=limit)
            return self._ask(expire)

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        with self._call("send_heartbeat"):
            return self._ask(partial(self._store.send_heartbeat, beat, ttl=ttl))

    def list_alive_workers(self) -> list[Heartbeat]:
        with self._call("list_alive_workers"):
            return self._ask(self._store.list_alive_workers)

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        with self._call("stats"):
            lines = self._ask(self._store.stats)
        # Nobody can look at a message without taking it.
        return [replace(line, oldest_ready=None) for line in lines]

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        self._store.locate([])
        raise NotSupported("this broker finds no message by id")

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        with self._call("dead_letters"):
            letters = self._ask(partial(self._store.dead_letters, queue, limit=LOTS))
        found = [replace(letter, message=outer(letter.message)) for letter in letters]
        if after is None:
            return found[:limit]
        start = max((n for n, letter in enumerate(found) if letter == after), default=len(found))
        return found[start + 1 : start + 1 + limit]

    def _dead(self, queue: str, ids: Sequence[str]) -> list[Entry]:
        dead = self._server.queue(queue).dead.values()
        return [entry for entry in dead if outer(entry.message).id in ids]

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        self._store.settle([])
        with self._call("requeue_dead"):
            dead = self._dead(queue, ids)
            self._publish([partial(self._wake, entry) for entry in dead])
            return self._drop_dead(queue, dead)

    def _wake(self, entry: Entry) -> None:
        twin = self._server.duplicate(entry)
        twin.retries = twin.losses = twin.releases = 0
        twin.run += 1
        twin.returned, twin.first_released = False, None
        self._server.results.pop(outer(entry.message).id, None)
        self._server.put(twin, self._now())

    def _drop_dead(self, queue: str, dead: Sequence[Entry]) -> int:
        ids = [entry.message.id for entry in dead]
        drop = partial(self._store.purge_dead, queue)
        return self._ask(partial(drop, ids), partial(drop, half(ids))) if ids else 0

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        with self._call("purge_dead"):
            if ids is None:
                return self._ask(partial(self._store.purge_dead, queue))
            self._store.settle([])
            return self._drop_dead(queue, self._dead(queue, ids))

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        with self._call("purge"):
            return self._ask(partial(self._store.purge, queue, states=states))

    # -- Life cycle

    def check(self) -> list[str]:
        return self._store.check()

    def close(self) -> None:
        self.cut()
        self._store.close()


def _send_error(fault: Fault, ids: Sequence[str]) -> SendError:
    text = "send: a connection broke"
    if fault is Fault.BEFORE:
        return SendError(text, unsent=ids)
    if fault is Fault.AFTER:
        return SendError(text, unknown=ids)
    arrived = len(half(ids))
    return SendError(
        text, sent=ids[: arrived - 1], unknown=[ids[arrived - 1]], unsent=ids[arrived:]
    )
