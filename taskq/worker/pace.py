"""A worker's sense of time: one object, so that a test can give it another."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from taskq.clock import Seconds


class Pace:
    """What the parts of one worker ask about time and chance. Thread-safe.

    `taskq.testing.stepper` gives a worker a pace that follows a clock it can
    move and that never blocks, so that its services can be stepped in one
    thread. Give `draw` a seed's `random`, and the same steps do the same.
    """

    __slots__ = ("_blocks", "draw", "now")

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        *,
        blocks: bool = True,
    ) -> None:
        self.now: Final = now
        """Return seconds that never go back and are never 0."""
        self.draw: Final = draw
        """Return a number in [0, 1), for jitter."""
        self._blocks = blocks

    def wait(self, timeout: Seconds) -> Seconds:
        """Return how long a service that has nothing to do may block: `timeout`, or not at all."""
        return timeout if self._blocks else 0.0

    def jitter(self, interval: Seconds, shortest: float) -> Seconds:
        """Return between `shortest` times the interval and the interval, drawn evenly."""
        return interval * (shortest + (1.0 - shortest) * self.draw())
