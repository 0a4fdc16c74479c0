"""The broker: every method is one short transaction, or a few bounded ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
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
from taskq.contract.settlement import Settlement
from taskq.errors import BrokerError, Closed, OutcomeUnknown, SendError, ServerRefused, TaskqError
from taskq_sql import moves
from taskq_sql.claim import Claim, Outlook, claim, claim_on, look, promote, queues, reclaim
from taskq_sql.conclude import Acks, SomeLost, acknowledge, conclude, insert, leases
from taskq_sql.dialects import Locked
from taskq_sql.engine import Database, after
from taskq_sql.listener import ECHO
from taskq_sql.reach import Reach
from taskq_sql.results import CHUNK
from taskq_sql.session import Session

_FIRST_PAUSE: Final[Seconds] = 0.002
_LONGEST_PAUSE: Final[Seconds] = 0.25
_PATIENCE: Final = 0.1
"""The pause before the next look, as a share of the time without work."""
_BUSY: Final[Seconds] = 0.02
"""A claim that pauses for longer asks to be woken by other processes, which costs a connection."""
_TURN: Final[Seconds] = 0.05
"""How long a claim waits for a lock before it looks whether it was interrupted."""


class SqlBroker(Broker):
    """One client of one namespace of a SQL database.

    A `reserve` that waits looks again after a tenth of the time it has been
    idle, between 2 and 250 ms; a change made in the same process wakes it at
    once, and one made in another does where the database can tell of it (see
    `taskq_sql.listener`). A look takes no lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._namespace = database.namespace
        self._interrupted = False
        self._worked = time.monotonic()
        self._latest_place = 0
        self._reached: dict[str, Reach] = {}

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

    def _insert(self, session: Session, items: Sequence[Send]) -> None:
        # A clock that was set back must not put a message before an earlier one.
        place = self._latest_place = max(self._latest_place, session.now)
        insert(session, self._namespace, items, place)

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        self._database.ensure_open()
        names = tuple(dict.fromkeys(queues))
        deadline = time.monotonic() + wait
        bell = self._database.bell
        while not self._interrupted:
            deliveries = self._claim_on(names, limit=limit, lease=lease)
            if deliveries:
                return deliveries
            seen = bell.rung
            outlooks = self._database.read(lambda session: look(session, self._namespace, names))
            if limit > 0 and any(outlook.claimable for outlook in outlooks):
                deliveries = self._claim(outlooks, limit=limit, lease=lease)
                if deliveries:
                    return deliveries
            left = deadline - time.monotonic()
            if left <= 0:
                break
            coming = min((outlook.next for outlook in outlooks), default=left)
            pause = self._pause()
            if pause > _BUSY:
                self._database.listen()
            bell.wait(seen, max(0.0, min(left, pause, max(coming, _FIRST_PAUSE))))
        return []

    def _pause(self) -> Seconds:
        idle = time.monotonic() - self._worked
        pause = min(max(_FIRST_PAUSE, idle * _PATIENCE), _LONGEST_PAUSE)
        return min(pause, ECHO) if self._database.echoes else pause

    def _claim_on(self, queues: Sequence[str], *, limit: int, lease: Seconds) -> list[Delivery]:
        """Claim as the last claim from the first queue did, if it was just now and left more."""
        reach = self._reached.pop(queues[0], None) if queues and limit > 0 else None
        if reach is None or not reach.lasts(self._database.offset):
            return []
        step = partial(claim_on, queue=queues[0], reach=reach, limit=limit, lease=lease)
        return self._try_claim(step)

    def _claim(self, outlooks: Sequence[Outlook], *, limit: int, lease: Seconds) -> list[Delivery]:
        return self._try_claim(partial(claim, outlooks=outlooks, limit=limit, lease=lease))

    def _try_claim(self, step: Callable[[Session, str], Claim | None]) -> list[Delivery]:
        def work(session: Session) -> Claim:
            claimed = step(session, self._namespace)
            if claimed is None or self._interrupted:
                raise _Undone
            return claimed

        deadline = time.monotonic() + self._database.timeout
        while not self._interrupted:
            try:
                claimed = self._database.transact(work, turn=_TURN)
            except _Undone:
                break
            except Locked:
                if time.monotonic() >= deadline:
                    raise
            else:
                self._reached |= claimed.reached
                if claimed.deliveries:
                    self._worked = time.monotonic()
                return claimed.deliveries
        return []

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        acks = Acks.of(settlements)
        if acks is not None:
            with contextlib.suppress(SomeLost):
                return self._database.transact(
                    lambda session: acknowledge(session, self._namespace, acks)
                )
        return self._database.transact(
            lambda session: conclude(session, self._namespace, settlements, self._insert)
        )

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        def work(session: Session) -> Extension:
            held = leases(session, self._namespace, deliveries)
            kept = [held.get((one.id, one.token)) for one in deliveries]
            lost = [one for one, seq in zip(deliveries, kept, strict=True) if seq is None]
            until = session.now + moves.micro(lease)
            rows = [(seq,) for seq in kept if seq is not None]
            session.change(session.sql.extend, rows, until=until)
            return Extension(lost=lost, cancelled=[])

        return self._database.transact(work)

    def interrupt(self) -> None:
        self._database.ensure_open()
        self._interrupted = True
        self._database.bell.ring()

    def poll_schedule(self, *, limit: int = 1000) -> int:
        return self._sweep(promote, limit)

    def recover_expired(self, *, limit: int = 1000) -> int:
        # Not with every heartbeat: it reads the rows of all workers.
        self._database.transact(self._forget_workers)
        return self._sweep(reclaim, limit)

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        def step(session: Session, namespace: str, queue: str, room: int) -> int:
            before = session.now - moves.micro(older_than)
            place = {"namespace": namespace, "queue": queue, "before": before, "limit": room}
            old = session.rows(session.sql.select_old_dead, place)
            return session.change(session.sql.delete, old)

        return self._sweep(step, limit)

    def _sweep(self, step: Callable[[Session, str, str, int], int], limit: int) -> int:
        def work(session: Session, queue: str, room: int) -> int:
            return step(session, self._namespace, queue, room)

        total = 0
        for queue in self._queues():
            room = min(limit - total, CHUNK)
            while room > 0:
                with after(total):
                    count = self._database.transact(partial(work, queue=queue, room=room))
                total += count
                room = min(limit - total, CHUNK) if count == room else 0
        return total

    def _queues(self) -> list[str]:
        return self._database.read(lambda session: list(queues(session, self._namespace)))

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        def work(session: Session) -> None:
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
            dead = self._dead(session, queue, ids)
            if dead:
                session.woken = True
                array = session.array([id for _, id in dead])
                session.run(session.sql.forget, {"namespace": self._namespace, "array": array})
            return session.change(session.sql.requeue, dead, now=session.now)

        return self._database.transact(work)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        if ids is None:
            return self._purge(queue, State.DEAD)

        def work(session: Session) -> int:
            return session.change(session.sql.delete, self._dead(session, queue, ids))

        return self._database.transact(work)

    def _dead(self, session: Session, queue: str, ids: Sequence[str]) -> Sequence[tuple[int, str]]:
        """Return those of these ids that are dead letters of the queue: row and id."""
        array = session.array(list(ids))
        place = {"namespace": self._namespace, "queue": queue, "array": array}
        return session.rows(session.sql.select_dead_ids, place)

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            shown = ", ".join(sorted(states - WAITING))
            raise ValueError(f"purge removes scheduled and ready messages only, not {shown}")
        self._database.ensure_open()
        return self._purge(queue, *sorted(states))

    def _purge(self, queue: str, *states: State) -> int:
        total = 0
        for state in states:
            place = {
                "namespace": self._namespace,
                "queue": queue,
                "state": moves.NUMBERS[state],
                "limit": CHUNK,
            }
            step = partial(_drop, place=place)
            count = CHUNK
            # Not until one falls short: others may have taken some of those it had in view.
            while count > 0:
                with after(total):
                    count = self._database.transact(step)
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


def _drop(session: Session, place: moves.Move) -> int:
    return session.change(session.sql.delete, session.rows(session.sql.select_waiting, place))


def _dead_letter(queue: str, row: Sequence[Any]) -> DeadLetter:
    id, envelope, priority, max_deliveries, code, detail, died, *counters = row
    return DeadLetter(
        Message(id, queue, envelope, priority, max_deliveries),
        code,
        detail.decode("utf-8", "surrogatepass"),
        from_microseconds(died),
        *counters,
    )


class _Undone(Exception):
    """Rolls back a claim that `interrupt` has overtaken, or that is better made otherwise."""
