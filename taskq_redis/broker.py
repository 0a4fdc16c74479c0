"""The broker over Redis: every change of a message is one script."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from taskq.clock import Clock, Seconds
from taskq.contract.broker import Broker
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
from taskq.contract.settlement import Settlement
from taskq.errors import (
    BrokerError,
    Closed,
    ConnectionFailed,
    OutcomeUnknown,
    SendError,
    ServerRefused,
)
from taskq_redis.client import Client, after
from taskq_redis.connection import Interrupt, Interrupted
from taskq_redis.health import inspect_server
from taskq_redis.keys import WAKE, Keys
from taskq_redis.options import Options
from taskq_redis.records import CHUNK_ITEMS, chunks, weigh_send, weigh_settlement
from taskq_redis.scripts import Scripts, Step

LONGEST_IDLE: Final[Seconds] = 1.0
"""After this time a waiting claim looks by itself, whether it was woken or not."""

QUEUES_AT_ONCE: Final = 100
PURGE_STEP: Final = 1000

_Item = TypeVar("_Item")


class RedisBroker(Broker):
    """A client of one namespace in one Redis database."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._client = Client(options)
        self._keys = Keys(options.url.namespace)
        self._scripts = Scripts(self._client, self._keys, clock)
        self._interrupt = Interrupt()
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Heartbeat).decode

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        self._check_open()
        deadline = time.monotonic() + timeout
        done = 0
        for chunk in chunks(items, weigh_send):
            try:
                self._scripts.send(chunk, deadline=deadline)
            except (ConnectionFailed, OutcomeUnknown, ServerRefused) as error:
                raise _send_error(items, done, len(chunk), error) from error
            done += len(chunk)

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        self._check_open()
        names = list(dict.fromkeys(queues))
        deadline = time.monotonic() + wait
        with contextlib.suppress(Interrupted):
            while names and limit > 0 and not self._interrupt.is_set:
                deliveries, pause = self._scripts.claim(
                    names, limit=limit, lease=lease, interrupt=self._interrupt
                )
                left = deadline - time.monotonic()
                if deliveries or left <= 0:
                    return deliveries
                self._sleep(
                    names, min(left, LONGEST_IDLE, LONGEST_IDLE if pause is None else pause)
                )
        return []

    def _sleep(self, queues: Sequence[str], seconds: Seconds) -> None:
        # The server counts in ms, and takes 0 for ever.
        milliseconds = max(math.ceil(seconds * 1000), 1)
        wakes = [self._keys.queue(queue)[WAKE] for queue in queues]
        command = ("BLPOP", *wakes, f"{milliseconds / 1000:.3f}")
        self._client.block(command, milliseconds / 1000, self._interrupt)

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        self._check_open()
        deadline = self._client.deadline()
        first, lost = _tell_repeated(settlements)
        for number, chunk in enumerate(chunks(first, weigh_settlement)):
            with after(number):
                missing = self._scripts.settle(chunk, deadline=deadline)
            lost += [chunk[index].delivery for index in missing]
        return lost

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        self._check_open()
        deadline = self._client.deadline()
        lost: list[Delivery] = []
        for number, chunk in enumerate(_slices(deliveries, CHUNK_ITEMS)):
            with after(number):
                missing = self._scripts.extend(chunk, lease=lease, deadline=deadline)
            lost += [chunk[index] for index in missing]
        return Extension(lost=lost, cancelled=[])

    def interrupt(self) -> None:
        self._check_open()
        self._interrupt.set()

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:
        return self._maintain("promote", limit)

    def recover_expired(self, *, limit: int = 1000) -> int:
        return self._maintain("reclaim", limit)

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return self._maintain("expire", limit, age=older_than)

    def _maintain(self, step: Step, limit: int, *, age: Seconds = 0.0) -> int:
        total = 0
        for number, queues in enumerate(_slices(self._queues(), QUEUES_AT_ONCE)):
            if total < limit:
                with after(number):
                    total += self._scripts.maintain(step, queues, limit - total, age=age)
        return total

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        self._scripts.beat(beat.incarnation, ttl, self._encode(beat))
        return []

    def list_alive_workers(self) -> list[Heartbeat]:
        beats = map(self._decode, self._scripts.workers())
        return sorted(beats, key=lambda beat: (beat.worker, beat.incarnation))

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        lines: list[QueueStats] = []
        for queues in _slices(self._queues(), QUEUES_AT_ONCE):
            lines += self._scripts.stats(queues)
        return [line for line in lines if line.ready + line.scheduled + line.processing + line.dead]

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        self._check_open()
        found: dict[str, State] = {}
        for chunk in _slices(list(dict.fromkeys(ids)), CHUNK_ITEMS):
            found |= self._locate(chunk)
        return found

    def _locate(self, ids: Sequence[str]) -> dict[str, State]:
        found: dict[str, State] = {}
        unclear = ids
        # A message may be purged, and sent again to another queue, between the
        # two questions. Then the first is asked again.
        while unclear:
            by_queue: dict[str, list[str]] = {}
            for id, queue in zip(unclear, self._scripts.queues_of(unclear), strict=True):
                if queue is not None:
                    by_queue.setdefault(queue, []).append(id)
            unclear = []
            for queue, members in by_queue.items():
                states = self._scripts.locate(queue, members)
                for id, state in zip(members, states, strict=True):
                    if state is None:
                        unclear.append(id)
                    else:
                        found[id] = state
        return found

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        self._check_open()
        return self._scripts.letters(queue, limit, after) if limit > 0 else []

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        self._check_open()
        total = 0
        for number, chunk in enumerate(_slices(list(dict.fromkeys(ids)), CHUNK_ITEMS)):
            with after(number):
                total += self._scripts.unbury(queue, "requeue", chunk)
        return total

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        self._check_open()
        if ids is None:
            return self._purge(queue, [State.DEAD])
        total = 0
        for number, chunk in enumerate(_slices(list(dict.fromkeys(ids)), CHUNK_ITEMS)):
            with after(number):
                total += self._scripts.unbury(queue, "drop", chunk)
        return total

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            raise ValueError("only scheduled and ready messages can be purged")
        self._check_open()
        return self._purge(queue, sorted(states))

    def _purge(self, queue: str, states: Sequence[State]) -> int:
        total = 0
        for state in states:
            dropped = PURGE_STEP
            while dropped == PURGE_STEP:
                with after(total):
                    dropped = self._scripts.purge(queue, state, PURGE_STEP)
                total += dropped
        return total

    # -- Life cycle

    def check(self) -> list[str]:
        return inspect_server(self._client)

    def close(self) -> None:
        self._client.close()
        self._interrupt.set()

    def _check_open(self) -> None:
        if self._client.closed:
            raise Closed

    def _queues(self) -> list[str]:
        names = self._client.command("SMEMBERS", self._keys.queues)
        return sorted(name.decode() for name in names)


def _tell_repeated(
    settlements: Sequence[Settlement],
) -> tuple[list[Settlement], list[Delivery]]:
    """Return the first settlement of each delivery, and the deliveries of the others."""
    first: dict[tuple[str, str], Settlement] = {}
    repeated: list[Delivery] = []
    for settlement in settlements:
        delivery = settlement.delivery
        key = delivery.message.id, delivery.token
        if key in first:
            repeated.append(delivery)
        else:
            first[key] = settlement
    return list(first.values()), repeated


def _slices(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _send_error(items: Sequence[Send], done: int, size: int, error: BrokerError) -> SendError:
    ids = [item.message.id for item in items]
    unknown = size if isinstance(error, OutcomeUnknown) else 0
    return SendError(
        f"{done} of {len(ids)} messages were certainly sent: {error}",
        sent=ids[:done],
        unknown=ids[done : done + unknown],
        unsent=ids[done + unknown :],
        refused=isinstance(error, ServerRefused),
    )
