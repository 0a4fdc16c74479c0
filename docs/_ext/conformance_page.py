"""What the last run of the conformance kit found, for the page about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from taskq.contract.laws import LAWS
from taskq.plugins import Plugins
from taskq.testing.report import Backend, Finding, Report, Verdict, read_report
from taskq.testing.tables import cell, remarks

VARIABLE: Final = "TASKQ_CONFORMANCE_REPORT"
PLACE: Final = Path(__file__).parents[2] / "build" / "conformance.json"
ABSENT: Final = """No report was there when these pages were built. Make one, and build them again:

```console
$ python -m pytest tests/contract --taskq-report build/conformance.json
```
"""


def place() -> Path:
    """Return where the report is expected."""
    return Path(os.environ.get(VARIABLE) or PLACE)


def results(table: Callable[[Sequence[str], Iterable[Sequence[str]]], str]) -> str:
    """Return what the last run of the kit found, as Markdown; `table` makes one.

    Raises:
        FileNotFoundError: the variable names a file that is not there.
    """
    if not place().exists() and not os.environ.get(VARIABLE):
        return ABSENT
    report = _shipped(read_report(place().read_bytes()))
    rows = [
        [f"**{law}**", sentence, *(_cell(backend.laws[number]) for backend in report.backends)]
        for number, (law, sentence) in enumerate(LAWS.items())
    ]
    titles = ["Law", "Sentence", *(backend.facts.name for backend in report.backends)]
    made = f"taskq {report.taskq}, contract {report.contract}, Python {report.python}"
    lines = [
        f"Made with {made}, profile `{report.profile}`:",
        "",
        *(f"- {_versions(backend)}" for backend in report.backends),
        "",
        table(titles, rows),
    ]
    told = [line for line in remarks(report) if "operator" not in line]
    return "\n".join([*lines, "", *(f"- {line}" for line in told)])


def _shipped(report: Report) -> Report:
    """Leave out what tests of the kit have made up: it has no plugin."""
    schemes = {scheme for plugin in Plugins().load() for scheme in plugin.schemes} | {"memory"}
    found = [one for one in report.backends if one.facts.url.partition(":")[0] in schemes]
    return msgspec.structs.replace(report, backends=tuple(found))


def _cell(finding: Finding) -> str:
    said = cell(finding)
    return said if finding.verdict in {Verdict.HOLDS, Verdict.INAPPLICABLE} else f"**{said}**"


def _versions(backend: Backend) -> str:
    facts = backend.facts
    known = [f"{facts.plugin} {facts.version}".strip(), facts.server, f"{backend.elapsed:.0f} s"]
    return f"{facts.name}: {', '.join(part for part in known if part)}"
