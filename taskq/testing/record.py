"""Counts how often each law was put to the test, and stops at the first breach.

A law that was never tested looks exactly like a law that holds. So every check
of the kit goes through a `Ledger`, and the table of counts is shown after a run.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from taskq.contract.laws import LAWS

ENOUGH: Final = 20
"""Fewer checks than this of one law in a whole suite prove too little."""


class LawBroken(AssertionError):
    """A backend broke a law; `law` is its number."""

    def __init__(self, law: str, what: str) -> None:
        self.law = law
        super().__init__(f"{law} is broken: {what}\n    {law}: {LAWS[law]}")


class Record:
    """What a run has put to the test so far: checks per backend and law."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._whole: dict[str, set[str]] = {}

    def add(self, label: str, law: str) -> None:
        """Note one check of a law on the backend called `label`."""
        self._counts[label, law] += 1

    def times(self, label: str, law: str) -> int:
        """Return how often the law was put to the test on that backend."""
        return self._counts[label, law]

    def expect(self, label: str, laws: set[str]) -> None:
        """Note that a whole suite of these laws ran on that backend."""
        self._whole.setdefault(label, set()).update(laws)

    def scarce(self, *, enough: int = ENOUGH) -> list[str]:
        """Return one sentence for each law that a whole suite tested too rarely."""
        return [
            f"{law} was put to the test only {self.times(label, law)} times on {label}; "
            f"{enough} are needed before it can be said to hold"
            for label, laws in sorted(self._whole.items())
            for law in LAWS
            if law in laws and self.times(label, law) < enough
        ]

    def table(self) -> list[str]:
        """Return the lines of the table law × backend; none if nothing was tested."""
        labels = sorted({label for label, _ in self._counts})
        if not labels:
            return []
        widths = [max(len(label), 7) for label in labels]
        lines = ["law  " + "  ".join(f"{a:>{w}}" for a, w in zip(labels, widths, strict=True))]
        for law in LAWS:
            cells = [
                f"{self.times(label, law) or '-':>{width}}"
                for label, width in zip(labels, widths, strict=True)
            ]
            lines.append(f"{law:<4} " + "  ".join(cells))
        return lines


class Ledger:
    """A record's page for one backend; what every check is written in."""

    def __init__(self, label: str, record: Record | None = None) -> None:
        self.label = label
        self.record = record or Record()

    def check(self, law: str, holds: bool, what: str) -> None:
        """Count one check of a law that could have failed.

        Raises:
            LawBroken: it did.
        """
        self.record.add(self.label, law)
        if not holds:
            raise LawBroken(law, what)
