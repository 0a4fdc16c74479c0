"""Counts how often each law was put to the test, and stops at the first breach.

A law that was never tested looks exactly like a law that holds. So every check
of the kit goes through a `Ledger`, and a run ends with a table of the counts.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from taskq.contract.laws import LAWS

ENOUGH: Final = 20
"""Fewer checks than this of one law prove too little."""


class LawBroken(AssertionError):
    """A backend broke a law: `law` is its number, `what` tells what happened."""

    def __init__(self, law: str, what: str) -> None:
        self.law = law
        self.what = what
        super().__init__(f"{law} is broken: {what}\n    {law}: {LAWS[law]}")


class NotApplicable(Exception):
    """An example asks for something the backend rightly lacks; `str` says what.

    The only way in which an example may end without having proved anything.
    """


class Ledger:
    """The page of one backend; what every check is written in. Used by one thread."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.counts: Counter[str] = Counter()
        self.broken = ""
        """The first law that was broken; what follows looks for a shorter way to break it."""

    def check(self, law: str, holds: bool, what: str) -> None:
        """Count one check of a law that could have failed.

        Raises:
            LawBroken: it did.
        """
        self.counts[law] += 1
        if not holds:
            self.broken = self.broken or law
            raise LawBroken(law, what)

    def times(self, law: str) -> int:
        """Return how often the law was put to the test."""
        return self.counts[law]
