"""The broker: every method is one short transaction, or a few bounded ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from taskq.clock import Seconds, from_microseconds, to_microseconds
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
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Release, Settlement
from taskq.errors import BrokerError, Closed, OutcomeUnknown, SendError, ServerRefused, TaskqError
from taskq_sql import moves
from taskq_sql.claim import Outlook, claim, look, promote, queues, reclaim
from taskq_sql.dialect import Locked
from taskq_sql.engine import Database, Session
from taskq_sql.results import CHUNK, store

_FIRST_PAUSE: Final[Seconds] = 0.002
_LONGEST_PAUSE: Final[Seconds] = 0.25
_PATIENCE: Final = 0.1
"""The pause before the next look, as a share of the time without work."""
_TURN: Final[Seconds] = 0.05
"""How long a claim waits for a lock before it looks whether it was interrupted."""


class SqlBroker(Broker):
    """One client of one namespace of a SQL database.

    A `reserve` that waits looks again after a tenth of the time it has been
    idle, between 2 and 250 ms; a change made in the same process wakes it at
    once. A look takes no lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._namespace = database.namespace
        self._interrupted = False
        self._worked = time.monotonic()
        self._latest_place = 0

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        self._database.ensure_open()
        deadline = time.monotonic() + timeout
        for start in range(0, len(items), CHUNK):
            work = partial(self._insert, items=items[start : start + CHUNK])
            try:
                self._database.transact(work, timeout=max(0.0, deadline - time.monotonic()))
            except Closed:
                raise
            except TaskqError as error:
                raise _unsent(error, [item.message.id for item in items], start) from error

    def _insert(self, session: Session, items: Iterable[Send]) -> None:
        # A clock that was set back must not put a message before an earlier one.
        place = self._latest_place = max(self._latest_place, session.now)
        rows = [moves.sent(item, session.now, place) for item in items]
        for row in rows:
            row["namespace"] = self._namespace
        session.run(session.sql.send, rows)

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        self._database.ensure_open()
        names = tuple(dict.fromkeys(queues))
        deadline = time.monotonic() + wait
        bell = self._database.bell
        while not self._interrupted:
            seen = bell.rung
            outlooks = self._database.read(lambda session: look(session, self._namespace, names))
            if limit > 0 and any(outlook.claimable for outlook in outlooks):
                deliveries = self._claim(outlooks, limit=limit, lease=lease)
                if deliveries:
                    self._worked = time.monotonic()
                    return deliveries
            left = deadline - time.monotonic()
            if left <= 0:
                break
            coming = min((outlook.next for outlook in outlooks), default=left)
            bell.wait(seen, max(0.0, min(left, self._pause(), max(coming, _FIRST_PAUSE))))
            self._database.ensure_open()
        return []

    def _pause(self) -> Seconds:
        idle = time.monotonic() - self._worked
        return min(max(_FIRST_PAUSE, idle * _PATIENCE), _LONGEST_PAUSE)

    def _claim(self, outlooks: Sequence[Outlook], *, limit: int, lease: Seconds) -> list[Delivery]:
        def work(session: Session) -> list[Delivery]:
            deliveries = claim(session, self._namespace, outlooks, limit=limit, lease=lease)
            if self._interrupted:
                raise _Interrupted
            return deliveries

        deadline = time.monotonic() + self._database.timeout
        while not self._interrupted:
            try:
                return self._database.transact(work, timeout=_TURN)
            except _Interrupted:
                break
            except Locked:
                if time.monotonic() >= deadline:
                    raise
        return []

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        return self._database.transact(partial(self._settle, settlements=settlements))

    def _settle(self, session: Session, settlements: Sequence[Settlement]) -> list[Delivery]:
        held = self._held(session, [settlement.delivery for settlement in settlements])
        lost: list[Delivery] = []
        done: list[int] = []
        moved: list[moves.Move] = []
        records: list[ResultRecord] = []
        successors: list[Send] = []
        for settlement in settlements:
            delivery = settlement.delivery
            seq = held.pop((delivery.message.id, delivery.token), None)
            if seq is None:
                lost.append(delivery)
            elif isinstance(settlement, Ack):
                done.append(seq)
                successors += settlement.send
            else:
                moved.append(moves.concluded(settlement, seq, session.now))
            if seq is not None and not isinstance(settlement, Release) and settlement.result:
                records.append(settlement.result)
        if done:
            session.run(session.sql.delete, {"array": session.array(done)})
        session.run(session.sql.move, moved)
        if records:
            store(session, self._namespace, records)
        if successors:
            self._insert(session, successors)
        return lost

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        def work(session: Session) -> Extension:
            held = self._held(session, deliveries)
            kept = [held.get((one.id, one.token)) for one in deliveries]
            lost = [one for one, seq in zip(deliveries, kept, strict=True) if seq is None]
            until = session.now + moves.micro(lease)
            array = session.array([seq for seq in kept if seq is not None])
            session.run(session.sql.extend, {"array": array, "until": until})
            return Extension(lost=lost, cancelled=[])

        return self._database.transact(work)

    def _held(self, session: Session, deliveries: Sequence[Delivery]) -> dict[tuple[str, str], int]:
        """Return the leases there are on these messages: rows by id and token."""
        array = session.array([delivery.message.id for delivery in deliveries])
        rows = session.rows(session.sql.select_held, {"namespace": self._namespace, "array": array})
        return {(id, token): seq for seq, id, token in rows}

    def interrupt(self) -> None:
        self._database.ensure_open()
        self._interrupted = True
        self._database.bell.ring()

    def poll_schedule(self, *, limit: int = 1000) -> int:
        return self._sweep(promote, limit)

    def recover_expired(self, *, limit: int = 1000) -> int:
        self._database.transact(self._forget_workers)
        return self._sweep(reclaim, limit)

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        def step(session: Session, namespace: str, queue: str, room: int) -> int:
            before = session.now - moves.micro(older_than)
            place = {"namespace": namespace, "queue": queue, "before": before, "limit": room}
            return session.run(session.sql.expire_dead, place)

        return self._sweep(step, limit)

    def _sweep(self, step: Callable[[Session, str, str, int], int], limit: int) -> int:
        def work(session: Session, queue: str, room: int) -> int:
            return step(session, self._namespace, queue, room)

        total = 0
        for queue in self._queues():
            room = min(limit - total, CHUNK)
            while room > 0:
                count = self._database.transact(partial(work, queue=queue, room=room))
                total += count
                room = min(limit - total, CHUNK) if count == room else 0
        return total

    def _queues(self) -> list[str]:
        return self._database.read(lambda session: list(queues(session, self._namespace)))

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        def work(session: Session) -> None:
            self._forget_workers(session)
            row: moves.Move = {
                "namespace": self._namespace,
                "worker": beat.worker,
                "incarnation": beat.incarnation,
            }
            if ttl <= 0:
                session.run(session.sql.unlist, row)
                return
            row |= {
                "expires": session.now + moves.micro(ttl),
                "beat": msgspec.json.encode(beat),
            }
            session.run(session.sql.beat, row)

        self._database.transact(work)
        return []

    def _forget_workers(self, session: Session) -> None:
        parameters = {"namespace": self._namespace, "now": session.now}
        session.run(session.sql.forget_workers, parameters)

    def list_alive_workers(self) -> list[Heartbeat]:
        def work(session: Session) -> list[Heartbeat]:
            parameters = {"namespace": self._namespace, "now": session.now}
            found = session.rows(session.sql.select_workers, parameters)
            return [msgspec.json.decode(beat, type=Heartbeat) for (beat,) in found]

        return self._database.read(work)

    def stats(self) -> list[QueueStats]:
        return self._database.read(self._stats)

    def _stats(self, session: Session) -> list[QueueStats]:
        counts: dict[str, dict[State, int]] = {}
        for queue, number, count in session.rows(session.sql.count, {"namespace": self._namespace}):
            counts.setdefault(queue, {})[moves.STATES[number]] = count
        return [
            QueueStats(
                queue,
                ready=states.get(State.READY, 0),
                scheduled=states.get(State.SCHEDULED, 0),
                processing=states.get(State.PROCESSING, 0),
                dead=states.get(State.DEAD, 0),
                oldest_ready=self._oldest(session, queue),
            )
            for queue, states in counts.items()
        ]

    def _oldest(self, session: Session, queue: str) -> Seconds | None:
        place = {"namespace": self._namespace, "queue": queue}
        for (sent,) in session.rows(session.sql.oldest_ready, place):
            return from_microseconds(max(0, session.now - sent))
        return None

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        def work(session: Session) -> dict[str, State]:
            parameters = {"namespace": self._namespace, "array": session.array(list(ids))}
            found = session.rows(session.sql.locate, parameters)
            return {id: moves.STATES[number] for id, number in found}

        return self._database.read(work)

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        place = {
            "namespace": self._namespace,
            "queue": queue,
            "died": 0 if after is None else to_microseconds(after.died),
            "id": "" if after is None else after.message.id,
            "limit": limit,
        }
        return self._database.read(
            lambda session: [
                _dead_letter(queue, row) for row in session.rows(session.sql.select_dead, place)
            ]
        )

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        def work(session: Session) -> int:
            parameters = {
                "namespace": self._namespace,
                "queue": queue,
                "array": session.array(list(ids)),
                "now": session.now,
            }
            session.run(session.sql.requeue_results, parameters)
            return session.run(session.sql.requeue, parameters)

        return self._database.transact(work)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        if ids is None:
            return self._purge(queue, State.DEAD)

        def work(session: Session) -> int:
            array = session.array(list(ids))
            parameters = {"namespace": self._namespace, "queue": queue, "array": array}
            return session.run(session.sql.purge_dead, parameters)

        return self._database.transact(work)

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            shown = ", ".join(sorted(states - WAITING))
            raise ValueError(f"purge removes scheduled and ready messages only, not {shown}")
        self._database.ensure_open()
        return sum(self._purge(queue, state) for state in sorted(states))

    def _purge(self, queue: str, state: State) -> int:
        place = {
            "namespace": self._namespace,
            "queue": queue,
            "state": moves.NUMBERS[state],
            "limit": CHUNK,
        }
        total, count = 0, CHUNK
        while count == CHUNK:
            count = self._database.transact(lambda session: session.run(session.sql.purge, place))
            total += count
        return total

    def check(self) -> list[str]:
        return self._database.check()

    def close(self) -> None:
        self._database.close()


def _unsent(error: TaskqError, ids: Sequence[str], start: int) -> SendError:
    """Sort a failed batch's ids, of which those from `start` on were in the failed step."""
    end = start + CHUNK if isinstance(error, OutcomeUnknown) else start
    return SendError(
        f"{len(ids) - start} of {len(ids)} messages were not sent: {error}",
        sent=ids[:start],
        unknown=ids[start:end],
        unsent=ids[end:],
        refused=isinstance(error, ServerRefused) or not isinstance(error, BrokerError),
    )


def _dead_letter(queue: str, row: Sequence[Any]) -> DeadLetter:
    id, envelope, priority, max_deliveries, code, detail, died, *counters = row
    return DeadLetter(
        Message(id, queue, envelope, priority, max_deliveries),
        code,
        detail.decode("utf-8", "surrogatepass"),
        from_microseconds(died),
        *counters,
    )


class _Interrupted(Exception):
    """Rolls back a claim that `interrupt` has overtaken."""
