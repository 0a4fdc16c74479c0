"""What a sandbox is made of: its clock, its store, and what it tells of tasks."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from taskq.app.application import TaskQ
from taskq.app.signature import Signature, call_text
from taskq.clock import Clock, Seconds, Timestamp, VirtualClock, from_microseconds, to_microseconds
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Ack, Dead, Retry
from taskq.errors import DecodeError, TaskError
from taskq.memory.broker import MemoryBroker
from taskq.memory.results import MemoryResults
from taskq.memory.server import Entry, MemoryServer
from taskq.plugins import PluginInfo, hookimpl
from taskq.testing.stepper import Ran
from taskq.url import Url
from taskq.wire import envelope as wire
from taskq.wire.envelope import Envelope
from taskq.wire.outcome import Status
from taskq.worker.eager import EagerResult

SCHEME: Final = "sandbox"
UNKNOWN: Final = "unknown_task"
"""The code of a dead letter whose task is defined in another program."""


class SandboxClock(VirtualClock):
    """Stands still where it was moved to, exactly: instants can be compared with `==`."""

    def __init__(self) -> None:
        super().__init__(frozen=True)
        self._start = self._now = _whole(time.time())

    def now(self) -> Timestamp:
        return self._now

    def advance(self, seconds: Seconds) -> None:
        super().advance(seconds)
        self.move_to(self.after(seconds))

    def after(self, seconds: Seconds) -> Timestamp:
        """Return the instant so long from now, in whole microseconds, so that sums are exact."""
        return from_microseconds(to_microseconds(self._now) + to_microseconds(seconds))

    def until(self, instant: Timestamp) -> Seconds:
        """Return how long it is until then, the inverse of `after`."""
        return from_microseconds(to_microseconds(instant) - to_microseconds(self._now))

    def move_to(self, instant: Timestamp) -> None:
        """Let it be that instant."""
        self._now = instant
        self.offset = instant - self._start


class Store(MemoryServer):
    """The memory backend's, in whole microseconds; it notes what it has accepted.

    What is due at the same instant is so by whatever sums of delays it came there.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.accepted: list[tuple[Timestamp, Send]] = []

    def accept(self, item: Send) -> bool:
        now = self.clock.now()
        expires = item.expires if item.ttl is None else now + item.ttl
        if expires is not None:
            expires = _whole(expires)
        if not super().accept(msgspec.structs.replace(item, ttl=None, expires=expires)):
            return False
        self.accepted.append((now, item))
        return True

    def place(self, entry: Entry, due: Timestamp) -> None:
        super().place(entry, _whole(due))


def _whole(instant: Timestamp) -> Timestamp:
    return from_microseconds(to_microseconds(instant))


class SandboxResults(MemoryResults):
    """The memory backend's results; whoever waits for them does the work."""

    def __init__(self, store: Store, work: Callable[[Sequence[str]], None]) -> None:
        super().__init__(store)
        self._work = work

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        found = super().wait(ids, timeout=0)
        if found or timeout <= 0:
            return found
        self._work(ids)
        return super().wait(ids, timeout=timeout)


class SandboxPlugin:
    """`sandbox://`: one store, for one application and one test.

    `work` runs what is ready for somebody who is about to wait for the results
    of these ids.
    """

    def __init__(self, store: Store, work: Callable[[Sequence[str]], None]) -> None:
        self._store = store
        self._work = work

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name=SCHEME, version="built in", schemes=(SCHEME,))

    @hookimpl
    def taskq_open_broker(self, url: Url) -> Broker | None:  # noqa: ARG002 - there is one store
        return MemoryBroker(self._store)

    @hookimpl
    def taskq_open_results(self, url: Url) -> Results | None:  # noqa: ARG002 - there is one store
        return SandboxResults(self._store, self._work)


class Opened(NamedTuple):
    """A message, read."""

    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    envelope: Envelope | None


def opened(app: TaskQ, message: Message) -> Opened:
    """Return what is in a message, with arguments as the task gets them.

    Of one that a worker could not read, too, only what can be read.
    """
    try:
        envelope, body = wire.read(message.envelope, limit=app.conf.message_limit)
    except DecodeError:
        return Opened("", (), {}, None)
    task = app.tasks.get(envelope.task)
    try:
        args, kwargs = app.codecs.of(envelope.type).decode(body)
        if task is not None:
            args, kwargs = task.arguments.convert(args, kwargs)
    except Exception:  # noqa: BLE001 - besides DecodeError, what an argument's class raises
        return Opened(envelope.task, (), {}, envelope)
    return Opened(envelope.task, tuple(args), dict(kwargs), envelope)


class Sent:
    """A task as it was sent. Equal to the call that sends the same: `task.s(…)`.

    The same is: task, arguments as they travel, queue, priority, delay or eta,
    expiry, headers and the like; the id where the call states one.
    """

    def __init__(self, app: TaskQ, at: Timestamp, item: Send) -> None:
        self._item = item
        self.id: str = item.message.id
        self.queue: str = item.message.queue
        self.priority: int = item.message.priority
        self.task, self.args, self.kwargs, self._envelope = opened(app, item.message)
        self.headers: Mapping[str, Any] = self._envelope.headers if self._envelope else {}
        self.at: dt.datetime = instant_of(at)
        """When it was sent."""
        self.due: dt.datetime = instant_of(at + item.delay if item.eta is None else item.eta)
        """When it may start."""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Signature):
            twin = Sent(other.app, self.at.timestamp(), other.app.compose(other))
            stated = other.options.get("task_id")
            return self._content() == twin._content() and stated in (None, self.id)
        return isinstance(other, Sent) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def _content(self) -> tuple[object, ...]:
        item, envelope = self._item, self._envelope
        meta = envelope.meta.get("ignore_result") if envelope is not None else None
        timing = (item.delay, item.eta, item.ttl, item.expires)
        place = (self.queue, self.priority, item.message.max_deliveries)
        return (self.task, self.args, self.kwargs, place, timing, self.headers, meta)

    def __repr__(self) -> str:
        delay = (self.due - self.at).total_seconds()
        more = f", in {delay:g} s" if delay else ""
        call = call_text(self.task or "?", self.args, self.kwargs)
        return f"<sent {call} to {self.queue}, priority {self.priority}{more}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskRun:
    """One run of a task in a sandbox, or of one that expired or could not be read."""

    task: str
    id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    state: str
    """SUCCESS, FAILURE, RETRY (it will run again) or REVOKED (it had expired)."""
    value: Any
    """What it returned; None unless that succeeded and is kept."""
    error: BaseException | None
    """What it raised."""
    retries: int
    """How often it had been retried before."""
    at: dt.datetime
    """When it ran."""
    dead: str = ""
    """Why it is a dead letter now, in one word; "" if it is none."""

    def __repr__(self) -> str:
        told = f" {self.error!r}" if self.error is not None else ""
        return f"<{self.state} {self.call}{told}>"

    @property
    def call(self) -> str:
        """The call as one would write it."""
        return call_text(self.task or "?", self.args, self.kwargs)


def task_run(app: TaskQ, ran: Ran) -> TaskRun | None:
    """Return what became of a delivery; None if the task is of another program."""
    settlement = ran.settlement
    if not isinstance(settlement, Ack | Retry | Dead):
        return None
    message = ran.delivery.message
    task, args, kwargs, _ = opened(app, message)
    record = settlement.result
    kept = (
        None if record is None else EagerResult[Any](app, message.id, record, ignored=False).result
    )
    if isinstance(settlement, Retry):
        state = Status.RETRY
    elif record is not None:
        state = Status(record.state)
    else:
        failed = isinstance(settlement, Dead) or ran.error is not None
        state = Status.FAILURE if failed else Status.SUCCESS
    error = ran.error
    if error is None and isinstance(kept, BaseException) and state is not Status.SUCCESS:
        error = kept
    dead = settlement.code if isinstance(settlement, Dead) else ""
    if error is None and dead:
        error = TaskError(
            f"taskq.{dead}", settlement.detail if isinstance(settlement, Dead) else ""
        )
    return TaskRun(
        task=task,
        id=message.id,
        args=args,
        kwargs=kwargs,
        state=state.value,
        value=kept if state is Status.SUCCESS else None,
        error=error,
        retries=ran.delivery.retries,
        at=instant_of(ran.delivery.claimed),
        dead=dead,
    )


def instant_of(instant: Timestamp) -> dt.datetime:
    """Return an instant as a datetime, in whole microseconds."""
    return dt.datetime.fromtimestamp(instant, dt.UTC)
