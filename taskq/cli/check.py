"""`taskq broker check`: the conformance kit without pytest."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from taskq.cli.output import Column, json_option, note, show, show_json, show_table
from taskq.cli.session import session_options
from taskq.contract.laws import LAWS
from taskq.errors import ConnectionFailed, ImproperlyConfigured

if TYPE_CHECKING:
    from taskq.testing.report import Backend, Report

PROFILES: Final = ("smoke", "default", "soak")
COLUMNS: Final = (
    Column("law", whole=True),
    Column("verdict", whole=True),
    Column("times", number=True),
    Column("what it says, or why"),
)


def _known(
    context: click.Context,  # noqa: ARG001
    parameter: click.Parameter,  # noqa: ARG001
    laws: tuple[str, ...],
) -> tuple[str, ...]:
    known = tuple(law.strip().upper() for law in laws)
    for law in known:
        if law not in LAWS:
            parts = [part.strip() for part in law.split(",")]
            if all(part in LAWS for part in parts):
                cure = " ".join(f"--law {part}" for part in parts)
                raise click.BadParameter(f"give them one by one: {cure}")
            raise click.BadParameter(f"there is no law {law}; there are {', '.join(LAWS)}")
    return known


@click.group()
@session_options()
def broker() -> None:
    """Look into a backend itself."""


@broker.command()
@session_options()
@click.argument("url")
@click.option("--profile", type=click.Choice(PROFILES), default="default", show_default=True)
@click.option(
    "--law",
    "laws",
    multiple=True,
    metavar="NUMBER",
    callback=_known,
    help="Only the examples of this law, such as L4. May be repeated.",
)
@click.option("--restart", metavar="COMMAND", help="Restarts the server, and keeps its data.")
@click.option(
    "--report",
    "place",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report there too, as JSON.",
)
@json_option
@click.pass_context
def check(
    context: click.Context,
    url: str,
    profile: str,
    laws: tuple[str, ...],
    restart: str | None,
    place: Path | None,
    as_json: bool,
) -> None:
    """Put the backend at URL to the test: does it hold the laws of the contract?

    Works in namespaces of its own, and removes them. Random sequences x calls:
    smoke 20 x 20, default 100 x 30, soak 2000 x 60. Ends with 0 only if every
    law holds that applies to the backend.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise ImproperlyConfigured(
            "the conformance kit needs hypothesis; try: pip install 'taskq-core[testing]'"
        )
    with _removing_on_sigterm(), _keeping_hypothesis_quiet():
        report = _put_to_the_test(url, profile, laws, restart)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(report.encode())
    if as_json:
        show_json(report.document())
    else:
        _show(report, laws)
    if not report.passed:
        context.exit(1)


@contextlib.contextmanager
def _removing_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, which removes the namespace."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _keeping_hypothesis_quiet() -> Iterator[None]:
    """Keep its words out of standard output, and its files out of the current directory."""
    from hypothesis.configuration import set_hypothesis_home_dir
    from hypothesis.reporting import with_reporter

    with tempfile.TemporaryDirectory(prefix="taskq-check-") as folder:
        set_hypothesis_home_dir(folder)
        try:
            with with_reporter(lambda _text: None):
                yield
        finally:
            set_hypothesis_home_dir(None)


def _put_to_the_test(url: str, profile: str, laws: tuple[str, ...], restart: str | None) -> Report:
    from taskq.cli.bar import Bar
    from taskq.plugins import Plugins
    from taskq.testing import runner
    from taskq.testing.record import Ledger
    from taskq.url import Url

    parsed = Url.parse(url)
    target = Plugins().target(parsed)
    if restart is not None:
        runner.restart_by(target, restart)
    facts = runner.look(target, parsed.scheme)
    if facts.missing:
        raise ConnectionFailed(f"{facts.url}: {facts.missing}")
    parts = runner.parts_of(facts, laws)
    outcomes = []
    with Bar(len(parts)) as bar:
        for part in parts:
            ledger = Ledger(facts.name)
            bar.begin(part.name, ledger)
            found = runner.perform(part, target, facts, profile, ledger)
            bar.end()
            outcomes.append(found)
            if found.failure:
                note(f"{part.name}: {found.failure.what}")
    return runner.judge(outcomes, profile)


def _show(report: Report, laws: tuple[str, ...]) -> None:
    from taskq.testing.tables import remarks, versions

    for backend in report.backends:
        for failure in backend.failures:
            show(f"{failure.text}\n")
        show_table(f"Laws on {backend.facts.url}", COLUMNS, _rows(backend, laws))
        show("\n".join([*versions(report), *remarks(report)]))
        show(_summary(backend, laws))


def _rows(backend: Backend, laws: tuple[str, ...]) -> list[list[Any]]:
    return [
        [found.law, found.verdict, found.times or "", found.because or LAWS[found.law]]
        for found in backend.laws
        if (found.law in laws if laws else found.times or found.because)
    ]


def _summary(backend: Backend, laws: tuple[str, ...]) -> str:
    from taskq.testing.tables import unwritten

    if backend.passed:
        return f"The examples of {', '.join(laws)} pass." if laws else "Every law holds."
    wrong = [
        f"{verdict}: {', '.join(found.law for found in backend.laws if found.verdict == verdict)}"
        for verdict in ("broken", "too rarely tested")
        if any(found.verdict == verdict for found in backend.laws)
    ]
    failed = sum(part.result == "failed" for part in backend.parts)
    if missing := unwritten(backend):
        wrong.append(f"not written yet: {missing}")
    return "; ".join([f"{failed} of {len(backend.parts)} parts of the kit failed", *wrong])
