"""What a broker may and must know about each message: values, no I/O.

The kit's model is a relation, not a twin: a message whose lease has just ended
may or may not have been reclaimed, and both are right until somebody can tell.
An instant is therefore a `Span`, since real time also flows between the two
ends of a call, and "certainly passed" and "certainly not passed" leave a gap
in which a backend may do as it likes.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Final

from taskq.clock import Seconds, Timestamp
from taskq.contract.delivery import Delivery, State
from taskq.contract.message import Message

DRIFT: Final[Seconds] = 0.5
"""How far a server's clock may stray from ours within an example."""
LONGEST_BACKOFF: Final[Seconds] = 60.0
NOBODY: Final = 0
"""The number of no client."""


def backoff(losses: int) -> Seconds:
    """Return how long a message rests after its so-many-eth loss."""
    return 0.0 if losses < 2 else min(LONGEST_BACKOFF, 2.0 ** (losses - 2))


@dataclass(frozen=True, slots=True)
class Span:
    """An instant, known to lie between two bounds."""

    early: Timestamp
    late: Timestamp

    def plus(self, seconds: Seconds) -> Span:
        return Span(self.early + seconds, self.late + seconds)

    def pending(self, now: Span) -> bool:
        """Say whether the instant has certainly not come."""
        return self.early > now.late + DRIFT

    def passed(self, now: Span) -> bool:
        """Say whether the instant has certainly come."""
        return self.late + DRIFT <= now.early

    def holds(self, instant: Timestamp) -> bool:
        """Say whether a server's `instant` can be this one."""
        return self.early - DRIFT <= instant <= self.late + DRIFT


def earliest(*instants: Span) -> Span:
    """Return the one of several instants that may come first."""
    return min(instants, key=lambda instant: instant.early)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its level a message stands."""

    returned: bool = False
    """Lost or released: before all others."""
    producer: int | None = None
    """Who sent it, if it was sent without delay and has never been delivered."""
    order: tuple[int, int] | None = None
    """The step in which it joined the tail, if that is known, and its number
    there; 0 if no law orders it among what joined in the same step."""
    due: Span | None = None
    """When it was to join the tail, if later than it was sent."""
    joined: Span = Span(-math.inf, math.inf)

    def rule(self, other: Place) -> str | None:
        """Return the law that orders two messages of one level, if one does."""
        if self.returned != other.returned:
            return "L10"
        if self.returned:
            return None
        if self.producer is not None and other.producer is not None:
            return "L9" if self.producer == other.producer else None
        return "L10" if self.before(other) or other.before(self) else None

    def before(self, other: Place) -> bool:
        """Say whether this place is certainly in front of the other one."""
        if self.returned or other.returned:
            return self.returned and not other.returned
        if self.order is not None and other.order is not None:
            (step, number), (other_step, other_number) = self.order, other.order
            return 0 < number < other_number if step == other_step else step < other_step
        if self.due is not None and other.due is not None:
            return self.due.late + DRIFT < other.due.early
        return self.joined.late < other.joined.early - (DRIFT if other.due else 0)


def later(due: Span) -> Place:
    """Return the place of what joins the tail when due, and who knows when after."""
    return Place(due=due, joined=Span(due.early, math.inf))


class Where(enum.Enum):
    """Where the model has a message."""

    WAITING = enum.auto()
    LEASED = enum.auto()
    CUT = enum.auto()
    """Its holder lost the connection that its lease was tied to, and no claim found it yet."""
    DEAD = enum.auto()
    GONE = enum.auto()
    BLURRED = enum.auto()
    """There may be more than one copy of it: see `taskq.testing.model.copies`."""


@dataclass(slots=True)
class Entry:
    """What is known about one message."""

    message: Message
    place: Place
    where: Where = Where.WAITING
    due: Span | None = None
    """When it may start; None if at once."""
    moved: bool = True
    """It certainly is ready: nobody has to promote it first."""
    expires: Span | None = None
    delivery: Delivery | None = None
    until: Span = Span(0.0, 0.0)
    """When its lease ends; if it was cut, when that was."""
    holder: int = 0
    """The client that claimed it last."""
    tied: bool = False
    """While its holder's connection lives, nobody but the holder ends its lease."""
    retries: int = 0
    losses: int = 0
    releases: int = 0
    run: int = 0
    first_released: Span | None = None
    code: str = ""
    detail: str | None = None
    died: Span = Span(0.0, 0.0)
    sure: bool = True
    """It certainly exists. Only an observation can tell otherwise."""
    tokens: set[str] = field(default_factory=set)
    ghost: Span | None = None
    """Waiting, unless a claim whose answer was lost has leased it until then."""
    reason: str = "L1"
    """The law that is broken if a reserve does not return it though it is ready."""

    @property
    def id(self) -> str:
        return self.message.id

    @property
    def counters(self) -> tuple[int, int, int, int]:
        return (self.retries, self.losses, self.releases, self.run)

    def copy(self) -> Entry:
        """Return another way things may be; both have seen the same tokens."""
        return replace(self)

    def lapsed(self, now: Span, by: int = NOBODY) -> bool:
        """Say whether its lease may have ended, so that client `by` may take it back."""
        ends = not self.tied or by == self.holder
        return self.where is Where.LEASED and ends and not self.until.pending(now)

    def lost(self, now: Span, by: int = NOBODY) -> bool:
        """Say whether its lease has certainly ended; see `lapsed`."""
        return self.lapsed(now, by) and self.until.passed(now)

    def unmoved(self, now: Span) -> bool:
        """Say whether somebody may have to promote it now."""
        return (
            self.where is Where.WAITING
            and not self.moved
            and (self.due is None or not self.due.pending(now))
        )

    def promotable(self, now: Span) -> bool:
        """Say whether it may be promoted now: it is due, or was found lost and has rested."""
        losses = self.losses + 1
        rests = 2 <= losses < self.message.max_deliveries
        rested = rests and not self.until.plus(backoff(losses)).pending(now)
        return self.unmoved(now) or (self.where is Where.LEASED and not self.tied and rested)

    def overdue(self, now: Span) -> bool:
        """Say whether it certainly is due, though perhaps not promoted."""
        return self.unmoved(now) and (self.due is None or self.due.passed(now))

    def withheld(self, now: Span, by: int = NOBODY) -> str | None:
        """Return the law that forbids to deliver it to client `by` now, if one does."""
        match self.where:
            case Where.GONE | Where.DEAD:
                return "L13"
            case Where.CUT:
                return "L3"
            case Where.LEASED if not self.lapsed(now, by):
                return "L3"
            case Where.LEASED if self.losses + 1 >= self.message.max_deliveries:
                return "L12"
            case Where.LEASED if self.until.plus(backoff(self.losses + 1)).pending(now):
                return "L5"
            case Where.WAITING if self.due is not None and self.due.pending(now):
                return "L6" if self.losses < 2 else "L5"
        return None

    def states(self, now: Span) -> frozenset[State]:
        """Return the states in which a broker may report it; empty if it is gone."""
        match self.where:
            case Where.GONE:
                return frozenset()
            case Where.DEAD:
                return frozenset({State.DEAD})
            case Where.BLURRED:
                return frozenset(State)
            case Where.CUT:
                return frozenset({State.READY, State.PROCESSING})
            case Where.LEASED if not self.lapsed(now):
                return frozenset({State.PROCESSING})
            case Where.LEASED:
                return frozenset({State.PROCESSING}) | self._states_if_lost(now)
            case Where.WAITING if self.ghost is not None:
                return self._states_if_waiting(now) | self._states_if_haunted(self.ghost, now)
        return self._states_if_waiting(now)

    def _states_if_waiting(self, now: Span) -> frozenset[State]:
        if self.moved:
            return frozenset({State.READY})
        if self.due is not None and self.due.pending(now):
            return frozenset({State.SCHEDULED})
        return frozenset({State.SCHEDULED, State.READY})

    def _states_if_haunted(self, ghost: Span, now: Span) -> frozenset[State]:
        leased = replace(self, where=Where.LEASED, until=ghost, ghost=None)
        return leased.states(now)

    def _states_if_lost(self, now: Span) -> frozenset[State]:
        losses = self.losses + 1
        if losses >= self.message.max_deliveries:
            return frozenset({State.DEAD})
        if losses == 1:
            return frozenset({State.READY})
        early = self.until.plus(backoff(losses))
        return frozenset(
            {State.SCHEDULED} if early.pending(now) else {State.SCHEDULED, State.READY}
        )

    def reclaim(self, now: Span) -> None:
        """Take in that its lease was found to have ended, `now` at the latest."""
        self._lose(Span(self.until.early, now.late), rest=0.0)

    def cut(self, now: Span) -> None:
        """Take in that its holder's connection was lost."""
        self.where, self.delivery, self.until = Where.CUT, None, now

    def find(self, now: Span, lease: Seconds) -> None:
        """Take in that a claim for `lease` seconds found it cut: it may be at work as long."""
        self._lose(now, rest=lease)

    def _lose(self, ended: Span, *, rest: Seconds) -> None:
        self.losses += 1
        self.run += 1
        self.delivery = None
        self.place = Place(returned=True)
        if self.losses >= self.message.max_deliveries:
            self.bury(ended, code="worker_lost", detail=None)
            return
        self.where = Where.WAITING
        self.reason = "L5"
        rest += backoff(self.losses)
        self.due = ended.plus(rest) if rest else None
        self.moved = self.due is None

    def unmask(self, *, real: bool) -> None:
        """Take in whether the claim whose answer was lost has leased it."""
        ghost, self.ghost = self.ghost, None
        if real and ghost is not None:
            self.where, self.delivery, self.until, self.due = Where.LEASED, None, ghost, None

    def bury(self, died: Span, *, code: str, detail: str | None) -> None:
        """Make it a dead letter."""
        self.where = Where.DEAD
        self.delivery = None
        self.died, self.code, self.detail = died, code, detail

    def promote(self, now: Span) -> None:
        """Take in that it certainly has become ready, `now` at the latest."""
        self.moved = True
        place = self.place
        if not place.returned:
            early = self.due.early if self.due else now.early
            self.place = Place(due=place.due, joined=Span(early, now.late))

    def wait(self, place: Place, due: Span | None) -> None:
        """Put it among the waiting ones; None means that it is ready at once."""
        self.where = Where.WAITING
        self.delivery = None
        self.place = place
        self.due = due
        self.moved = due is None
        self.reason = "L1" if due is None else "L7"
