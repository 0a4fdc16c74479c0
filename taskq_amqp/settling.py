"""Concluding deliveries: a confirmed copy to where each goes, then the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskq.clock import Clock
from taskq.contract.delivery import Delivery, Extension
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import OutcomeUnknown
from taskq_amqp.claims import Claims, copy_of
from taskq_amqp.holdings import Held, Holdings
from taskq_amqp.leases import Leases
from taskq_amqp.posting import Going, Post
from taskq_amqp.records import Letter, Record, micro
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate


class Settling:
    """What one client concludes. Thread-safe."""

    def __init__(
        self,
        lines: Lines,
        post: Post,
        claims: Claims,
        holdings: Holdings,
        leases: Leases,
        clock: Clock,
        store: Callable[[Sequence[ResultRecord]], None],
    ) -> None:
        self._lines = lines
        self._post = post
        self._claims = claims
        self._holdings = holdings
        self._leases = leases
        self._clock = clock
        self._store = store

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Conclude; see `Broker.settle`.

        Successors, copies and results are confirmed before anything is
        acknowledged. What breaks in between is done twice, and never lost.
        """
        deadline = self._lines.deadline()
        first, lost = _tell_repeated(settlements)
        taken, missing = self._holdings.grip([one.delivery for one in first])
        lost += [first[index].delivery for index in missing]
        gone = set(missing)
        held = [one for index, one in enumerate(first) if index not in gone]
        done: list[Held] = []
        try:
            done = self._conclude(taken, held, deadline)
        finally:
            concluded = {one.token for one in done}
            self._holdings.keep(one for one in taken if one.token not in concluded)
        return lost

    def _conclude(
        self, taken: Sequence[Held], settlements: Sequence[Settlement], deadline: float
    ) -> list[Held]:
        goings: list[Going] = []
        parts: list[int] = []
        for held, settlement in zip(taken, settlements, strict=True):
            more = self._goings(held, settlement)
            parts.append(len(more))
            goings += more
        report = self._post.send(goings, deadline)
        self._store_results(settlements, done=any(fate is Fate.SENT for fate in report.fates))
        sent = [fate is Fate.SENT for fate in report.fates]
        ready: list[Held] = []
        at = 0
        for held, count in zip(taken, parts, strict=True):
            if all(sent[at : at + count]):
                ready.append(held)
            at += count
        if not report.complete and not any(sent):
            report.check()
        self._claims.acknowledge(ready, deadline)
        self._holdings.drop(ready)
        if not report.complete:
            raise OutcomeUnknown(str(report.error or "the server refused a message"))
        return ready

    def _store_results(self, settlements: Sequence[Settlement], *, done: bool) -> None:
        records = [
            one.result
            for one in settlements
            if not isinstance(one, Release) and one.result is not None
        ]
        if not records:
            return
        try:
            self._store(records)
        except OutcomeUnknown:
            raise
        except Exception as error:
            if done:
                raise OutcomeUnknown(f"carried out in part, then: {error}") from error
            raise

    def _goings(self, held: Held, settlement: Settlement) -> list[Going]:
        """Return what has to be sent before the acknowledgement."""
        record, queue = copy_of(held.record), held.queue
        now = self._clock.now()
        match settlement:
            case Ack():
                return [sending(item, self._clock, self._post.wall()) for item in settlement.send]
            case Retry():
                record.retries += 1
                record.run += 1
                if settlement.envelope is not None:
                    record.envelope = settlement.envelope
                return [Going(record, queue, delay=settlement.delay)]
            case Release():
                record.releases += 1
                record.first_released = record.first_released or micro(now)
                return [Going(record, queue, returned=True, delay=settlement.delay)]
            case Dead():
                letter = Letter(record, settlement.code, settlement.detail, micro(now))
                return [Going(letter, queue)]

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> Extension:
        """Extend leases, once the server has shown that it still holds them for us."""
        deadline = self._lines.deadline()
        taken, missing = self._holdings.grip(deliveries)
        try:
            for channel in {id(held.channel): held.channel for held in taken}.values():
                channel.prove(deadline)
            self._leases.renew(taken, deadline)
        except BaseException:
            self._holdings.keep(taken)
            raise
        self._holdings.extend(taken, self._clock.now(), lease)
        return Extension(lost=[deliveries[index] for index in missing], cancelled=[])


def sending(item: Send, clock: Clock, wall: float) -> Going:
    """Return where a message goes that is sent.

    Instants are the sender's; they are turned into durations by his own clock.
    """
    message, now = item.message, clock.now()
    delay = item.delay if item.eta is None else item.eta - now
    ttl = item.ttl if item.expires is None else item.expires - now
    record = Record(
        message.id,
        message.envelope,
        message.priority,
        message.max_deliveries,
        micro(wall),
        expires=0 if ttl is None else micro(wall + ttl),
    )
    return Going(record, message.queue, delay=max(delay, 0.0))


def _tell_repeated(
    settlements: Sequence[Settlement],
) -> tuple[list[Settlement], list[Delivery]]:
    """Return the first settlement of each delivery, and the deliveries of the others."""
    first: dict[str, Settlement] = {}
    repeated: list[Delivery] = []
    for settlement in settlements:
        if settlement.delivery.token in first:
            repeated.append(settlement.delivery)
        else:
            first[settlement.delivery.token] = settlement
    return list(first.values()), repeated
