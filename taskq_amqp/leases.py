"""Leases that last longer than the server lets a delivery go unacknowledged.

A server closes the channel of whoever holds a delivery for longer than its
`consumer_timeout`, half an hour by default, which no client can ask for. So
what has been held for half of it is renewed: a copy goes to a queue of the
holder's own, from which only he consumes, and when that copy has been
delivered to him, the older one is acknowledged. When he dies, his copies stay
in that queue, and whoever finds it without a consumer takes them back.

Death in between leaves both copies, and so runs the task twice; never none.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Final

from pika import spec

from taskq.clock import Clock, Seconds
from taskq.errors import BrokerError, DecodeError, OutcomeUnknown, ServerRefused
from taskq_amqp.catalog import LEASE, Catalog
from taskq_amqp.holdings import Held, Holdings
from taskq_amqp.names import Names
from taskq_amqp.posting import Going, Post, lost
from taskq_amqp.records import micro, unpack
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.lines import Lines, refused_as_missing
from taskq_amqp.transport.publisher import Fate, Parcel
from taskq_amqp.transport.wire import Delivered

LOOK: Final[Seconds] = 5.0
"""How often a client looks for what others have left behind."""


class Leases:
    """The long leases of one client, and those of the dead. Thread-safe."""

    def __init__(
        self,
        lines: Lines,
        names: Names,
        catalog: Catalog,
        post: Post,
        holdings: Holdings,
        clock: Clock,
        longest: Seconds,
    ) -> None:
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._post = post
        self._holdings = holdings
        self._clock = clock
        self._age = longest / 2
        self._owner = uuid.uuid4().hex[:16]
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._came = threading.Condition()
        self._copies: dict[str, Delivered] = {}
        self._looked = 0.0

    # -- Renewing

    def renew(self, held: Sequence[Held], deadline: float) -> None:
        """Renew what has been held for long. The caller has the grip on all of it.

        Raises:
            BrokerError: not all were renewed; all are held as before, or by their copy.
        """
        now = time.monotonic()
        old = [one for one in held if now - one.since > self._age]
        if not old:
            return
        with self._lock:
            channel = self._own_channel(deadline)
            name = self._names.lease(self._owner)
            parcels = [Parcel("", name, pack(one)) for one in old]
            report = self._lines.publisher(deadline).publish(parcels, deadline)
            sent = [one for one, f in zip(old, report.fates, strict=True) if f is Fate.SENT]
            copies = self._await([one.token for one in sent], channel, deadline)
            for one in sent:
                before = one.channel, one.tag
                one.channel, one.tag = channel, copies[one.token].tag
                one.since = time.monotonic()
                before[0].acknowledge([before[1]], deadline)
            report.check()

    def _own_channel(self, deadline: float) -> Channel:
        connection = self._lines.consumer(deadline)
        channel = self._channel
        if channel is not None and channel.error is None and channel.connection is connection:
            return channel
        if channel is not None:
            # What was renewed on the lost one lies in its queue, for others to find.
            self._owner = uuid.uuid4().hex[:16]
        self._catalog.need(LEASE, 0, self._owner, deadline)
        self._channel = channel = connection.channel(deadline)
        channel.sinks[b"lease"] = self._take
        name = self._names.lease(self._owner)
        channel.call(spec.Basic.Consume(0, name, "lease", exclusive=True), deadline=deadline)
        return channel

    def _take(self, event: Delivered) -> None:
        if self._channel is not None:
            self._channel.hold(event.tag)
        with self._came:
            with contextlib.suppress(DecodeError):
                self._copies[unpack_lease(event.body)[0]] = event
            self._came.notify_all()

    def _await(
        self, tokens: Sequence[str], channel: Channel, deadline: float
    ) -> dict[str, Delivered]:
        with self._came:
            while not all(token in self._copies for token in tokens):
                left = deadline - time.monotonic()
                if left <= 0 or channel.error is not None:
                    raise OutcomeUnknown("a lease could not be renewed in time")
                self._came.wait(min(left, 0.05))
            return {token: self._copies.pop(token) for token in tokens}

    # -- Taking back what the dead have left

    def look(self, lease: Seconds, deadline: float) -> None:
        """Take back what holders have left who are gone; it rests for one lease."""
        now = time.monotonic()
        owners = self._catalog.owners
        if not owners or now - self._looked < LOOK:
            return
        self._looked = now
        for owner in list(owners):
            if owner != self._owner:
                self._look_at(owner, lease, deadline)

    def _look_at(self, owner: str, lease: Seconds, deadline: float) -> None:
        name = self._names.lease(owner)
        channel = self._lines.consumer(deadline).channel(deadline)
        came = threading.Condition()
        events: list[Delivered] = []

        def take(event: Delivered) -> None:
            channel.hold(event.tag)
            with came:
                events.append(event)
                came.notify()

        try:
            question = spec.Queue.Declare(0, name, passive=True)
            found = channel.call(question, deadline=deadline)[0]
            if found.consumer_count:
                return
            channel.sinks[b"orphans"] = take
            channel.call(spec.Basic.Consume(0, name, "orphans", exclusive=True), deadline=deadline)
            with came:
                while len(events) < found.message_count and channel.error is None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    came.wait(min(left, 0.05))
            goings: list[Going] = []
            tags: list[int] = []
            for event in events:
                # What is not ours stays there, and so does the queue.
                with contextlib.suppress(DecodeError):
                    goings.append(self._orphan(event, lease))
                    tags.append(event.tag)
            report = self._post.send(goings, deadline)
            done = [tag for tag, f in zip(tags, report.fates, strict=True) if f is Fate.SENT]
            channel.acknowledge(done, deadline)
            report.check()
            if len(done) == len(events) >= found.message_count:
                # RabbitMQ ends the connection of who would delete a quorum queue if it is
                # empty. A copy that came since is one of a message that its holder has not
                # acknowledged: that only happens when the copy is delivered to him.
                channel.call(spec.Queue.Delete(0, name), deadline=deadline)
                self._catalog.owners.discard(owner)
        except ServerRefused as error:
            # Gone already, or somebody else is at it.
            if refused_as_missing(error):
                self._catalog.owners.discard(owner)
        finally:
            with contextlib.suppress(BrokerError):
                channel.end(max(deadline, time.monotonic() + 1))

    def _orphan(self, event: Delivered, lease: Seconds) -> Going:
        _, queue, body = unpack_lease(event.body)
        return lost(unpack(body), queue, micro(self._clock.now()), lease)


def pack(held: Held) -> bytes:
    """Return a held message with what is known of it."""
    return b"%b %b %b" % (held.token.encode(), held.queue.encode(), held.record.pack())


def unpack_lease(body: bytes) -> tuple[str, str, bytes]:
    """Return token, queue and record.

    Raises:
        DecodeError: it is none of ours.
    """
    parts = body.split(b" ", 2)
    if len(parts) != 3:  # token, queue, record
        raise DecodeError("this is no renewed lease of taskq")
    return parts[0].decode(), parts[1].decode(), parts[2]
