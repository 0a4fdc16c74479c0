"""One client's trouble with the server is not another's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from taskq_sql.session import Session


class Clock:
    """Stands for a dialect; tells the time once it may."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.statements = None
        self.asked = 0
        self._wait = wait

    def now(self, connection: object) -> int:
        self.asked += 1
        self._wait()
        return 5


def session(clock: Any) -> Session:
    return Session(None, clock, 2)  # type: ignore[arg-type]


def test_a_session_that_waits_for_the_time_keeps_no_other_waiting() -> None:
    hung, answers = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        answers.wait(10)

    waiting = threading.Thread(target=lambda: session(Clock(hang)).now)
    waiting.start()
    assert hung.wait(10)
    told: list[int] = []
    other = threading.Thread(target=lambda: told.append(session(Clock(lambda: None)).now))
    other.start()
    other.join(5)

    assert told == [7]
    answers.set()
    waiting.join(10)


def test_a_session_asks_for_the_time_once() -> None:
    clock = Clock(lambda: None)
    one = session(clock)

    assert (one.now, one.now, clock.asked) == (7, 7, 1)
