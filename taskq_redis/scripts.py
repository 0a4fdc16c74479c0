"""The server's scripts: their text, and one typed stub for each.

A script is the prelude `common.lua`, the parts it shares with others, and its
own file, joined when this module is imported. What each expects and returns
stands at the top of its file.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from taskq.clock import Clock, Seconds, from_microseconds, to_microseconds
from taskq.contract.delivery import DeadLetter, Delivery, QueueStats, State
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq_redis.connection import Argument, Interrupt
from taskq_redis.keys import Keys
from taskq_redis.records import (
    member,
    pack_reason,
    pack_result,
    pack_send,
    read_deliveries,
    read_letters,
    read_result,
    span,
)

if TYPE_CHECKING:
    from taskq_redis.client import Client

Step: TypeAlias = Literal["promote", "reclaim", "expire"]


class Script(NamedTuple):
    """A Lua script, and the name under which a server remembers it."""

    body: str
    sha: str


def _load(name: str, *shared: str) -> Script:
    folder = resources.files(__package__).joinpath("lua")
    files = ("common", *shared, name)
    body = "\n".join(folder.joinpath(f"{file}.lua").read_text("utf-8") for file in files)
    return Script(body, hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest())


SEND: Final = _load("send", "accept")
CLAIM: Final = _load("claim", "move")
SETTLE: Final = _load("settle", "accept", "keep", "hold")
EXTEND: Final = _load("extend", "hold")
MAINTAIN: Final = _load("maintain", "move")
PURGE: Final = _load("purge")
LETTERS: Final = _load("letters")
UNBURY: Final = _load("unbury")
STATS: Final = _load("stats")
QUEUES: Final = _load("queues")
LOCATE: Final = _load("locate")
STORE: Final = _load("store", "keep")
FETCH: Final = _load("fetch")
BEAT: Final = _load("beat")
WORKERS: Final = _load("workers")


class Scripts:
    """The scripts as methods, over one namespace. Raises as `Client.run` does."""

    def __init__(self, client: Client, keys: Keys, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock

    def send(self, items: Sequence[Send], *, deadline: float) -> None:
        """Accept messages; those whose id is taken are skipped."""
        queues: dict[str, int] = {}
        arguments: list[Argument] = [len(items)]
        for item in items:
            queue = queues.setdefault(item.message.queue, len(queues))
            arguments += pack_send(item, queue)
        extra = [self._keys.result(item.message.id) for item in items]
        self._run(SEND, queues, arguments, extra=extra, deadline=deadline)

    def claim(
        self, queues: Sequence[str], *, limit: int, lease: Seconds, interrupt: Interrupt
    ) -> tuple[list[Delivery], Seconds | None]:
        """Return what was claimed, and how long until the server knows of more."""
        token, microseconds = secrets.token_hex(8), span(lease)
        answer = self._run(CLAIM, queues, (limit, microseconds, token), interrupt=interrupt)
        if len(answer) == 2:
            return [], from_microseconds(answer[1]) if answer[1] >= 0 else None
        return read_deliveries(answer, lease=microseconds, token=token), 0.0

    def settle(self, settlements: Sequence[Settlement], *, deadline: float) -> list[int]:
        """Return the positions of those whose lease was lost."""
        batch = _Batch(self._keys)
        for settlement in settlements:
            batch.add(settlement)
        arguments = (len(settlements), *batch.leases, *batch.carried)
        lost: list[int] = self._run(
            SETTLE, batch.queues, arguments, extra=batch.result_keys, deadline=deadline
        )
        return lost

    def extend(
        self, deliveries: Sequence[Delivery], *, lease: Seconds, deadline: float
    ) -> list[int]:
        """Return the positions of those that were lost."""
        queues: dict[str, int] = {}
        arguments: list[Argument] = [len(deliveries), span(lease)]
        for delivery in deliveries:
            queue = queues.setdefault(delivery.message.queue, len(queues))
            arguments += ("", queue, member(delivery))
        lost: list[int] = self._run(EXTEND, queues, arguments, deadline=deadline)
        return lost

    def maintain(self, step: Step, queues: Sequence[str], limit: int, *, age: Seconds = 0.0) -> int:
        """Move, or drop, up to `limit` messages of these queues; return how many."""
        return int(self._run(MAINTAIN, queues, (step, limit, span(age))))

    def purge(self, queue: str, state: State, limit: int) -> int:
        """Drop up to `limit` messages in this state; return how many."""
        return int(self._run(PURGE, (queue,), (state, limit)))

    def letters(self, queue: str, limit: int, after: DeadLetter | None) -> list[DeadLetter]:
        """Return a page of dead letters."""
        start: tuple[Argument, ...] = ("", "")
        if after is not None:
            start = to_microseconds(after.died), after.message.id
        return read_letters(self._run(LETTERS, (queue,), (limit, *start)))

    def unbury(self, queue: str, action: Literal["requeue", "drop"], ids: Sequence[str]) -> int:
        """Requeue or drop dead letters; return how many there were."""
        extra = [self._keys.result(id) for id in ids]
        return int(self._run(UNBURY, (queue,), (action, *ids), extra=extra))

    def stats(self, queues: Sequence[str]) -> list[QueueStats]:
        """Return the counts of these queues, in their order."""
        return [
            QueueStats(
                name,
                ready,
                scheduled,
                processing,
                dead,
                from_microseconds(age) if age >= 0 else None,
            )
            for name, (ready, scheduled, processing, dead, age) in zip(
                queues, self._run(STATS, queues, ()), strict=True
            )
        ]

    def queues_of(self, ids: Sequence[str]) -> list[str | None]:
        """Return the queue of each message, None for those that do not exist."""
        arguments: list[Argument] = [self._offset(), 0, *ids]
        names = self._client.run(QUEUES, (self._keys.messages,), arguments)
        return [None if name is None else name.decode() for name in names]

    def locate(self, queue: str, ids: Sequence[str]) -> list[State | None]:
        """Return the state of each message, None for those the queue does not have."""
        answer = self._run(LOCATE, (queue,), ids)
        return [None if state is None else State(state.decode()) for state in answer]

    def store(self, records: Sequence[ResultRecord], *, deadline: float) -> None:
        """Keep results; those whose id has one of a higher run are ignored."""
        keys = [self._keys.result(record.id) for record in records]
        arguments: list[Argument] = [self._offset(), 0]
        for record in records:
            arguments += pack_result(record)
        self._client.run(STORE, keys, arguments, deadline=deadline)

    def fetch(self, ids: Sequence[str], *, deadline: float) -> dict[str, ResultRecord]:
        """Return the results there are."""
        keys = [self._keys.result(id) for id in ids]
        now, values = self._client.run(FETCH, keys, (self._offset(),), deadline=deadline)
        found = {
            id: read_result(id, value, now)
            for id, value in zip(ids, values, strict=True)
            if value is not None
        }
        return {id: record for id, record in found.items() if record is not None}

    def beat(self, incarnation: str, ttl: Seconds, beat: bytes) -> None:
        """List a worker, or take it off with a `ttl` of 0."""
        arguments = (self._offset(), 0, incarnation, span(ttl), beat)
        self._client.run(BEAT, (self._keys.workers, self._keys.beats), arguments)

    def workers(self) -> list[bytes]:
        """Return the last heartbeat of each live worker."""
        keys = (self._keys.workers, self._keys.beats)
        answer: list[bytes | None] = self._client.run(WORKERS, keys, (self._offset(),))
        return [beat for beat in answer if beat is not None]

    def _run(
        self,
        script: Script,
        queues: Collection[str],
        arguments: Sequence[Argument],
        *,
        extra: Sequence[str] = (),
        deadline: float | None = None,
        interrupt: Interrupt | None = None,
    ) -> Any:
        keys = list(self._keys.fixed)
        for queue in queues:
            keys += self._keys.queue(queue)
        keys += extra
        every = (self._offset(), len(queues), *queues, *arguments)
        return self._client.run(script, keys, every, deadline=deadline, interrupt=interrupt)

    def _offset(self) -> int:
        return to_microseconds(self._clock.offset)


class _Batch:
    """The arguments of `settle`, as its file describes them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.queues: dict[str, int] = {}
        self.leases: list[Argument] = []
        self.carried: list[Argument] = []
        self.result_keys: list[str] = []

    def add(self, settlement: Settlement) -> None:
        delivery = settlement.delivery
        queue = self._queue(delivery.message.queue)
        self.leases += (self._carry(settlement), queue, member(delivery))

    def _carry(self, settlement: Settlement) -> str:
        """Add what a settlement brings along; return its kind."""
        match settlement:
            case Ack(result=None, send=()):
                return "k"
            case Ack(result=result, send=successors):
                self._add_result(result)
                self.carried.append(len(successors))
                for item in successors:
                    self.carried += pack_send(item, self._queue(item.message.queue))
                    self.result_keys.append(self._keys.result(item.message.id))
                return "a"
            case Retry(delay=delay, envelope=envelope, result=result):
                self._add_result(result)
                self.carried += (span(delay), 0) if envelope is None else (span(delay), 1, envelope)
                return "r"
            case Release(delay=delay):
                self.carried.append(span(delay))
                return "l"
            case Dead(code=code, detail=detail, result=result):
                self._add_result(result)
                self.carried.append(pack_reason(code, detail))
                return "d"

    def _add_result(self, record: ResultRecord | None) -> None:
        if record is None:
            self.carried.append(0)
        else:
            self.carried += (1, *pack_result(record))
            self.result_keys.append(self._keys.result(record.id))

    def _queue(self, name: str) -> int:
        return self.queues.setdefault(name, len(self.queues))
