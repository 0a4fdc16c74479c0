"""How far claims have come in a queue, so that the next need not pass what they left behind.

PostgreSQL leaves a row that was changed or deleted in the index until a vacuum,
and a claim passes all of those that lie before what it wants. In the drain of a
long queue that is everything claimed so far, three times over: in the look for
anything ready, in the look for leases that have ended, and in the claim.

So for `LASTS` seconds after a claim that began with a look, found nothing due
or lost, and took all it asked for, claims start where the last one ended and
look for nothing else. What can lie before that place and still be ready?

* What has returned to the head of a level: the heads are read every time.
* What is of a more urgent level: each level has a place of its own.
* What was due and not yet promoted: nothing was, when this began.
* What was sent or retried in a transaction that began before that claim and
  ended after it, or by a server whose clock was set back: the places are held
  `OLD` seconds in the past. Whatever took longer than that, what a claim that
  was rolled back had held, what becomes due and what is lost meanwhile waits
  for the next look, `LASTS` seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from taskq.clock import MICROSECONDS, Seconds
from taskq.contract.message import HIGHEST
from taskq_sql.dialects import Parameters
from taskq_sql.moves import HEAD

LASTS: Final[Seconds] = 0.5
OLD: Final = 10 * MICROSECONDS
"""A send gives up after as long, unless its caller says otherwise."""
_END: Final = 2**63 - 1


class Reach(NamedTuple):
    """A place in each level before which there is nothing but heads. Immutable."""

    looked: float
    """When there was a look, by the monotonic clock."""
    offset: int
    """By how much tests had moved the server's clock."""
    places: Mapping[int, int]
    """By level, in microseconds; 0 or absent: nothing is known."""

    def lasts(self, offset: int) -> bool:
        return offset == self.offset and time.monotonic() - self.looked < LASTS

    def beyond(self, rows: Sequence[Any], now: int) -> Reach:
        """Return how far it is after a claim of these rows, in order and as many as were wanted."""
        *_, level, at = rows[-1]
        old = now - OLD
        places = {**self.places, **dict.fromkeys(range(level), old)}
        if at != HEAD:
            places[level] = min(at, old)
        return self._replace(places=places)

    def spans(self) -> Parameters:
        """Return what to read, in order, as parameters: levels, and from where to where."""
        spans: list[tuple[int, int, int]] = []
        for level in range(HIGHEST + 1):
            place = self.places.get(level, HEAD)
            if place > HEAD:
                spans.append((level, HEAD, HEAD))
            spans.append((level, place, _END))
        levels, lows, highs = zip(*spans, strict=True)
        return {"levels": list(levels), "lows": list(lows), "highs": list(highs)}
