"""A report as text: the table law × backend, and the sentences below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from taskq.contract.laws import LAWS
from taskq.testing.report import Backend, Finding, Report, Verdict

MANY_CLIENTS: Final = "test_threads_and_processes_conclude_each_message_once"
_WORDS: Final = {
    Verdict.HOLDS: "holds",
    Verdict.BROKEN: "BROKEN",
    Verdict.SCARCE: "TOO FEW",
    Verdict.INAPPLICABLE: "n/a",
    Verdict.UNDECIDED: "undecided",
}


def head(report: Report) -> list[str]:
    """Return the titles of the table's columns."""
    return ["law", *(backend.facts.name for backend in report.backends)]


def rows(report: Report) -> list[list[str]]:
    """Return the table's rows: verdict and times of each law that was put to the test."""
    found = []
    for place, law in enumerate(LAWS):
        findings = [backend.laws[place] for backend in report.backends]
        if any(_is_told(finding) for finding in findings):
            found.append([law, *map(cell, findings)])
    return found


def cell(finding: Finding) -> str:
    """Return what the table says of one law on one backend."""
    if not _is_told(finding):
        return ""
    word = _WORDS[finding.verdict]
    return f"{word} {finding.times}" if finding.times else word


def _is_told(finding: Finding) -> bool:
    return finding.verdict is not Verdict.UNDECIDED or finding.times > 0


def versions(report: Report) -> list[str]:
    """Return what was tested with what, one line each."""
    run = f"taskq {report.taskq}, contract {report.contract}, Python {report.python}"
    lines = [f"{run}, profile {report.profile}"]
    for backend in report.backends:
        facts = backend.facts
        known = [f"{facts.plugin} {facts.version}".strip(), facts.server, facts.url]
        parts = ", ".join(part for part in known if part)
        lines.append(f"{facts.name}: {parts}, {backend.elapsed:.1f} s")
    return lines


def remarks(report: Report) -> list[str]:
    """Return what the table cannot say: what was left out and why, what is too little."""
    return [line for backend in report.backends for line in _remarks(backend, report.enough)]


def _remarks(backend: Backend, enough: int) -> Iterator[str]:
    name = backend.facts.name
    if backend.facts.missing:
        yield f"{name}: NOT TESTED: {backend.facts.missing}"
        return
    by_reason: dict[str, list[str]] = {}
    for finding in backend.laws:
        if finding.verdict is Verdict.INAPPLICABLE:
            by_reason.setdefault(finding.because, []).append(finding.law)
    for reason, laws in by_reason.items():
        yield f"{name}: not applicable: {', '.join(laws)}: {reason}"
    for part in backend.parts:
        if part.result == "skipped" and part.because not in by_reason:
            yield f"{name}: left out: {part.part}: {part.because}"
        if part.part == MANY_CLIENTS and part.result != "skipped" and not backend.facts.processes:
            yield (
                f"{name}: left out: processes in {part.part}: the target says that no other "
                "process reaches the store (processes = False)"
            )
    scarce = [f for f in backend.laws if f.verdict is Verdict.SCARCE]
    for finding in scarce:
        yield (
            f"{name}: {finding.law} was put to the test only {finding.times} times; "
            f"{enough} are needed before it can be said to hold"
        )
    if missing := unwritten(backend):
        yield f"{name}: not written yet: {missing}"
    if not backend.complete:
        yield f"{name}: undecided: only a part of the kit was run"
    for remark in backend.facts.remarks:
        yield f"{name}: the server's operator should know: {remark}"


def unwritten(backend: Backend) -> str:
    """Return the methods that are not written yet, those most asked for first; "" if none."""
    counts = Counter(failure.unwritten for failure in backend.failures if failure.unwritten)
    return ", ".join(
        f"{method} ({times} {'part' if times == 1 else 'parts'})"
        for method, times in counts.most_common()
    )


def lines(report: Report) -> list[str]:
    """Return the whole as plain text."""
    table = [head(report), *rows(report)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return [*padded, "", *versions(report), *remarks(report)]
