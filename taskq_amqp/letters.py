"""Dead letters: looked at by one client at a time, who puts all of them back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pika import spec

from taskq.clock import Clock, Seconds
from taskq.contract.delivery import DeadLetter
from taskq.errors import BrokerError, DecodeError, OutcomeUnknown, ServerRefused
from taskq_amqp.catalog import Catalog
from taskq_amqp.names import Names
from taskq_amqp.posting import Going, Post
from taskq_amqp.records import Letter, Record, micro, unpack_letter
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate
from taskq_amqp.transport.wire import Delivered, method

TAG: Final = b"letters"
PAUSE: Final[Seconds] = 0.005


class _Open:
    """The dead letters of a queue, taken for a while."""

    def __init__(self, channel: Channel, found: list[tuple[int, Letter]]) -> None:
        self.channel = channel
        self.found = found
        self.gone = 0
        """So many of them were acknowledged."""

    def acknowledge(self, tags: list[int], deadline: float) -> None:
        self.channel.acknowledge(tags, deadline)
        self.gone += len(tags)


class Letters:
    """The dead letters of one namespace. Thread-safe."""

    def __init__(
        self, lines: Lines, names: Names, catalog: Catalog, post: Post, clock: Clock
    ) -> None:
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._post = post
        self._clock = clock

    def page(self, queue: str, limit: int, after: DeadLetter | None) -> list[DeadLetter]:
        """Return a page; see `Broker.dead_letters`."""
        deadline = self._lines.deadline()
        with self._taken(queue, deadline) as taken:
            letters = [letter.dead_letter(queue) for _, letter in taken.found]
        letters.sort(key=_rank)
        if after is not None:
            letters = [letter for letter in letters if _rank(letter) > _rank(after)]
        return letters[:limit]

    def requeue(
        self, queue: str, ids: Sequence[str], forget: Callable[[Sequence[str]], None]
    ) -> int:
        """Make ready again; see `Broker.requeue_dead`."""
        deadline, wanted = self._lines.deadline(), set(ids)
        with self._taken(queue, deadline) as taken:
            chosen = [(tag, letter) for tag, letter in taken.found if letter.record.id in wanted]
            goings = []
            for _, letter in chosen:
                record = letter.record
                record.retries = record.losses = record.releases = record.first_released = 0
                record.run += 1
                goings.append(Going(record, queue))
            if chosen:
                forget([letter.record.id for _, letter in chosen])
            report = self._post.send(goings, deadline)
            done = [
                tag
                for (tag, _), fate in zip(chosen, report.fates, strict=True)
                if fate is Fate.SENT
            ]
            taken.acknowledge(done, deadline)
            report.check()
            return len(done)

    def drop(self, queue: str, wanted: Callable[[Letter], bool], limit: int) -> int:
        """Drop up to `limit` of those that are wanted; return how many."""
        deadline = self._lines.deadline()
        with self._taken(queue, deadline) as taken:
            found = [tag for tag, letter in taken.found if wanted(letter)][:limit]
            taken.acknowledge(found, deadline)
            return len(found)

    def expire(self, older_than: Seconds, limit: int) -> int:
        """Drop those that died so long ago; see `Broker.expire_dead`."""
        deadline = self._lines.deadline()
        before = micro(self._clock.now() - older_than)
        self._catalog.refresh(deadline)
        total = 0
        for queue in self._catalog.queues:
            if total >= limit:
                break
            if self._catalog.place(queue).dead:
                total += self.drop(queue, lambda letter: letter.died < before, limit - total)
        return total

    def count(self, queue: str) -> int:
        """Return how many there are."""
        deadline = self._lines.deadline()
        with self.alone(deadline) as channel:
            return self._count(channel, self._names.dead(queue), deadline)

    # -- One at a time

    @contextlib.contextmanager
    def alone(self, deadline: float) -> Iterator[Channel]:
        """Be the only one who looks at dead letters: the server lets no other consume this.

        Yields the channel that is to be used meanwhile; it is closed afterwards.
        """
        channel = self._enter(deadline)
        try:
            yield channel
        finally:
            with contextlib.suppress(BrokerError):
                channel.end(max(deadline, time.monotonic() + 1))

    def _enter(self, deadline: float) -> Channel:
        door = spec.Basic.Consume(0, self._names.letters, "door", exclusive=True)
        while True:
            channel = self._lines.consumer(deadline).channel(deadline)
            try:
                channel.call(door, deadline=deadline)
            except ServerRefused as error:
                busy = f"({spec.ACCESS_REFUSED})" in str(error)
                if not busy or time.monotonic() + PAUSE > deadline:
                    raise
                time.sleep(PAUSE)
            else:
                return channel

    @contextlib.contextmanager
    def _taken(self, queue: str, deadline: float) -> Iterator[_Open]:
        """Take all dead letters of a queue; what is not acknowledged goes back."""
        self._catalog.refresh(deadline)
        if not self._catalog.place(queue).dead:
            yield _Open(self._lines.asking(deadline), [])
            return
        with self.alone(deadline) as channel:
            name = self._names.dead(queue)
            found = self._read(channel, name, deadline)
            taken = _Open(channel, found)
            try:
                yield taken
            finally:
                if channel.error is None and found:
                    self._put_back(channel, name, len(found) - taken.gone, deadline)

    def _read(self, channel: Channel, name: str, deadline: float) -> list[tuple[int, Letter]]:
        count = self._count(channel, name, deadline)
        if not count:
            return []
        came = threading.Condition()
        events: list[Delivered] = []

        def take(event: Delivered) -> None:
            channel.hold(event.tag)
            with came:
                events.append(event)
                came.notify()

        channel.sinks[TAG] = take
        channel.call(
            spec.Basic.Qos(prefetch_count=0),
            spec.Basic.Consume(0, name, TAG.decode()),
            deadline=deadline,
        )
        with came:
            while len(events) < count and channel.error is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OutcomeUnknown("the server did not show all dead letters in time")
                came.wait(min(left, 0.05))
        if channel.error is not None:
            raise channel.error
        channel.call(spec.Basic.Cancel(TAG.decode()), deadline=deadline)
        return [(event.tag, _letter(event)) for event in events]

    def _put_back(self, channel: Channel, name: str, left: int, deadline: float) -> None:
        channel.write(method(channel.number, spec.Basic.Nack(0, True, True)), deadline)
        # The server does so by and by; who comes next is to find them all.
        while self._count(channel, name, deadline) < left and time.monotonic() < deadline:
            time.sleep(PAUSE / 5)

    def _count(self, channel: Channel, name: str, deadline: float) -> int:
        question = spec.Queue.Declare(0, name, passive=True)
        count: int = channel.call(question, deadline=deadline)[0].message_count
        return count


def _letter(event: Delivered) -> Letter:
    try:
        return unpack_letter(event.body)
    except DecodeError as error:
        record = Record(f"undecodable-{event.tag}", event.body, 0, 2, 0)
        return Letter(record, error.code, str(error), 0)


def _rank(letter: DeadLetter) -> tuple[float, str]:
    return letter.died, letter.message.id
