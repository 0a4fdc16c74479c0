"""What is known of the workers that are alive."""

from __future__ import annotations

from collections.abc import Sequence

from taskq.clock import Seconds
from taskq.contract.delivery import Heartbeat
from taskq.testing.model.entry import Span
from taskq.testing.record import Ledger


class Workers:
    """The heartbeats of one namespace. Law: L23."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._beats: dict[str, tuple[Heartbeat, Span]] = {}

    @property
    def beats(self) -> list[Heartbeat]:
        """The last beat of every worker that ever beat."""
        return [beat for beat, _ in self._beats.values()]

    def beaten(self, beat: Heartbeat, ttl: Seconds, now: Span) -> None:
        """Take in a heartbeat."""
        self._beats[beat.incarnation] = (beat, now.plus(ttl) if ttl > 0 else Span(0.0, 0.0))

    def alive(self, beats: Sequence[Heartbeat], now: Span) -> None:
        """Compare the list of workers with what it ought to be."""
        check = self._ledger.check
        names = [beat.worker for beat in beats]
        check("L23", names == sorted(names), f"workers are not sorted: {names}")
        found = {beat.incarnation: beat for beat in beats}
        for incarnation, (beat, until) in self._beats.items():
            if until.pending(now):
                same = found.get(incarnation) == beat
                check("L23", same, f"{beat.worker} is not listed with its last beat")
            elif until.passed(now):
                gone = incarnation not in found
                check("L23", gone, f"{beat.worker} is listed after its time")
        check("L23", len(beats) == len(found), "one worker is listed twice")
