"""A message's history as lines, for a failure: who had it when, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from taskq.testing.concurrency.history import Claimed, Fate, Instant, Settled
from taskq.testing.concurrency.life import Lease, Life

LONGEST = 24
"""Lines of one message's excerpt; the earliest are left out."""


def excerpt(life: Life, start: Instant) -> str:
    """Return a message's history, in milliseconds since `start`."""
    lines = [line for _, line in sorted(_lines(life, start), key=lambda pair: pair[0])]
    if len(lines) > LONGEST:
        lines = [f"… {len(lines) - LONGEST} lines before", *lines[-LONGEST:]]
    return "\n    ".join([_title(life), *lines])


def of_claim(claim: Claimed, start: Instant) -> str:
    """Return a claim in one line."""
    return (
        f"{_when(claim.before, claim.after, start)} {claim.who} reserved {len(claim.got)} of "
        f"{claim.limit} from {', '.join(claim.queues)} for {claim.lease:g} s"
    )


def _title(life: Life) -> str:
    if life.item is None:
        return f"{life.id}, which nobody sent:"
    return f"{life.id} (queue {life.item.queue}, priority {life.item.priority}):"


def _lines(life: Life, start: Instant) -> Iterator[tuple[Instant, str]]:
    if life.sent is not None:
        how = "concluded its parent" if isinstance(life.sent, Settled) else "sent it"
        yield life.sent.before, _line(life.sent.before, life.sent.after, start, life.sent.who, how)
    for lease in life.leases:
        yield from _lease(lease, start)
    for letter in life.letters:
        retries, losses, releases = letter.counters
        counts = f"retries {retries}, losses {losses}, releases {releases}"
        yield inf, f"at the end a dead letter: {letter.code}, {counts}"


def _lease(lease: Lease, start: Instant) -> Iterator[tuple[Instant, str]]:
    got, claim = lease.got, lease.claim
    what = (
        f"reserved it for {claim.lease:g} s, token {got.token}, retries {got.retries}, "
        f"losses {got.losses}, releases {got.releases}, run {got.run}"
    )
    yield claim.before, _line(claim.before, claim.after, start, claim.who, what)
    for call, held in lease.extensions:
        what = f"extended token {got.token} by {call.lease:g} s" + ("" if held else ": lost")
        yield call.before, _line(call.before, call.after, start, call.who, what)
    for settled, fate in lease.settlements:
        what = _settlement(fate)
        yield settled.before, _line(settled.before, settled.after, start, settled.who, what)


def _settlement(fate: Fate) -> str:
    delay = f" in {fate.delay:g} s" if fate.delay else ""
    return f"{fate.kind}{delay}, token {fate.token}: {'lost' if fate.lost else 'accepted'}"


def _line(before: Instant, after: Instant, start: Instant, who: str, what: str) -> str:
    return f"{_when(before, after, start)} {who} {what}"


def _when(before: Instant, after: Instant, start: Instant) -> str:
    return f"{(before - start) * 1000:9.2f} to {(after - start) * 1000:9.2f} ms"
