"""What it costs to wait for one's own results while those of others pass by.

`python -m benchmarks.waiter --broker rabbitmq`: one process stores results that
this one waits for one after the other, another one stores results that nobody
here asks for, both at a steady pace.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from multiprocessing.synchronize import Event
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.server import PLACES
from taskq import TaskQ
from taskq.contract.results import ResultRecord, Results
from taskq.ids import new_id

SECONDS: Final = 4
PAYLOAD: Final = b"x" * 40
PACES: Final = ((1000, 0), (1000, 1000), (100, 0), (100, 1000))
"""Own results per second, and others'."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run took."""

    own: int
    foreign: int
    cpu: float
    """Microseconds of CPU per own result."""
    share: float
    """Of one core."""


def measure(url: str, own: int, foreign: int) -> Cost:
    """Wait for results that come at a pace."""
    results = TaskQ("waiter", broker=url).results
    ids = [new_id() for _ in range(own * SECONDS)]
    go, stop = multiprocessing.Event(), multiprocessing.Event()
    pace = [(own, ids)] + ([(foreign, None)] if foreign else [])
    stores = [multiprocessing.Process(target=store, args=(url, *each, go, stop)) for each in pace]
    for process in stores:
        process.start()
    results.wait(ids[:1], timeout=1.0)  # connects, and looks back
    cpu, wall = time.process_time(), time.perf_counter()
    go.set()
    for id in ids:
        _await(results, id)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    stop.set()
    for process in stores:
        process.join()
    results.close()
    return Cost(own, foreign, cpu / len(ids) * 1e6, cpu / wall)


def store(url: str, rate: int, ids: list[str] | None, go: Event, stop: Event) -> None:
    """Store so many results per second, one by one."""
    results = TaskQ("waiter", broker=url).results
    go.wait()
    began, done = time.monotonic(), 0
    while not stop.is_set() and (ids is None or done < len(ids)):
        id = new_id() if ids is None else ids[done]
        results.store([ResultRecord(id, 0, "SUCCESS", PAYLOAD, ttl=3600.0)])
        done += 1
        time.sleep(max(began + done / rate - time.monotonic(), 0.0))
    results.close()


def _await(results: Results, id: str) -> None:
    while not results.wait([id], timeout=5.0):
        pass


def main() -> None:
    """Print a table per broker."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiter", description=__doc__)
    parser.add_argument("--broker", action="append", choices=[*PLACES], help="may be repeated")
    console = Console(width=110)
    for broker in parser.parse_args().broker or PLACES:
        shown = Table(title=f"{broker}: a waiter's CPU")
        for heading in ("own/s", "others'/s", "µs per own result", "of a core"):
            shown.add_column(heading, justify="right")
        with PLACES[broker]() as place:
            for own, foreign in PACES:
                place.clear()
                cost = measure(place.url, own, foreign)
                shown.add_row(str(own), str(foreign), f"{cost.cpu:.1f}", f"{cost.share:.1%}")
        console.print(shown)


if __name__ == "__main__":
    main()
