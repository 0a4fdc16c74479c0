"""A history turned around: for each message, how it was sent, and every lease on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from taskq.clock import Seconds
from taskq.testing.concurrency.history import (
    Claimed,
    Extended,
    Fate,
    Got,
    History,
    Instant,
    Item,
    Key,
    Letter,
    Sent,
    Settled,
)

CONCLUDED = frozenset({"ack", "dead"})
DRIFT: Seconds = 0.02
"""How far the server's clock may stray from ours within one lease or delay."""


@dataclass(slots=True, eq=False)
class Lease:
    """One delivery, and all that its holder tried with it, in the order of the calls."""

    got: Got
    claim: Claimed
    settlements: list[tuple[Settled, Fate]] = field(default_factory=list)
    extensions: list[tuple[Extended, bool]] = field(default_factory=list)
    """Each with whether it held."""

    @property
    def accepted(self) -> tuple[Settled, Fate] | None:
        """The first settlement that was not returned as lost."""
        return next((pair for pair in self.settlements if not pair[1].lost), None)

    @property
    def until(self) -> Instant:
        """Until when the lease runs at least."""
        return self.until_by(inf)

    def until_by(self, instant: Instant) -> Instant:
        """Return until when it runs at least, going by what was called before `instant`.

        A holder counts from before the call. An extension that held shows that
        nobody had reclaimed the message until then.
        """
        for call, held in reversed(self.extensions):
            if held and call.before < instant:
                return call.before + call.lease - DRIFT
        return self.claim.before + self.claim.lease - DRIFT

    @property
    def over(self) -> Instant:
        """Since when the lease has certainly ended."""
        ends = [self.claim.after + self.claim.lease]
        ends += [call.after + call.lease for call, held in self.extensions if held]
        return max(ends) + DRIFT

    @property
    def certain(self) -> tuple[Instant, Instant]:
        """From when to when nobody else can have the message."""
        accepted = self.accepted
        end = self.until if accepted is None else min(self.until, accepted[0].before)
        return self.claim.after, end

    @property
    def refused(self) -> Instant | None:
        """When its holder was first told that it is lost."""
        told = [call.after for call, fate in self.settlements if fate.lost]
        told += [call.after for call, held in self.extensions if not held]
        return min(told, default=None)


@dataclass(slots=True, eq=False)
class Life:
    """What is known of one message."""

    id: str
    item: Item | None = None
    """None: nobody sent it."""
    sent: Sent | Settled | None = None
    """The call that brought it in: a send, or the ack it is a successor of."""
    number: int = -1
    """Its place among all that its producer sent; -1 if no producer sent it."""
    refused: bool = False
    """A successor of an ack that came back as lost: it must not exist."""
    leases: list[Lease] = field(default_factory=list)
    """By the number of leases before, as their counters tell it."""
    letters: list[Letter] = field(default_factory=list)

    @property
    def conclusions(self) -> list[tuple[Settled, Fate]]:
        """The acks and deaths that were accepted."""
        pairs = [pair for lease in self.leases for pair in lease.settlements]
        return [(call, fate) for call, fate in pairs if not fate.lost and fate.kind in CONCLUDED]


def lives_of(history: History) -> dict[str, Life]:
    """Return the life of every message that was sent or delivered, by id."""
    lives: dict[str, Life] = {}
    numbers: dict[str, int] = {}
    leases: dict[Key, Lease] = {}
    for call in history.calls:
        match call:
            case Sent():
                for item in call.items:
                    number = numbers[call.who] = numbers.get(call.who, -1) + 1
                    _bring(lives, item, call, number)
            case Claimed():
                for got in call.got:
                    lease = leases[got.id, got.token] = Lease(got, call)
                    lives.setdefault(got.id, Life(got.id)).leases.append(lease)
            case Settled():
                for fate in call.fates:
                    leases[fate.id, fate.token].settlements.append((call, fate))
                    for item in fate.successors:
                        _bring(lives, item, call, -1, refused=fate.lost)
            case Extended():
                for key, held in _extended(call):
                    leases[key].extensions.append((call, held))
    for letter in history.letters:
        lives.setdefault(letter.id, Life(letter.id)).letters.append(letter)
    for life in lives.values():
        life.leases.sort(key=lambda lease: lease.got.steps)
    return lives


def _extended(call: Extended) -> Iterator[tuple[Key, bool]]:
    yield from ((key, True) for key in call.kept)
    yield from ((key, False) for key in call.lost)


def _bring(
    lives: dict[str, Life],
    item: Item,
    call: Sent | Settled,
    number: int,
    *,
    refused: bool = False,
) -> None:
    # A consumer may have it before its producer's call returns, and so before
    # this one in the order of calls.
    life = lives.setdefault(item.id, Life(item.id))
    life.refused = refused
    if not refused:
        life.item, life.sent, life.number = item, call, number
