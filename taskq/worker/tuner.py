"""How many messages to hold, from how long the last ones took.

By Little's law a worker whose slots each need `t` seconds per task starts what
it holds within `held * t / slots`. So it holds as many as make that 50 ms, and
no more than one per slot (times `prefetch`) while `t` is unknown or long. When
nothing ends for that long, `t` is unknown again: what runs now is of another
kind than what ran before.
"""

from __future__ import annotations

from typing import Final

from taskq.clock import Seconds

HORIZON: Final[Seconds] = 0.05
"""What is held is expected to start within this."""
MEMORY: Final = 0.5
"""Weight of the past in the moving average, per claim."""


class SlotClock:
    """What one slot has done. Written by its thread, read by the tuner."""

    __slots__ = ("busy", "done")

    def __init__(self) -> None:
        self.done = 0
        self.busy: Seconds = 0.0


class Tuner:
    """Sizes claims. Used by the claimer's thread alone."""

    def __init__(self, slots: int, *, prefetch: int, prefetch_max: int) -> None:
        self._slots = slots
        self._floor = slots * prefetch
        self._ceiling = slots * prefetch_max
        self.clocks = [SlotClock() for _ in range(slots)]
        self._done = 0
        self._busy: Seconds = 0.0
        self._mean: Seconds | None = None
        self._learned: Seconds = 0.0

    @property
    def done(self) -> int:
        """How many tasks have ended since the start."""
        return sum(clock.done for clock in self.clocks)

    @property
    def low(self) -> int:
        """How many may still wait when it is time to claim more."""
        return self.held // 2 if self.held > self._floor else 0

    @property
    def held(self) -> int:
        """How many messages to hold, those that run included."""
        if self._mean is None or self._mean > HORIZON or self._floor == self._ceiling:
            return self._floor
        soon = int(HORIZON / max(self._mean, 1e-6) * self._slots)
        return max(self._floor, min(soon, self._ceiling))

    def wanted(self, *, waiting: int, idle: int, now: float) -> int:
        """Return how many to claim at the monotonic time `now`."""
        running = self._slots - idle
        self._learn(now, running)
        return self.held - waiting - running

    def _learn(self, now: float, running: int) -> None:
        done = self.done
        if done == self._done:
            if not running:
                self._learned = now
            elif now - self._learned > HORIZON:
                self._mean = None
            return
        self._learned = now
        busy = sum(clock.busy for clock in self.clocks)
        mean = (busy - self._busy) / (done - self._done)
        self._done, self._busy = done, busy
        past = mean if self._mean is None else self._mean
        self._mean = MEMORY * past + (1 - MEMORY) * mean
