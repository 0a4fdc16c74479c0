"""What the demo says at the end."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from taskq.cli.demo.analysis import Summary
from taskq.cli.output import Column, show, show_table
from taskq.clock import Seconds

RERUNS_SHOWN: Final = 20


class Rerun(msgspec.Struct, frozen=True):
    """A task whose worker was lost while it held it."""

    path: str
    run: int
    losses: int
    worker: str
    """The one that finished it."""


class Kill(msgspec.Struct, frozen=True):
    """A worker that was killed, and when."""

    worker: str
    done: int
    """Answers that had come by then."""


class Report(msgspec.Struct, frozen=True):
    """One run of the demo."""

    broker: str
    folder: str
    workers: int
    concurrency: int
    tasks: int
    answers: int
    elapsed: Seconds
    """From the first task sent to the last answer."""
    per_second: float
    summary: Summary
    killed: Kill | None = None
    reruns: tuple[Rerun, ...] = ()
    check: bool | None = None
    """Whether a sequential run came to the same; None if there was none."""
    check_elapsed: Seconds | None = None


def document(report: Report) -> dict[str, Any]:
    """Return the report, ready for JSON."""
    return msgspec.to_builtins(report)  # type: ignore[no-any-return]  # of a Struct: a dictionary


def show_report(report: Report, *, kill_wanted: bool) -> None:
    """Print the report for a person."""
    _show_tables(report.summary)
    _show_totals(report)
    if kill_wanted:
        _show_kill(report)
    answers = f"{report.tasks} tasks, {report.answers} answers"
    show(f"Nothing is missing: {answers}." if report.tasks == report.answers else answers)
    if report.check is not None:
        verdict = "the same" if report.check else "SOMETHING ELSE"
        show(
            f"A plain loop over the files took {report.check_elapsed:.1f} s and came to {verdict}."
        )


def _show_tables(summary: Summary) -> None:
    lines = Column("lines", number=True)
    show_table("Largest modules", (Column("module"), lines), summary.largest)
    importing = Column("files", number=True)
    show_table("Most imported modules", (Column("module"), importing), summary.imported)
    columns = (Column("function"), Column("module"), lines)
    show_table("Longest functions", columns, summary.longest)


def _show_totals(report: Report) -> None:
    summary = report.summary
    rows = [
        ("files", f"{summary.files:,}"),
        ("of these unparsable", f"{summary.unparsable:,}"),
        ("lines", f"{summary.lines:,}"),
        ("functions", f"{summary.functions:,}"),
        ("classes", f"{summary.classes:,}"),
        ("elapsed", f"{report.elapsed:.1f} s"),
        ("tasks per second", f"{report.per_second:,.0f}"),
    ]
    show_table("Totals", (Column("what"), Column("value", number=True)), rows)


def _show_kill(report: Report) -> None:
    kill = report.killed
    if kill is None:
        show("All was done before a worker could be killed; try a larger --folder.")
        return
    held = len(report.reruns)
    show(
        f"Worker {kill.worker} was killed after {kill.done} of {report.tasks} answers, "
        f"while it held {held} tasks{'; they ran again elsewhere:' if held else '.'}"
    )
    if held:
        columns = (Column("module"), Column("run", number=True), Column("finished by"))
        rows = [(rerun.path, rerun.run, rerun.worker) for rerun in report.reruns[:RERUNS_SHOWN]]
        show_table("Run again", columns, rows)
    if held > RERUNS_SHOWN:
        show(f"and {held - RERUNS_SHOWN} more; --json lists all")
