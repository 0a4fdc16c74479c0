"""What was made on the server for which queue, as all clients of a namespace know it.

AMQP cannot list queues. So whoever makes one writes into a stream what it is. A
queue's messages can be counted exactly and at once, a stream's cannot; so there
are two queues besides, of messages that nobody reads:

    1. a message into `begun`        it is about to be entered
    2. an entry into `catalog`
    3. a message into `version`      it was
    4. only then the first message is sent there

Who meets a `version` that he does not know reads on in the stream: until he knows
as many entries as were `begun`, or, since somebody may be between 1 and 2, or have
died there, up to a mark of his own that he appends. Who finds an entry of which he
cannot be sure that it has come to 3 enters the same once more before he sends there.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from pika import spec

from taskq.clock import Seconds
from taskq.errors import ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq.ids import new_id
from taskq_amqp.journal import Journal, Line, start
from taskq_amqp.names import (
    FLEETING,
    LASTING,
    STEPS,
    STREAM,
    WAKING,
    Names,
    arrival,
    arrivals,
    pattern,
)
from taskq_amqp.transport.channel import Channel, Sink
from taskq_amqp.transport.lines import Lines, refused_as_missing
from taskq_amqp.transport.publisher import Parcel

PATIENCE: Final[Seconds] = 0.02
"""How long an entry that was begun may fail to come, until a mark shall tell."""
MARK: Final = b"mark "
SETTLING: Final[Seconds] = 0.1
"""How long an entry takes at most, unless whoever makes it has died or is stopped."""
REREAD: Final[Seconds] = 60.0
"""So often it is read on anyway: whatever operators delete, nothing is overlooked for longer."""
READY: Final = "ready"
ARRIVAL: Final = "arrival"
LATER: Final = "later"
DEAD: Final = "dead"
LEASE: Final = "lease"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What there is for one queue."""

    levels: tuple[int, ...] = ()
    """Of its queues of ready messages, the most urgent first."""
    arrivals: tuple[int, ...] = ()
    """Those of them at which delayed messages arrive."""
    steps: tuple[int, ...] = ()
    """Of its queues of delayed messages, the longest first."""
    dead: bool = False


class Catalog:
    """One client's knowledge of the catalog. Thread-safe."""

    def __init__(self, lines: Lines, names: Names) -> None:
        self._lines = lines
        self._names = names
        self._lock = threading.RLock()
        self.places: dict[str, Place] = {}
        self.owners: set[str] = set()
        """The clients that have, or had, a queue for long leases."""
        self.version = -1
        """All is known of when it was so."""
        self._reread = 0.0
        self._known = 0
        """So many entries were read."""
        self._next = 0
        """Where in the stream to read on."""
        self._settled_at = -1
        """So many entries were known when all were known to be entered to the end."""
        self._trusting = True
        """Nothing has been found missing that was entered."""
        self._made: set[tuple[str, int, str]] = set()
        """What this client has made, or seen to be there."""

    @property
    def queues(self) -> list[str]:
        return sorted(self.places)

    def place(self, queue: str) -> Place:
        return self.places.get(queue) or Place()

    # -- Making

    def need(self, kind: str, number: int, queue: str, deadline: float) -> None:
        """Make sure that a queue of the server is there for a queue of ours."""
        if (kind, number, queue) in self._made:
            return
        with self._lock:
            if (kind, number, queue) in self._made:
                return
            if not (self._trusting and self._has(kind, number, queue)):
                self.refresh(deadline)
            known = self._has(kind, number, queue) and self._settled(deadline)
            if not (known and self._trusting):
                self._make(kind, number, queue, deadline)
            if not known:
                self._enter(f"{kind} {number} {queue}", deadline)
                self._note(kind, number, queue)
            self._made.add((kind, number, queue))

    def _make(self, kind: str, number: int, queue: str, deadline: float) -> None:
        names = self._names
        match kind:
            case "ready":
                self._declare(names.ready(queue, number), LASTING, deadline)
                self._declare(names.wake(queue), WAKING, deadline)
            case "arrival":
                self._make_steps(deadline)
                ready, wake = names.ready(queue, number), names.wake(queue)
                self._call(
                    spec.Queue.Bind(0, ready, names.due, arrival(number, queue)),
                    spec.Queue.Bind(0, wake, names.due, arrivals(queue)),
                    deadline=deadline,
                )
            case "later":
                self._make_step(number, queue, deadline)
            case "dead":
                self._declare(names.dead(queue), LASTING, deadline)
            case "lease":
                self._declare(names.lease(queue), LASTING, deadline)

    def arrive(self, level: int, queue: str, deadline: float) -> None:
        """Make sure that what was delayed arrives at a queue of ready messages."""
        if (ARRIVAL, level, queue) not in self._made:
            self.need(READY, level, queue, deadline)
            self.need(ARRIVAL, level, queue, deadline)

    def remake(self, queue: str, deadline: float) -> None:
        """Make anew what there ought to be for a queue, since some of it is missing."""
        self.forget_made()
        self.refresh(deadline)
        place = self.place(queue)
        for level in place.levels:
            self.need(READY, level, queue, deadline)
        for level in place.arrivals:
            self.need(ARRIVAL, level, queue, deadline)
        for step in place.steps:
            self.need(LATER, step, queue, deadline)
        if place.dead:
            self.need(DEAD, 0, queue, deadline)

    def forget_made(self) -> None:
        """Trust nothing: something that was made is not there any more."""
        with self._lock:
            self._trusting = False
            self._made.clear()

    def _make_steps(self, deadline: float) -> None:
        if ("steps", 0, "") in self._made:
            return
        names = self._names
        self._exchange(names.due, "topic", deadline)
        for step in range(STEPS):
            self._exchange(names.step(step), "topic", deadline)
            key = pattern(step, 0, "#")
            self._call(
                spec.Exchange.Bind(0, names.step(step - 1), names.step(step), key),
                deadline=deadline,
            )
        self._made.add(("steps", 0, ""))

    def _make_step(self, step: int, queue: str, deadline: float) -> None:
        self._make_steps(deadline)
        names = self._names
        self._declare(names.later(queue, step), names.later_arguments(step), deadline)
        key = pattern(step, 1, f"*.{queue}")
        self._call(
            spec.Queue.Bind(0, names.later(queue, step), names.step(step), key),
            deadline=deadline,
        )

    def _exchange(self, name: str, kind: str, deadline: float) -> None:
        self._call(spec.Exchange.Declare(0, name, kind, durable=True), deadline=deadline)

    def _declare(self, name: str, arguments: dict[str, Any], deadline: float) -> None:
        method = spec.Queue.Declare(0, name, durable=True, arguments=arguments)
        self._call(method, deadline=deadline)

    def _call(self, *methods: Any, deadline: float) -> list[Any]:
        try:
            return self._lines.asking(deadline).call(*methods, deadline=deadline)
        except ServerRefused as error:
            if f"({spec.PRECONDITION_FAILED})" in str(error):
                raise ServerRefused(
                    f"{error}; something of this name was made by somebody else: "
                    "delete it, or choose another namespace"
                ) from error
            raise

    def _enter(self, entry: str, deadline: float) -> None:
        """Tell all others; see the steps above."""
        names = self._names
        publisher = self._lines.publisher(deadline)
        for to in (names.begun, names.catalog, names.version):
            publisher.publish([Parcel("", to, entry.encode())], deadline).check()

    def _settled(self, deadline: float) -> bool:
        """Say whether all that is known was entered to the end; if it stays so, mend it."""
        if self._settled_at == self._known:
            return True
        until = min(time.monotonic() + SETTLING, deadline)
        while True:
            # In this order: if they are equal, nothing was between 1 and 3 at the first count.
            version = self._messages(self._names.version, deadline)
            missing = self._begun(deadline) - version
            if missing == 0:
                self._settled_at = self._known
                return True
            if missing < 0:
                return False
            if time.monotonic() > until:
                break
            time.sleep(PATIENCE)
        self._mend(self._names.version, missing, deadline)
        return False

    # -- Reading

    def begin(self, deadline: float) -> None:
        """Make sure that what every namespace has is there."""
        if self.version < 0:
            self.refresh(deadline)

    def refresh(self, deadline: float) -> None:
        """Learn what is new."""
        with self._lock:
            self.catch_up(self._count(deadline), deadline)

    def _count(self, deadline: float) -> int:
        try:
            return self._messages(self._names.version, deadline)
        except ServerRefused as error:
            if not refused_as_missing(error):
                raise
        # A new namespace, or a server that was reset.
        with self._lock:
            self.places.clear()
            self.owners.clear()
            self._made.clear()
            self.version, self._known, self._next, self._settled_at = -1, 0, 0, -1
        self.rebuild(deadline)
        return self._messages(self._names.version, deadline)

    def _begun(self, deadline: float) -> int:
        try:
            return self._messages(self._names.begun, deadline)
        except ServerRefused as error:
            if not refused_as_missing(error):
                raise
        self.rebuild(deadline)
        return self._messages(self._names.begun, deadline)

    def _messages(self, name: str, deadline: float) -> int:
        question = spec.Queue.Declare(0, name, passive=True)
        count: int = self._call(question, deadline=deadline)[0].message_count
        return count

    def rebuild(self, deadline: float) -> None:
        """Make what every namespace has; where the last of it is, all is."""
        names = self._names
        self._declare(names.catalog, STREAM, deadline)
        self._declare(names.workers, FLEETING, deadline)
        self._declare(names.holders, LASTING, deadline)
        self._declare(names.letters, LASTING, deadline)
        self._exchange(names.ask, "fanout", deadline)
        self._declare(names.begun, LASTING, deadline)
        self._declare(names.version, LASTING, deadline)

    def catch_up(self, version: int, deadline: float) -> None:
        """Read what led to a version, if it is new."""
        if self._current(version):
            return
        with self._lock:
            if not self._current(version):
                self._reread = time.monotonic() + REREAD
                self.version = version if self._read_on(version, deadline) else -1

    def _current(self, version: int) -> bool:
        return version == self.version and time.monotonic() < self._reread

    def _read_on(self, version: int, deadline: float) -> bool:
        """Read all that was entered before; say whether that is certain."""
        begun = self._begun(deadline)
        # Somebody may have deleted the queue.
        sound = begun >= max(version, self._known)
        connection = self._lines.consumer(deadline)
        with Journal(connection, self._names.catalog, self._next, deadline) as journal:
            while self._known < begun:
                lines = journal.read(PATIENCE)
                if not lines:
                    break
                self._learn(lines)
            if sound and self._known == begun:
                return True
            certain = self._read_to_mark(journal, deadline)
        if certain and not sound:
            self._mend(self._names.begun, self._known - begun, deadline)
        return certain

    def _mend(self, name: str, missing: int, deadline: float) -> None:
        """Put messages into a queue that somebody did not, or that were deleted with it."""
        parcels = [Parcel("", name, b"mended")] * max(missing, 0)
        self._lines.publisher(deadline).publish(parcels, deadline).check()

    def _read_to_mark(self, journal: Journal, deadline: float) -> bool:
        mark = MARK + new_id().encode()
        try:
            publisher = self._lines.publisher(deadline)
            publisher.publish([Parcel("", self._names.catalog, mark)], deadline).check()
        except ConnectionFailed:
            # A server that takes no messages now. Nobody enters anything either.
            return False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutcomeUnknown("the server did not tell its queues in time")
            if mark in self._learn(journal.read(left)):
                return True

    def watch(self, channel: Channel, tag: bytes, sink: Sink, deadline: float) -> None:
        """Have entries pushed to a sink that this client has not read yet."""
        channel.sinks[tag] = sink
        start(channel, self._names.catalog, tag, self._next, deadline)

    def _learn(self, lines: Sequence[Line]) -> list[bytes]:
        """Take in what was read; return it."""
        for line in lines:
            if line.offset < self._next:
                continue
            self._next = line.offset + 1
            if not line.body.startswith(MARK):
                kind, number, queue = line.body.decode().split(" ", 2)
                self._note(kind, int(number), queue)
                self._known += 1
        return [line.body for line in lines]

    def _has(self, kind: str, number: int, queue: str) -> bool:
        place = self.place(queue)
        match kind:
            case "lease":
                return queue in self.owners
            case "ready":
                return number in place.levels
            case "arrival":
                return number in place.arrivals
            case "later":
                return number in place.steps
        return place.dead

    def _note(self, kind: str, number: int, queue: str) -> None:
        if kind == LEASE:
            self.owners.add(queue)
            return
        old = self.place(queue)
        # A new value, since others read without the lock.
        match kind:
            case "ready":
                new = dataclasses.replace(old, levels=_with(old.levels, number))
            case "arrival":
                new = dataclasses.replace(old, arrivals=_with(old.arrivals, number))
            case "later":
                new = dataclasses.replace(old, steps=_with(old.steps, number))
            case _:
                new = dataclasses.replace(old, dead=True)
        self.places[queue] = new


def _with(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Return them with one more, the highest first."""
    return tuple(sorted({*numbers, number}, reverse=True))
