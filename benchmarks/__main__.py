"""Measure, and print the tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import BARE, CONTENDERS, Entry
from benchmarks.environments import python_of
from benchmarks.server import PLACES, Place

STEPS = {"send": 3_000, "bulk": 20_000, "drain": 20_000}
"""How many tasks each step takes."""
TIMEOUT = 300
"""Seconds that a step may take."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """What one step of one contender cost once, per task."""

    broker: str
    step: str
    name: str
    client: float
    """CPU microseconds of the client or worker."""
    server: float
    """CPU microseconds of the server, all of its processes together."""
    counted: float
    """Commands, statements or transactions of the server."""
    rate: float
    """Tasks per second."""
    log: str
    """Level of the contender's log."""
    versions: dict[str, str]

    @property
    def total(self) -> float:
        return self.client + self.server


def measure(broker: str, name: str, step: str, place: Place, count: int) -> Figure:
    """Take one step in a process of its own, which waits for a word before it begins."""
    entry: Entry = CONTENDERS[broker][name]
    python = python_of(entry.environment) if entry.environment else sys.executable
    command = [python, "-m", "benchmarks.contenders", broker, name, step, place.url, str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        cpu, counted = place.cpu(), place.count()
        output, _ = process.communicate("go\n", timeout=TIMEOUT)
    if process.returncode:
        raise SystemExit(f"{broker}, {name}: {step} failed")
    spent = json.loads(output.splitlines()[-1])
    return Figure(
        broker,
        step,
        name,
        client=spent["cpu"] / count * 1e6,
        server=(place.cpu() - cpu) / count * 1e6,
        counted=(place.count() - counted) / count,
        rate=count / spent["wall"],
        log=spent["log"],
        versions=spent["versions"],
    )


def once(broker: str, name: str, steps: Sequence[str], place: Place, scale: float) -> list[Figure]:
    """Measure the steps, each on an empty database; what is drained is sent before, unmeasured."""
    figures = []
    for step in steps:
        count = max(1, round(STEPS[step] * scale))
        place.clear()
        if step == "drain":
            measure(broker, name, "bulk", place, count)
        figures.append(measure(broker, name, step, place, count))
    return figures


def table(title: str, figures: Sequence[Figure], counted: str) -> Table:
    """Show a step: medians, the range of the sums, and the ratio to the bare client."""
    shown = Table(title=title)
    headings = ("client µs", "server µs", "sum µs", "from – to", "× bare", counted, "tasks/s")
    for heading in ("", *headings):
        shown.add_column(heading, justify="right" if heading else "left")
    rows: dict[str, list[Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.name, []).append(figure)
    totals = {name: [one.total for one in taken] for name, taken in rows.items()}
    unit = statistics.median(totals[BARE]) if BARE in totals else float("nan")
    for name, taken in rows.items():
        median = statistics.median(totals[name])
        shown.add_row(
            name,
            f"{statistics.median(one.client for one in taken):.1f}",
            f"{statistics.median(one.server for one in taken):.1f}",
            f"{median:.1f}",
            f"{min(totals[name]):.1f} – {max(totals[name]):.1f}",
            f"{median / unit:.2f}",
            f"{statistics.median(one.counted for one in taken):.3f}",
            f"{statistics.median(one.rate for one in taken):,.0f}",
        )
    return shown


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--broker", action="append", choices=[*PLACES], help="may be repeated")
    parser.add_argument("--step", action="append", choices=[*STEPS], help="may be repeated")
    parser.add_argument("--only", action="append", metavar="NAME", help="a contender; repeatable")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--scale", type=float, default=1.0, help="times the tasks per step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement")
    return parser.parse_args()


def main() -> None:
    """Print one table per broker and step. Rounds are interleaved: the machine's speed drifts."""
    options = arguments()
    # Whoever ends it wants the servers to end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # For a file as well as for a terminal.
    console = Console(width=110)
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "taskq-core": version("taskq-workspace"),
        "settings": {},
    }
    kept: list[Figure] = []
    steps = options.step or [*STEPS]
    for broker in options.broker or PLACES:
        names = [name for name in CONTENDERS[broker] if name in (options.only or [name])]
        figures: list[Figure] = []
        with PLACES[broker]() as place:
            for _ in range(options.repeat):
                for name in names:
                    figures += once(broker, name, steps, place, options.scale)
            settings = record["settings"][broker] = place.settings()
        for step in steps:
            taken = [figure for figure in figures if figure.step == step]
            console.print(table(f"{broker}: {step}", taken, place.counted))
        console.print(f"{broker} settings: {_shown(settings)}")
        console.print(f"Libraries: {_shown(_versions(figures))}")
        console.print(f"Log level: {', '.join(sorted({one.log for one in figures}))}\n")
        kept += figures
    if options.json:
        record["figures"] = [dataclasses.asdict(figure) for figure in kept]
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def _versions(figures: Sequence[Figure]) -> dict[str, str]:
    return {key: value for one in figures for key, value in one.versions.items()}


def _shown(values: dict[str, str]) -> str:
    return ", ".join(f"{key} {value or '(empty)'}" for key, value in values.items())


if __name__ == "__main__":
    main()
