"""When a failed task runs again: the policy a task states, and the delay it makes.

Exponential backoff with full jitter, as in "Exponential Backoff And Jitter"
(AWS Architecture Blog, 2015): the delay is drawn evenly between nothing and
the bound, so that tasks which failed together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from taskq.clock import Seconds

DEFAULT_MAX_RETRIES: Final = 3
DEFAULT_RETRY_DELAY: Final[Seconds] = 10.0
DEFAULT_BACKOFF_MAX: Final[Seconds] = 600.0


class RetryPolicy(msgspec.Struct, frozen=True):
    """What a task says about running again."""

    max_retries: int | None = DEFAULT_MAX_RETRIES
    """None: without end."""
    default_delay: Seconds = DEFAULT_RETRY_DELAY
    autoretry_for: tuple[type[BaseException], ...] = ()
    """Exceptions that cause a retry by themselves."""
    backoff: Seconds = 0.0
    """First bound of the exponential backoff; 0: always `default_delay`."""
    backoff_max: Seconds = DEFAULT_BACKOFF_MAX
    jitter: bool = True
    throws: tuple[type[BaseException], ...] = ()
    """Expected exceptions: a failure, but neither a retry nor a dead letter."""

    def wants(self, error: BaseException) -> bool:
        """Say whether this exception is one to retry by itself."""
        return isinstance(error, self.autoretry_for)

    def exhausted(self, retries: int) -> bool:
        """Say whether a task that was retried so often may not be again."""
        return self.max_retries is not None and retries >= self.max_retries

    def delay(self, retries: int, draw: Callable[[], float] = random.random) -> Seconds:
        """Return the delay before the next run of a task retried `retries` times.

        `draw` returns a number in [0, 1). The result is never above `backoff_max`
        where there is backoff.
        """
        if not self.backoff:
            return self.default_delay
        bound = min(self.backoff * 2.0 ** min(retries, 64), self.backoff_max)
        return bound * draw() if self.jitter else bound
