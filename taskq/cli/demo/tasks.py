"""The demo's application, as its workers import it: `-A taskq.cli.demo.tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from taskq.app.application import TaskQ
from taskq.app.request import Request, current_request
from taskq.cli.demo.analysis import FileReport, analyse_file

ANALYSE: Final = "demo.analyse"

app: Final = TaskQ("taskq-demo")
"""The broker is named by the environment, which `taskq demo` sets for its workers."""


class Answer(msgspec.Struct, frozen=True):
    """What a task found out, and what became of the task itself."""

    report: FileReport
    run: int = 0
    losses: int = 0


@app.task(name=ANALYSE)
def analyse(folder: str, path: str) -> dict[str, Any]:
    """Return an `Answer` about one file, as plain data."""
    request = current_request() or Request(id="", task=ANALYSE)
    report = analyse_file(Path(folder), path)
    answer = Answer(report, run=request.run, losses=request.losses)
    return msgspec.to_builtins(answer)  # type: ignore[no-any-return]  # of a Struct: a dictionary
