"""Who is measured on which broker: each sends and drains the same no-op tasks.

Run as ``python -m benchmarks.contenders BROKER NAME STEP URL COUNT``; prints
"ready", waits for a line, and prints the CPU and wall seconds of the step as
JSON. A process per step keeps the contenders out of each other's way.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import NamedTuple

from benchmarks import bare, own, peers
from benchmarks.contender import Contender


class Entry(NamedTuple):
    """A contender, and which environment it needs."""

    contender: type[Contender]
    environment: str = ""
    """One of `benchmarks.peers.REQUIREMENTS`; empty: the one this runs in."""


BARE = "bare"
CONTENDERS: dict[str, dict[str, Entry]] = {
    "redis": {
        BARE: Entry(bare.BareRedis),
        "taskq": Entry(own.Taskq),
        "taskq, results": Entry(own.TaskqResults),
        "dramatiq": Entry(peers.Dramatiq, "dramatiq"),
        "dramatiq, prefetch 1000": Entry(peers.DramatiqPrefetch, "dramatiq"),
    },
    "rabbitmq": {
        BARE: Entry(bare.BareRabbitmq),
        "taskq": Entry(own.Taskq),
        "taskq, results": Entry(own.TaskqResults),
        "dramatiq": Entry(peers.DramatiqRabbitmq, "dramatiq"),
        "dramatiq, prefetch 1000": Entry(peers.DramatiqRabbitmqPrefetch, "dramatiq"),
        "celery": Entry(peers.Celery, "celery"),
    },
    "sqlite": {
        BARE: Entry(bare.BareSqlite),
        "bare SQLAlchemy": Entry(bare.BareAlchemy),
        "taskq": Entry(own.Taskq),
        "taskq, results": Entry(own.TaskqResults),
        "huey (at most once)": Entry(peers.Huey, "huey"),
    },
    "postgresql": {
        BARE: Entry(bare.BarePostgresql),
        "bare SQLAlchemy": Entry(bare.BareAlchemy),
        "taskq": Entry(own.Taskq),
        "taskq, results": Entry(own.TaskqResults),
        "pgqueuer": Entry(peers.PgQueuer, "pgqueuer"),
        "pgqueuer, batch 100": Entry(peers.PgQueuer100, "pgqueuer"),
    },
    "mariadb": {
        BARE: Entry(bare.BareMariadb),
        "bare SQLAlchemy": Entry(bare.BareAlchemy),
        "taskq": Entry(own.Taskq),
        "taskq, results": Entry(own.TaskqResults),
    },
}
"""By broker. The first is what the others are compared with."""


def main() -> None:
    """Take one step of one contender."""
    broker, name, step, url, count = sys.argv[1:]
    contender = CONTENDERS[broker][name].contender(url)
    contender.prepare()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu, wall = time.process_time(), time.perf_counter()
    getattr(contender, step)(int(count))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
    print(json.dumps({"cpu": cpu, "wall": wall, "log": level, "versions": contender.versions()}))


if __name__ == "__main__":
    main()
