"""What is known of a message of which there may be more than one copy.

Where a settlement is a copy and then the end of the original, a step in doubt
may leave both. Every copy is a message of its own from then on, and nobody can
tell them apart; so nothing is followed here but what has to be true of all of
them together: none is lost unless one was concluded, none comes before its
time, and none when all were concluded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from msgspec.structs import replace

from taskq.clock import Seconds
from taskq.contract.delivery import DeadLetter, Delivery
from taskq.contract.message import Message
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.model.entry import Span, earliest
from taskq.testing.record import Ledger


@dataclass(slots=True)
class Grip:
    """A lease on one of the copies."""

    holder: int
    until: Span
    sure: bool = True
    """Its holder's connection certainly was not lost, and it has taken nothing back."""


@dataclass(slots=True)
class Copies:
    """All copies of one message. Nothing here says which is which."""

    message: Message
    tokens: set[str]
    most: int
    """There may be as many; each that was concluded is one less."""
    due: Span
    """None comes before."""
    owed: bool = True
    """One has to come, or to be a dead letter."""
    envelopes: set[bytes] = field(default_factory=set)
    """What a copy may hold: a retry changes the one it makes."""
    grips: dict[str, Grip] = field(default_factory=dict)
    buried: int = 0
    """As many are dead letters at least."""
    listed: int = 0
    """As many were seen, when they were listed last; two that are alike may look like one."""

    # Claims

    def claimed(
        self, delivery: Delivery, lease: Seconds, now: Span, *, by: int, ledger: Ledger
    ) -> None:
        """Check what one delivery says of a copy. Laws: L3, L4, L6, L12 to L14."""
        id, check = delivery.id, ledger.check
        check("L13", self.most > 0, f"{id} came: all copies of it were concluded or purged")
        check("L6", not self.due.pending(now), f"{id} came: no copy of it is due")
        held = sum(grip.sure and not _taken_back(grip, now, by) for grip in self.grips.values())
        check("L3", held + self.buried < self.most, f"{id} came: all of it are leased or dead")
        same = replace(delivery.message, envelope=self.message.envelope) == self.message
        known = delivery.message.envelope in self.envelopes
        check("L14", same and known, f"{id}: {delivery.message}")
        check("L4", delivery.token not in self.tokens, f"{id}: a token came twice")
        limit = self.message.max_deliveries
        check("L12", delivery.losses < limit, f"{id} came with {delivery.losses} losses of {limit}")
        end = now.plus(lease)
        check("L3", end.holds(delivery.lease_until), f"{id}: leased to {delivery.lease_until}")
        self.tokens.add(delivery.token)
        self.grips[delivery.token] = Grip(by, end)

    def looked(self, lease: Seconds, now: Span, *, by: int) -> None:
        """Take in that a claim may have found one that was cut, or have taken one back."""
        self.due = earliest(self.due, now.plus(lease))
        self.taken_back(now, by=by)

    def taken_back(self, now: Span, *, by: int) -> None:
        """Take in that client `by` may have taken back what is lost."""
        for grip in self.grips.values():
            if _taken_back(grip, now, by):
                grip.sure = False
                self.due = earliest(self.due, grip.until)

    def lapsed(self, now: Span, by: int) -> int:
        """Return how many client `by` may take back."""
        return sum(_taken_back(grip, now, by) for grip in self.grips.values())

    # Settlements

    def answered(self, token: str, ledger: Ledger, *, held: bool) -> None:
        """Check how a lease was judged; if it was lost, its copy is somewhere."""
        grip = self.grips.get(token)
        if grip is None:
            ledger.check("L4", not held, f"{self.message.id}: a stale token was accepted")
        elif not held:
            what = f"{self.message.id}: a lease that nobody had ended was lost"
            ledger.check("L3", not grip.sure, what)
            del self.grips[token]
        else:
            grip.sure = True

    def extended(self, token: str, until: Span) -> None:
        """Take in that a lease was extended."""
        self.grips[token].until = until

    def concluded(self, settlement: Settlement, now: Span) -> None:
        """Take in that a settlement took effect."""
        self.grips.pop(settlement.delivery.token, None)
        match settlement:
            case Ack():
                self.most -= 1
                self.owed = False
            case Dead():
                self.buried += 1
                self.owed = True
            case Retry() | Release():
                self.owed = True
                self._returned(settlement, now)

    def repeated(self, settlement: Settlement, now: Span, *, held: bool) -> None:
        """Take in that a settlement was in doubt, and whether the lease held when it was repeated.

        The first attempt may have made a copy, whether or not it ended the original.
        """
        if not isinstance(settlement, Ack):
            self.most += 1
        if held:
            self.concluded(settlement, now)
            return
        self.grips.pop(settlement.delivery.token, None)
        if isinstance(settlement, Ack):
            self.owed = False
        elif not isinstance(settlement, Dead):
            self._returned(settlement, now)

    def _returned(self, settlement: Retry | Release, now: Span) -> None:
        due = now.plus(settlement.delay)
        self.due = due if self.most == 1 else earliest(self.due, due)
        if isinstance(settlement, Retry) and settlement.envelope is not None:
            self.envelopes.add(settlement.envelope)

    def claimed_unseen(self, holder: int, until: Span) -> None:
        """Take in that a client may hold one until then, and not know it."""
        self.grips[f"? {holder} {until.early}"] = Grip(holder, until, sure=False)

    # Connections

    def cut_off(self, client: int) -> None:
        """Take in that a client has lost its connection."""
        for token in [token for token, grip in self.grips.items() if grip.holder == client]:
            del self.grips[token]

    def shaken(self, client: int) -> None:
        """Take in that a client may have lost its connection."""
        for grip in self.grips.values():
            grip.sure = grip.sure and grip.holder != client

    # Operators

    def seen_dead(self, letters: Collection[DeadLetter], ledger: Ledger) -> None:
        """Check what is listed of it. Laws: L13, L14, L19."""
        id = self.message.id
        self.listed = len(letters)
        right = self.buried <= self.listed <= self.most
        what = f"{id} is listed {self.listed} times, not {self.buried} to {self.most}"
        ledger.check("L19", right, what)
        for letter in letters:
            same = replace(letter.message, envelope=self.message.envelope) == self.message
            known = letter.message.envelope in self.envelopes
            ledger.check("L14", same and known, f"{id}: {letter}")
        self.owed = self.owed and not letters

    def requeued(self, now: Span) -> None:
        """Take in that its dead letters were made ready again."""
        self.owed = self.owed or self.listed > 0
        self.buried = self.listed = 0
        self.due = earliest(self.due, now)

    def requeued_in_doubt(self, now: Span) -> None:
        """Take in that its dead letters may have been made ready again, and be there still."""
        self.most += self.most if self.listed else 0
        self.requeued(now)

    def dropped(self) -> None:
        """Take in that its dead letters were dropped."""
        self.most -= self.listed
        self.buried = self.listed = 0

    def dropped_in_doubt(self) -> None:
        """Take in that its dead letters may have been dropped."""
        self.buried = 0

    def purged(self) -> None:
        """Take in that what waits of it was dropped, or may have been."""
        self.owed = self.buried > 0


def _taken_back(grip: Grip, now: Span, by: int) -> bool:
    """Say whether client `by` may take back a lease of its own."""
    return grip.holder == by and not grip.until.pending(now)
