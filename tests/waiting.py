"""Waiting for a condition, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK: float = 0.01


def until(look: Callable[[], T], what: str, timeout: float = 20.0) -> T:
    """Return what `look` finds as soon as it is true.

    Raises:
        AssertionError: it never was, for `timeout` seconds; says `what` was awaited.
    """
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        time.sleep(LOOK)
    return found
