"""A program that sells in random transactions, some of which kill it: forked by its test."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from enum import Enum, auto

from sqlalchemy.orm import Session

from taskq import TaskQ
from tests.chaos.business import Business, engine_of


class End(Enum):
    """How a transaction ends."""

    COMMIT = auto()
    ROLLBACK = auto()
    KILL_EARLY = auto()
    """Before all is written."""
    KILL_LATE = auto()
    """All is written, and nothing committed."""
    KILL_AT_COMMIT = auto()
    """At some instant around the commit."""


WEIGHTS = {
    End.COMMIT: 60,
    End.ROLLBACK: 20,
    End.KILL_EARLY: 5,
    End.KILL_LATE: 5,
    End.KILL_AT_COMMIT: 10,
}


def end_of(number: int) -> End:
    """Return how the transaction of that number is meant to end."""
    return random.Random(number).choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def tasks_of(number: int) -> list[str]:
    """Return the ids of the tasks that it sends."""
    return [f"sale-{number}-{index}" for index in range(1 + number % 3)]


def sell(url: str, table: str, first: int, last: int, database: str | None = None) -> None:
    """Carry out transactions, from `first` on, in a process of their own; it may not survive.

    They are in the broker's database, unless another one is named.
    """
    app = TaskQ("chaos", broker=url)
    business = Business(engine_of(database or url, os.getpid()), table)
    for number in range(first, last):
        end = end_of(number)
        with Session(business.engine) as session:
            business.add(session.connection(), f"sale-{number}")
            for id in tasks_of(number):
                if end is End.KILL_EARLY:
                    die()
                app.send_task("echo", (id,), task_id=id, session=session)
            match end:
                case End.ROLLBACK:
                    session.rollback()
                    continue
                case End.KILL_LATE:
                    die()
                case End.KILL_AT_COMMIT:
                    delay = random.Random(number).uniform(0, 0.001)
                    threading.Thread(target=die, args=(delay,), daemon=True).start()
            session.commit()
        if end is End.KILL_AT_COMMIT:
            time.sleep(1)


def die(delay: float = 0.0) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
