"""Taking messages from queues: one channel, used by one claim at a time.

Exactly as many are taken as were asked for, so that nothing waits at a client
that did not ask for it while another one looks for work. Where nobody else
claims, or there are plenty, a consumer is granted so many, and cancelled when
they have come, which costs a tenth of asking for each. Where others may be faster
they are asked for one by one: what is pushed to a consumer while it is being
cancelled may be lost on its way, and has to rest as if its holder had died.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pika import spec

from taskq.clock import Seconds
from taskq.errors import OutcomeUnknown, ServerRefused
from taskq_amqp.catalog import Catalog
from taskq_amqp.names import Names
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.lines import Lines, refused_as_missing
from taskq_amqp.transport.wire import Delivered, Got, passive

PATIENCE: Final[Seconds] = 0.05
"""How long what was counted may fail to come: then another client has got it."""
FEW: Final = 4
"""So many messages are asked for one by one, which is sooner done."""
AMPLE: Final = 500
"""If there are so many more for each client, others do not take what shall be pushed to one."""
VAIN: Final = 50
"""So often in a row may others be faster, before there must be another reason."""
_numbers = itertools.count()


class Taken(NamedTuple):
    """A message that has come, and from where."""

    queue: str
    level: int
    event: Delivered | Got


class Desk:
    """One channel with its consumers. Used by one thread at a time, but for `wake`."""

    def __init__(self, channel: Channel, lines: Lines, names: Names, catalog: Catalog) -> None:
        self.channel = channel
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._changed = threading.Condition()
        self._came: list[Taken] = []
        self._woken = False
        channel.closed = lambda _: self.wake()
        channel.cancelled = self._cancelled
        self.amid = False
        """A call has begun and not ended, or ended nobody knows how."""
        self._stale = False
        """A queue was deleted that it has consumed from. The server's side of the channel
        would take from a new one of that name, and never deliver."""

    @property
    def alive(self) -> bool:
        return self.channel.error is None

    @property
    def sound(self) -> bool:
        """Whether it may be used again."""
        return self.alive and not self.amid and not self._stale

    @property
    def empty(self) -> bool:
        """Whether nothing would be given back by closing it."""
        return not self.channel.holds and not self._came

    def take(self, queue: str, most: int, rivals: int, deadline: float) -> list[Taken]:
        """Take up to `most` messages of a queue, the most urgent first; [] if there are none.

        `rivals` is how many other threads of this client are claiming.

        Raises:
            BrokerError: what was taken goes back to the queue.
        """
        for _ in range(VAIN):
            levels, counts, clients = self._look(queue, deadline)
            spare = 0 if clients + rivals <= 1 else AMPLE * clients
            plan, few = _planned(levels, counts, most, spare)
            if not plan and not few:
                return []
            found = self._fetch(queue, plan, deadline) if plan else []
            found += self._get(queue, few, deadline) if few else []
            if found:
                return sorted(found, key=_urgency)
            # Others have got what was counted; there may be more that is less urgent.
        # A channel that gets nothing while there is something may have lost sight of it.
        self._stale = self.channel.retired = True
        return []

    def _look(self, queue: str, deadline: float) -> tuple[Sequence[int], list[int], int]:
        """Return the levels of a queue, how many messages are ready in each, and of the clients."""
        fixed = [self._names.version, self._names.holders]
        while True:
            levels = self._catalog.place(queue).levels
            names = [self._names.ready(queue, level) for level in levels]
            version, holders, *found = self._count(queue, [*fixed, *names], deadline)
            self._catalog.catch_up(version.message_count, deadline)
            if self._catalog.place(queue).levels == levels:
                return levels, [one.message_count for one in found], holders.consumer_count

    def _count(self, queue: str, queues: Sequence[str], deadline: float) -> list[Any]:
        """Return what the server says of queues. It is asked on another channel.

        A question for one that is missing would close this channel, with all that is held.
        """
        for last in (False, True):
            channel = self._lines.asking(deadline)
            question = b"".join(passive(channel.number, name) for name in queues)
            try:
                return channel.ask(question, len(queues), deadline)
            except ServerRefused as error:
                if last or not refused_as_missing(error):
                    raise
                self._catalog.remake(queue, deadline)
        return []

    def _get(self, queue: str, plan: Sequence[tuple[int, int]], deadline: float) -> list[Taken]:
        """Ask for messages one by one, all in one go."""
        levels = [level for level, count in plan for _ in range(count)]
        questions = [spec.Basic.Get(0, self._names.ready(queue, level)) for level in levels]
        self.amid = True
        answers = self.channel.call(*questions, deadline=deadline)
        self.amid = False
        found: list[Taken] = []
        for level, answer in zip(levels, answers, strict=True):
            if isinstance(answer, Got):
                self.channel.hold(answer.tag)
                found.append(Taken(queue, level, answer))
        return found

    def _fetch(self, queue: str, plan: Sequence[tuple[int, int]], deadline: float) -> list[Taken]:
        self.amid = True
        planned = len(self._came) + sum(count for _, count in plan)
        tags = [self._consume(queue, level) for level, _ in plan]
        methods: list[Any] = []
        for (level, count), tag in zip(plan, tags, strict=True):
            methods += [_grant(count), _start(self._names.ready(queue, level), tag)]
        try:
            self.channel.call(*methods, deadline=deadline)
            with self._changed:
                heard = len(self._came)
                while len(self._came) < planned and self.alive:
                    self._changed.wait(PATIENCE)
                    if len(self._came) == heard:
                        break
                    heard = len(self._came)
        finally:
            self._stop(tags, deadline)
        self._doubt({tag: count for (_, count), tag in zip(plan, tags, strict=True)})
        return self._collect()

    def _doubt(self, granted: dict[bytes, int]) -> None:
        """Use the channel no more, if a consumer that was ended had got only a part of its grant.

        Of what is pushed to a consumer while it is being cancelled the server's side
        of the channel lets the first through, and loses the rest, which is given back
        when the channel is closed.
        """
        with self._changed:
            events = [taken.event for taken in self._came]
        came = Counter(event.consumer for event in events if isinstance(event, Delivered))
        if any(0 < came[tag] < count for tag, count in granted.items()):
            self._stale = self.channel.retired = True

    # -- Waiting

    def wait(self, queues: Sequence[str], seconds: Seconds, deadline: float) -> bool:
        """Wait until something was sent to one of the queues, to a new one, or for `wake`.

        Says whether that was so, which is a hint: tokens tell it, not messages,
        since a message that was pushed could not be refused any more.
        """
        self.amid = True
        known = [queue for queue in queues if self._catalog.place(queue).levels]
        tags = [_new_tag() for _ in known]
        news = _new_tag()
        self.channel.sinks.update(dict.fromkeys(tags, self._token))
        places = zip(known, tags, strict=True)
        tokens = [_start(self._names.wake(queue), tag, no_ack=True) for queue, tag in places]
        try:
            self._catalog.watch(self.channel, news, self._token, deadline)
            tags.append(news)
            self.channel.call(*tokens, deadline=deadline)
            with self._changed:
                if not self._woken:
                    self._changed.wait(seconds)
                woken, self._woken = self._woken, False
        finally:
            self._stop(tags, deadline)
        self.amid = False
        return woken

    def _token(self, _: Delivered) -> None:
        self.wake()

    def wake(self) -> None:
        """End a wait. From any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    # -- Consumers

    def _consume(self, queue: str, level: int) -> bytes:
        tag = _new_tag()

        def came(event: Delivered) -> None:
            self.channel.hold(event.tag)
            with self._changed:
                self._came.append(Taken(queue, level, event))
                self._changed.notify_all()

        self.channel.sinks[tag] = came
        return tag

    def _stop(self, tags: Sequence[bytes], deadline: float) -> None:
        """End consumers."""
        if self.alive:
            cancels = [spec.Basic.Cancel(tag.decode()) for tag in tags]
            self.channel.call(*cancels, deadline=max(deadline, time.monotonic() + 1))
        for tag in tags:
            self.channel.sinks.pop(tag, None)

    def _cancelled(self, _: bytes) -> None:
        # The queue is gone: look what there is, which makes it anew if it has to be.
        self._stale = self.channel.retired = True
        self._catalog.forget_made()
        self.wake()

    def _collect(self) -> list[Taken]:
        with self._changed:
            came, self._came = self._came, []
        if not self.alive:
            raise OutcomeUnknown(str(self.channel.error))
        self.amid = False
        return sorted(came, key=_urgency)


def _new_tag() -> bytes:
    """Return the name of a consumer, which is no number.

    The server names who has asked for one message by its delivery tag, and would
    take the two for one.
    """
    return b"c%d" % next(_numbers)


def _planned(
    levels: Sequence[int], counts: Sequence[int], most: int, spare: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return how many to take of which levels: from consumers, and one by one."""
    plan: list[tuple[int, int]] = []
    few: list[tuple[int, int]] = []
    for level, count in zip(levels, counts, strict=True):
        wanted = min(count, most)
        if wanted:
            (plan if wanted > FEW and count >= wanted + spare else few).append((level, wanted))
            most -= wanted
    return plan, few


def _urgency(taken: Taken) -> int:
    return -taken.level


def _grant(count: int) -> Any:
    return spec.Basic.Qos(prefetch_count=min(count, 0xFFFF))


def _start(name: str, tag: bytes, *, no_ack: bool = False) -> Any:
    return spec.Basic.Consume(0, name, tag.decode(), no_ack=no_ack)
