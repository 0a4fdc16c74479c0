"""Measure everything and print the tables."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import REDIS, SQLITE
from benchmarks.server import Server, throw_away_redis

COUNT = 20_000
SINGLE = 3_000


class Figure(NamedTuple):
    """What one step of one contender cost, per task."""

    client: float
    """CPU microseconds of the client or worker."""
    server: float
    """CPU microseconds of the server."""
    commands: float
    """Commands of the server."""
    rate: float
    """Tasks per second."""


def measure(name: str, step: str, url: str, count: int, server: Server | None) -> Figure:
    """Take one step in a process of its own."""
    before = (server.cpu(), server.commands()) if server else (0.0, 0)
    command = [sys.executable, "-m", "benchmarks.contenders", name, step, url, str(count)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = json.loads(output.splitlines()[-1])
    after = (server.cpu(), server.commands()) if server else (0.0, 0)
    return Figure(
        client=spent["cpu"] / count * 1e6,
        server=(after[0] - before[0]) / count * 1e6,
        commands=(after[1] - before[1]) / count,
        rate=count / spent["wall"],
    )


def table(title: str, rows: dict[str, Figure], base: str) -> Table:
    """Show a step, with the ratio to one contender."""
    shown = Table(title=title)
    for heading in ("", "client µs", "server µs", "sum", f"× {base}", "commands", "tasks/s"):
        shown.add_column(heading, justify="left" if not heading else "right")
    unit = rows[base].client + rows[base].server
    for name, row in rows.items():
        total = row.client + row.server
        cells = (row.client, row.server, total, total / unit, row.commands)
        shown.add_row(name, *(f"{cell:.2f}" for cell in cells), f"{row.rate:,.0f}")
    return shown


def main() -> None:
    """Print one table per backend and step."""
    console = Console(width=100)
    with throw_away_redis() as server:
        for step, count in (("send", SINGLE), ("bulk", COUNT), ("drain", COUNT)):
            rows = {}
            for name in REDIS:
                server.client.flushall()
                if step == "drain":
                    measure(name, "bulk", server.url, count, server)
                rows[name] = measure(name, step, server.url, count, server)
            console.print(table(f"Redis, {step}", rows, "bare"))
    for step, count in (("send", SINGLE), ("bulk", COUNT), ("drain", COUNT)):
        rows = {}
        for name in SQLITE:
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{Path(folder) / 'bench.db'}"
                if step == "drain":
                    measure(name, "bulk", url, count, None)
                rows[name] = measure(name, step, url, count, None)
        console.print(table(f"SQLite (synchronous=FULL), {step}", rows, "bare SQLite"))


if __name__ == "__main__":
    main()
