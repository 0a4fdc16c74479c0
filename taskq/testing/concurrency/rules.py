"""The rules of one message: what its leases, taken together, must not show.

Every rule says "broken" only where no order of the overlapping calls would
make it right. Calls overlap as well if one begins at the very instant at which
the other ended: a clock may be coarse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from taskq.testing.concurrency.excerpt import excerpt
from taskq.testing.concurrency.history import Extended, History, Instant, Settled
from taskq.testing.concurrency.life import CONCLUDED, DRIFT, Lease, Life, lives_of
from taskq.testing.concurrency.order import check_order
from taskq.testing.model.entry import backoff
from taskq.testing.record import Ledger


def check_history(
    history: History, ledger: Ledger, *, ended: bool = True, timed: bool = True
) -> dict[str, Life]:
    """Put a history to the test; return the lives it is made of.

    Unless it has `ended`, messages may still come that have not been concluded.
    Leases are `timed` if they end by time alone, else their holder takes them back.

    Laws: L1, L3 to L14, L17, L19.

    Raises:
        LawBroken: with the history of the message that shows it.
    """
    lives = lives_of(history)
    rules = Rules(ledger, history.start)
    for call in history.calls:
        if isinstance(call, Settled | Extended):
            what = f"{call.who} was told of losses it had not asked about: {call.strange}"
            ledger.check("L17", not call.strange, what)
    for life in lives.values():
        rules.check(life, ended=ended)
    check_order(history, lives, ledger, timed=timed)
    return lives


class Rules:
    """The rules, written into one ledger."""

    def __init__(self, ledger: Ledger, start: Instant) -> None:
        self._ledger = ledger
        self._start = start

    def check(self, life: Life, *, ended: bool) -> None:
        """Put one message to the test."""
        self._origin(life)
        self._tokens(life)
        self._stale(life)
        self._settlements(life)
        self._overlaps(life)
        self._counters(life)
        self._content(life)
        self._rests(life)
        if ended:
            self._end(life)

    def _test(self, law: str, holds: bool, what: str, life: Life) -> None:
        text = "" if holds else f"{what}\n  {excerpt(life, self._start)}"
        self._ledger.check(law, holds, text)

    def _origin(self, life: Life) -> None:
        """Nothing that was never sent appears."""
        if life.refused:
            came = bool(life.leases or life.letters)
            self._test("L4", not came, "an ack that was lost has sent its successor", life)
        elif life.item is None:
            self._test("L14", False, "a message came that nobody sent", life)

    def _tokens(self, life: Life) -> None:
        claims = Counter(id(lease.claim) for lease in life.leases)
        twice = any(count > 1 for count in claims.values())
        tokens = {lease.got.token for lease in life.leases}
        if life.leases:
            self._test("L3", not twice, "one message came twice in one claim", life)
        if len(life.leases) > 1:
            self._test("L4", len(tokens) == len(life.leases), "two leases had one token", life)

    def _stale(self, life: Life) -> None:
        """Once somebody else has the message, or its holder was told so, a token is worthless."""
        for lease in life.leases:
            successes = list(_successes(lease))
            for since in _ends(lease, life.leases):
                stale = [what for at, what in successes if at > since]
                what = f"a stale token was accepted: {', '.join(stale)}"
                self._test("L4", not stale, what, life)

    def _settlements(self, life: Life) -> None:
        """A lease is settled once, and is not lost before it ends."""
        for lease in life.leases:
            accepted = [pair for pair in lease.settlements if not pair[1].lost]
            if len(lease.settlements) > 1:
                what = "two settlements of one delivery were accepted"
                self._test("L17", len(accepted) < 2, what, life)
            for call, fate in lease.settlements:
                settled = any(other.before <= call.after for other, _ in accepted)
                if call.after <= lease.until and not (fate.lost and settled):
                    what = "a lease was lost before its end"
                    self._test("L3", not fate.lost, what, life)
            for extension, held in lease.extensions:
                settled = any(other.before <= extension.after for other, _ in accepted)
                if extension.after <= lease.until and not settled:
                    self._test("L3", held, "a lease was lost before its end", life)

    def _overlaps(self, life: Life) -> None:
        """While one lease certainly runs, there is no second one."""
        for one, other in combinations(life.leases, 2):
            (start, end), (begin, over) = one.certain, other.certain
            both = max(start, begin) < min(end, over)
            within = _claimed_within(other, one) or _claimed_within(one, other)
            self._test("L3", not both and not within, "two leases ran at the same time", life)

    def _counters(self, life: Life) -> None:
        """Each lease counts exactly how those before it ended; none follows a conclusion."""
        before: Lease | None = None
        for lease in life.leases:
            if before is not None:
                concluded = before.accepted is not None and before.accepted[1].kind in CONCLUDED
                self._test("L13", not concluded, "a concluded message came again", life)
            got, expected = lease.got, _next(before)
            what = f"retries, losses, releases are {got.counters}, not {expected}"
            self._test("L11", got.counters == expected, what, life)
            run = got.retries + got.losses
            self._test("L11", got.run == run, f"run is {got.run}, not {run}", life)
            before = lease
        for letter in life.letters:
            same = bool(life.leases) and letter.counters == life.leases[-1].got.counters
            what = "the dead letter counts otherwise than the last delivery"
            self._test("L11", same or letter.code == "worker_lost", what, life)

    def _content(self, life: Life) -> None:
        if life.item is None:
            return
        envelope = life.item.envelope
        for lease in life.leases:
            got = lease.got
            came = (got.queue, got.priority, got.envelope)
            sent = (life.item.queue, life.item.priority, envelope)
            self._test("L14", came == sent, f"{came} came, not {sent}", life)
            accepted = lease.accepted
            if accepted is not None and accepted[1].envelope is not None:
                envelope = accepted[1].envelope

    def _rests(self, life: Life) -> None:
        """A delay or a backoff is over when the message comes again."""
        for lease, follower in pairwise(life.leases):
            accepted = lease.accepted
            if accepted is None:
                pause = backoff(follower.got.losses)
                soon = follower.claim.after < lease.until + pause
                self._test("L5", not soon, f"it came within {pause:g} s of a loss", life)
            elif accepted[1].delay:
                due = accepted[0].before + accepted[1].delay - DRIFT
                soon = follower.claim.after < due
                self._test("L6", not soon, "it came before its delay was over", life)

    def _end(self, life: Life) -> None:
        """Each message that was sent is concluded, and the dead are listed."""
        if life.item is None:
            return
        concluded = next(iter(life.conclusions), None)
        if concluded is None:
            lost = any(letter.code == "worker_lost" for letter in life.letters)
            self._test("L12", not lost, "it died of losses, short of its max_deliveries", life)
            law, what = _missing(life)
            self._test(law, False, what, life)
            return
        self._test("L1", True, "", life)
        dead, listed = concluded[1].kind == "dead", len(life.letters)
        if dead or listed:
            what = f"concluded as {concluded[1].kind}, and listed {listed} times among the dead"
            self._test("L19", listed == int(dead), what, life)


def _claimed_within(lease: Lease, other: Lease) -> bool:
    """Say whether a claim was certainly made while another lease certainly ran."""
    start, end = other.certain
    return start < lease.claim.before and lease.claim.after < end


def _successes(lease: Lease) -> Iterator[tuple[Instant, str]]:
    """Yield when a token was accepted, and for what; each call's earliest instant."""
    for call, fate in lease.settlements:
        if not fate.lost:
            yield call.before, fate.kind
    for extension, held in lease.extensions:
        if held:
            yield extension.before, "extend"


def _ends(lease: Lease, leases: Sequence[Lease]) -> Iterator[Instant]:
    """Yield instants since when a token was certainly worth nothing."""
    for other in leases:
        # One that came while the lease still ran is the other's breach, not this one's.
        over = lease.until_by(other.claim.before)
        if other.claim.before > lease.claim.after and other.claim.after > over:
            yield other.claim.after
    if lease.refused is not None:
        yield lease.refused


def _next(lease: Lease | None) -> tuple[int, int, int]:
    """Return the counters of the lease after this one."""
    if lease is None:
        return 0, 0, 0
    retries, losses, releases = lease.got.counters
    kind = lease.accepted[1].kind if lease.accepted is not None else "loss"
    match kind:
        case "retry":
            return retries + 1, losses, releases
        case "release":
            return retries, losses, releases + 1
    return retries, losses + 1, releases


def _missing(life: Life) -> tuple[str, str]:
    """Return the law that a message breaks which was never concluded, and how."""
    if not life.leases:
        return "L1", "it was sent, and never came"
    accepted = life.leases[-1].accepted
    if accepted is None:
        return "L5", "its lease ended, and it never came again"
    return "L7" if accepted[1].delay else "L1", f"after a {accepted[1].kind} it never came again"
