"""Judges a ledger: what was lost, doubled, run in parallel or concluded by the wrong holder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from taskq.contract.results import ResultRecord
from tests.chaos.ledger import DEATH, FINISH, START, Entry


@dataclass(frozen=True)
class Verdict:
    """What a ledger, and the results of the tasks sent, tell about them."""

    sent: int
    starts: int
    lost: list[str]
    """Sent, but with no finish in the ledger or no readable result of success."""
    parallel: list[str]
    """Started again while the holder of another run lived and had not finished."""
    again: list[str]
    """Finished more than once; an id is listed for each time beyond the first."""
    stale: list[str]
    """The result kept is that of a run that was no longer the latest."""
    in_flight: set[str] = field(repr=False)
    """Held by a worker, run or not yet concluded, when it was killed."""

    def breaches(self) -> list[str]:
        """Return the invariants that do not hold, in a word each."""
        found = {
            "lost": self.lost,
            "parallel": self.parallel,
            "again": [id for id in set(self.again) if id not in self.in_flight],
            "too often": self.again[len(self.in_flight) :],
            "stale": self.stale,
        }
        return [name for name, ids in found.items() if ids]

    def __str__(self) -> str:
        return (
            f"{self.sent} tasks, {self.starts} starts: {len(self.lost)} lost, "
            f"{len(self.parallel)} in parallel, {len(self.again)} finished again, "
            f"{len(self.stale)} stale results, {len(self.in_flight)} in flight at kills"
        )


def judge(
    ids: Sequence[str],
    entries: Sequence[Entry],
    results: Mapping[str, ResultRecord],
    in_flight: set[str],
) -> Verdict:
    """Return the verdict on the tasks `ids`."""
    mine = set(ids)
    starts = [e for e in entries if e.event == START and e.id in mine]
    finishes = Counter(e.id for e in entries if e.event == FINISH and e.id in mine)
    latest: dict[str, int] = {}
    for start in starts:
        latest[start.id] = max(latest.get(start.id, 0), start.run)
    good = {id for id, record in results.items() if record.state == "SUCCESS"}
    return Verdict(
        sent=len(mine),
        starts=len(starts),
        lost=sorted(id for id in mine if id not in good or not finishes[id]),
        parallel=_parallel(entries, mine),
        again=[id for id, count in finishes.items() for _ in range(count - 1)],
        stale=sorted(id for id in good & mine if results[id].run < latest.get(id, 0)),
        in_flight=in_flight & mine,
    )


def _parallel(entries: Sequence[Entry], ids: set[str]) -> list[str]:
    """Return an id for each pair of its runs that overlap in time."""
    deaths = {e.pid: e.at for e in entries if e.event == DEATH}
    running: dict[tuple[int, int], Entry] = {}
    spans: dict[str, list[tuple[int, int]]] = {id: [] for id in ids}

    def end(start: Entry, at: int) -> None:
        if start.id in spans:
            spans[start.id].append((start.at, at))

    for entry in entries:
        place = entry.pid, entry.thread
        if entry.event == START:
            running[place] = entry
        elif entry.event == FINISH:
            end(running.pop(place), entry.at)
    for (pid, _), start in running.items():
        end(start, deaths.get(pid, entries[-1].at))
    return [
        id
        for id, runs in spans.items()
        for before, after in pairwise(sorted(runs))
        if after[0] < before[1]
    ]
