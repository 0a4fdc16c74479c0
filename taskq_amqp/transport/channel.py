"""One channel of a connection: its calls, its answers, and what is delivered on it."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pika import spec

from taskq.errors import BrokerError, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq_amqp.transport.wire import Confirmed, Delivered, Event, Returned, ack, method

if TYPE_CHECKING:
    from taskq_amqp.transport.connection import Connection

_OK: Final = (spec.Basic.ConsumeOk, spec.Basic.CancelOk)
_ABOUT: Final[dict[type[Any], type[Any]]] = {
    spec.Basic.Consume: spec.Basic.ConsumeOk,
    spec.Basic.Cancel: spec.Basic.CancelOk,
}

Sink: TypeAlias = Callable[[Delivered], None]


class Replies:
    """What one call awaits: so many answers of a channel in order, and some about consumers.

    What the server says of consumers comes by way of their queue, and keeps no
    order with the rest.
    """

    __slots__ = ("_done", "error", "found", "missing", "plain")

    def __init__(self, plain: int, about: int) -> None:
        self.found: list[Any] = []
        self.error: BrokerError | None = None
        self.plain = plain
        self.missing = plain + about
        self._done = threading.Lock()
        self._done.acquire()

    def add(self, reply: Any, *, plain: bool) -> None:
        """Take in an answer."""
        if plain:
            self.found.append(reply)
            self.plain -= 1
        self.missing -= 1
        if not self.missing:
            self._done.release()

    def fail(self, error: BrokerError) -> None:
        self.error = error
        self.missing = 0
        self._done.release()

    def wait(self, deadline: float) -> bool:
        """Wait until all have come, or none will any more."""
        return self._done.acquire(timeout=max(deadline - time.monotonic(), 0.0))


class Channel:
    """One channel of a connection. Calls of several threads are answered in their order."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.error: BrokerError | None = None
        """Why it is closed, if it is."""
        self.sinks: dict[bytes, Sink] = {}
        """Who takes what is delivered to a consumer."""
        self.cancelled: Callable[[bytes], None] | None = None
        """Told when the server ends a consumer."""
        self.confirmed: Callable[[Confirmed], None] | None = None
        self.returned: Callable[[Returned], None] | None = None
        self.closed: Callable[[BrokerError], None] | None = None
        """Told, once, in the reading thread."""
        self.retired = False
        """It is to be closed as soon as it holds nothing."""
        self._ending = False
        self._held: dict[int, None] = {}
        """What was delivered to be acknowledged and is not, in the order of its tags."""
        self._awaited: collections.deque[Replies] = collections.deque()
        self._about: dict[tuple[type[Any], str], Replies] = {}

    def call(self, *methods: Any, deadline: float) -> list[Any]:
        """Send methods in one go; return the server's answers, but those about consumers.

        Raises:
            ConnectionFailed: nothing was sent.
            OutcomeUnknown: no answer came.
            ServerRefused: the server closed the channel; methods behind the one that it
                refused were not carried out.
        """
        packed = b"".join(method(self.number, one) for one in methods)
        about = [(_ABOUT[type(one)], one.consumer_tag) for one in methods if type(one) in _ABOUT]
        return self.ask(packed, len(methods) - len(about), deadline, about)

    def ask(
        self,
        packed: bytes,
        answers: int,
        deadline: float,
        about: Sequence[tuple[type[Any], str]] = (),
    ) -> list[Any]:
        """Send frames in one go; return the answers, once those about consumers came too.

        Raises as `call`.
        """
        if not answers and not about:
            return []
        return self._await(self._start(packed, answers, about, deadline), deadline)

    def _await(self, replies: Replies, deadline: float) -> list[Any]:
        if not replies.wait(deadline):
            raise OutcomeUnknown(f"{self.connection.name} did not answer in time")
        if replies.error is not None:
            raise replies.error
        return replies.found

    def _start(
        self,
        packed: bytes,
        answers: int,
        about: Sequence[tuple[type[Any], str]],
        deadline: float,
        *,
        ending: bool = False,
    ) -> Replies:
        replies = Replies(answers, len(about))
        with self.connection.writing(deadline) as write:
            self._check_open()
            self._ending = ending
            if answers:
                self._awaited.append(replies)
            self._about.update(dict.fromkeys(about, replies))
            try:
                write(packed)
            except ConnectionFailed:
                with contextlib.suppress(ValueError):
                    self._awaited.remove(replies)
                for key in about:
                    self._about.pop(key, None)
                raise
        return replies

    def write(self, packed: bytes, deadline: float) -> None:
        """Send frames that nobody answers; raises as `call`."""
        with self.connection.writing(deadline) as write:
            self._check_open()
            write(packed)

    def _check_open(self) -> None:
        """Raise if nothing may be sent: behind a request to close it would end the connection."""
        if self.error is not None:
            raise ConnectionFailed(str(self.error)) from self.error
        if self._ending:
            raise ConnectionFailed("the channel is being closed")

    def hold(self, tag: int) -> None:
        """Note that a delivery will have to be acknowledged."""
        self._held[tag] = None

    @property
    def holds(self) -> bool:
        """Whether anything is still to be acknowledged."""
        return bool(self._held)

    def acknowledge(self, tags: Sequence[int], deadline: float) -> None:
        """Acknowledge deliveries; return when the server has done so. Raises as `call`.

        The longest run of oldest ones goes in one frame, each other in its own.
        A channel's methods are carried out in order, so that the answer to one
        that asks for nothing tells that those before it were.
        """
        if not tags:
            return
        wanted, last = set(tags), 0
        for tag in list(self._held):
            if tag not in wanted:
                break
            last = tag
        frames = [ack(self.number, last, multiple=True)] if last else []
        frames += [ack(self.number, tag, multiple=False) for tag in sorted(tags) if tag > last]
        frames.append(method(self.number, spec.Basic.Qos(prefetch_count=1)))
        self.ask(b"".join(frames), 1, deadline)
        for tag in tags:
            self._held.pop(tag, None)
        if self.retired and not self._held:
            with contextlib.suppress(BrokerError):
                self.end(deadline)

    def give_back(self, tags: Sequence[int], deadline: float) -> None:
        """Let the server have deliveries back, flagged as redelivered."""
        frames = [method(self.number, spec.Basic.Nack(tag, False, True)) for tag in tags]
        if frames:
            self.write(b"".join(frames), deadline)
        for tag in tags:
            self._held.pop(tag, None)

    def acknowledge_all(self, tag: int) -> None:
        """Acknowledge all up to a delivery, without waiting. For the reading thread."""
        with contextlib.suppress(BrokerError):
            self.write(ack(self.number, tag, multiple=True), time.monotonic() + 0.1)

    def prove(self, deadline: float) -> None:
        """Have the server say that it still knows this channel; raises as `call`."""
        self.call(spec.Basic.Qos(prefetch_count=1), deadline=deadline)

    def end(self, deadline: float) -> None:
        """Close the channel; what it holds unacknowledged goes back to its queue."""
        if self.error is None:
            packed = method(self.number, spec.Channel.Close(200, "", 0, 0))
            self._await(self._start(packed, 1, (), deadline, ending=True), deadline)
            self.error = ConnectionFailed("the channel was closed")
            self.connection.forget(self)

    def take(self, event: Event) -> None:
        """Take in what has arrived. In the reading thread."""
        kind = type(event)
        if kind is Delivered:
            sink = self.sinks.get(event.consumer)
            if sink is not None:
                sink(event)
        elif kind is Confirmed:
            if self.confirmed is not None:
                self.confirmed(event)
        elif kind is Returned:
            if self.returned is not None:
                self.returned(event)
        elif kind is spec.Basic.Cancel:
            if self.cancelled is not None:
                self.cancelled(event.consumer_tag.encode())
        elif kind is spec.Channel.Close:
            self.fail(refusal(event))
        elif kind in _OK:
            replies = self._about.pop((kind, event.consumer_tag), None)
            if replies is not None:
                replies.add(event, plain=False)
        elif self._awaited:
            replies = self._awaited[0]
            if replies.plain == 1:
                self._awaited.popleft()
            replies.add(event, plain=True)

    def fail(self, error: BrokerError) -> None:
        """Take in that nothing will arrive any more. In the reading thread."""
        if self.error is not None:
            return
        self.error = error
        for replies in {*self._awaited, *self._about.values()}:
            replies.fail(error)
        self._awaited.clear()
        self._about.clear()
        if self.closed is not None:
            self.closed(error)


def refusal(event: Any, what: str = "the server refused") -> BrokerError:
    """Return what it means that the server closes a channel or a connection."""
    text = f"{what}: {event.reply_text} ({event.reply_code})"
    passing = event.reply_code in (spec.CONNECTION_FORCED, spec.INTERNAL_ERROR)
    if passing or "down or inaccessible" in event.reply_text:
        # By an operator, a shutdown or a start: what was under way may be done.
        return OutcomeUnknown(text)
    return ServerRefused(text)
