"""What is known of the results of one namespace."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from taskq.contract.results import ResultRecord
from taskq.testing.model.entry import Span
from taskq.testing.record import Ledger


@dataclass(frozen=True, slots=True)
class Stored:
    """A result record, and until when it can be read."""

    record: ResultRecord
    until: Span
    challenged: bool = False
    """A record of an older run was stored later, in vain."""


class Records:
    """The results of one namespace. Laws: R1 to R3, R6, R8."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stored: dict[str, Stored] = {}

    @property
    def ids(self) -> list[str]:
        """All ids that ever had a result and were not forgotten."""
        return list(self._stored)

    def readable(self, id: str, now: Span) -> bool | None:
        """Say whether the id has a result; None if nobody can know."""
        stored = self._stored.get(id)
        if stored is None or stored.until.passed(now):
            return False
        return True if stored.until.pending(now) else None

    def stored(self, record: ResultRecord, now: Span) -> None:
        """Take in that a record was stored."""
        old = self._stored.get(record.id)
        if old is None or old.until.passed(now) or record.run >= old.record.run:
            self._stored[record.id] = Stored(record, now.plus(record.ttl))
        elif old.until.pending(now):
            self._stored[record.id] = Stored(old.record, old.until, challenged=True)
        else:
            # The one of the higher run may be there still, and refuse others.
            kept = max(record, old.record, key=_run)
            self._stored[record.id] = Stored(kept, Span(now.early, math.inf))

    def doubt(self, id: str, run: int = 0) -> None:
        """Take in that a record of this run may have been stored, or the one there was be gone."""
        old = self._stored.get(id)
        highest = run if old is None else max(run, old.record.run)
        nothing = ResultRecord(id, highest, "", b"", 0.0)
        self._stored[id] = Stored(nothing, Span(-math.inf, math.inf))

    def forget(self, id: str) -> None:
        """Take in that the id has no result any more."""
        self._stored.pop(id, None)

    def fetched(
        self, ids: Collection[str], found: dict[str, ResultRecord], now: Span, *, law: str = "R6"
    ) -> None:
        """Compare the records with those there ought to be."""
        check = self._ledger.check
        for id in ids:
            record, stored = found.get(id), self._stored.get(id)
            if stored is None:
                check(law, record is None, f"{id}: a result that was never stored")
            elif stored.until.passed(now):
                check("R3", record is None, f"{id}: a result after its ttl")
            elif stored.until.pending(now):
                check(law, record is not None, f"{id}: its result is missing")
                self._same_record(record, stored)
        check("R6", set(found) <= set(ids), "fetch returned ids nobody asked for")

    def _same_record(self, found: ResultRecord | None, stored: Stored) -> None:
        if found is None:
            return
        kept = stored.record
        check = self._ledger.check
        if stored.challenged:
            check("R2", found.run == kept.run, f"{found.id}: an older run replaced it")
        same = (found.run, found.state, found.payload) == (kept.run, kept.state, kept.payload)
        check("R8", same, f"{found.id}: {found} is not what was stored")


def _run(record: ResultRecord) -> int:
    return record.run
