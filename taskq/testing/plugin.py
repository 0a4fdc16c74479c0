"""The pytest plugin of the conformance kit: its options, and what a run ends with.

It is loaded wherever taskq and pytest are, so it imports little until a class
of the kit is collected. What a test found travels on its report, which brings
it to the process that sums up, be it this one or that of pytest-xdist.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from taskq.testing.bench import Bench, Run
    from taskq.testing.report import Failure, Outcome, Report
    from taskq.testing.target import Target

pytest_plugins = ["taskq.testing.fixtures"]

SUITE: Final = "taskq.testing.conformance"
NO_URL: Final = (
    f"{SUITE} tests the backends that the command line names: pass --taskq-broker-url=URL, "
    "once or more"
)
SKIPPED: Final = (
    "a test of the kit may be skipped for one reason alone: the backend declares that it "
    "lacks something. Deny the capability, or leave the test out by -k"
)
FOUND: Final = "taskq_found"
"""The attribute of a test's report that says what the kit has found."""
_run: Final[pytest.StashKey[Run]] = pytest.StashKey()
_bench: Final[pytest.StashKey[Bench]] = pytest.StashKey()
_stderr: Final[pytest.StashKey[int]] = pytest.StashKey()
"""The terminal's, where pytest keeps that of tests to itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskq", "conformance of taskq backends")
    group.addoption(
        "--taskq-broker-url",
        action="append",
        default=[],
        metavar="URL",
        help=f"a backend to test with `--pyargs {SUITE}`; may be repeated",
    )
    group.addoption(
        "--taskq-profile",
        choices=("smoke", "default", "soak"),
        default="default",
        help="how much to try, in random sequences x calls: "
        "smoke 20 x 20, default 100 x 30, soak 2000 x 60",
    )
    group.addoption(
        "--taskq-restart",
        metavar="COMMAND",
        help="restarts the server of the one --taskq-broker-url, and keeps its data",
    )
    group.addoption(
        "--taskq-require",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="a server that a test class names and that is not there is an error; "
        "so it is where the variable CI is set, and for the URLs of the command line",
    )
    group.addoption(
        "--taskq-report",
        type=Path,
        metavar="FILE.json",
        help="write the report of laws, backends and verdicts there",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "law(*numbers): the laws of the contract a test checks")
    urls = config.getoption("--taskq-broker-url")
    if not urls and any(argument.partition("::")[0] == SUITE for argument in config.args):
        raise pytest.UsageError(NO_URL)
    if urls:
        broker_urls(config)
    if config.getoption("--taskq-restart") and len(urls) != 1:
        raise pytest.UsageError("--taskq-restart goes with exactly one --taskq-broker-url")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Listener(config), "taskq-listener")
    with contextlib.suppress(OSError):
        # Now, before pytest captures what tests write: the watchdog's words are for who waits.
        config.stash[_stderr] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _stderr in config.stash:
        os.close(config.stash[_stderr])
        del config.stash[_stderr]


def broker_urls(config: pytest.Config) -> dict[str, str]:
    """Return the URLs of the command line by what they are called.

    Raises:
        pytest.UsageError: one is no URL.
    """
    from taskq.errors import ImproperlyConfigured
    from taskq.testing.report import names
    from taskq.url import Url

    given: list[str] = list(dict.fromkeys(config.getoption("--taskq-broker-url")))
    try:
        texts = [str(Url.parse(url)) for url in given]
    except ImproperlyConfigured as error:
        raise pytest.UsageError(f"--taskq-broker-url: {error}") from error
    return dict(zip(names(texts), given, strict=True))


def bench_of(item: pytest.Function, target: Target | str) -> Bench:
    """Return the bench of a test; skip or fail the test if it is not to run."""
    bench = item.config.stash[_run].bench(item.originalname, target)
    item.stash[_bench] = bench
    if bench.refusal:
        pytest.fail(bench.refusal, pytrace=False)
    if bench.skipped:
        pytest.skip(bench.skipped)
    return bench


def _is_of_kit(item: pytest.Item) -> bool:
    """Say whether a test is one that the kit brings, in whichever class."""
    suite = sys.modules.get(SUITE)
    if suite is None or not isinstance(item, pytest.Function) or item.cls is None:
        return False
    return issubclass(item.cls, suite.Kit) and hasattr(suite.BrokerConformance, item.originalname)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the kit with their laws, and give names to the backends."""
    found = [item for item in items if isinstance(item, pytest.Function) and _is_of_kit(item)]
    if not found:
        return
    from taskq.errors import ImproperlyConfigured
    from taskq.testing.bench import Run
    from taskq.testing.laws.case import laws_of

    targets: list[Target | str] = []
    for item in found:
        if laws := laws_of(item.function):
            item.add_marker(pytest.mark.law(*laws))
        parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
        target = parameters.get("taskq_url") or getattr(item.cls, "target", None)
        if target is None:
            raise pytest.UsageError(
                f'{item.cls.__name__} has no target; say which: target = "scheme://…"'
            )
        targets.append(target)
    run = Run(
        profile=config.getoption("--taskq-profile"),
        require=config.getoption("--taskq-require"),
        restart=config.getoption("--taskq-restart"),
        named=frozenset(config.getoption("--taskq-broker-url")),
    )
    try:
        run.announce(targets)
    except ImproperlyConfigured as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_run] = run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Say so if a test of the kit stands still; not while somebody debugs it."""
    if not _is_of_kit(item) or item.config.getoption("usepdb", default=False):
        return (yield)
    from taskq.testing.laws.case import laws_of
    from taskq.testing.watchdog import STDERR, watched

    assert isinstance(item, pytest.Function)
    bench = item.stash.get
    with watched(
        item.originalname,
        laws_of(item.function),
        lambda: found.ledger if (found := bench(_bench, None)) else None,
        to=item.config.stash.get(_stderr, STDERR),
    ):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test's report tell what the kit has found, in the words of the kit."""
    report = yield
    if _is_of_kit(item):
        _take_down(item, call, report)
    return report


def _take_down(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    import msgspec

    from taskq.testing.failure import explain
    from taskq.testing.record import NotApplicable
    from taskq.testing.report import Failure

    bench = item.stash.get(_bench, None)
    error = call.excinfo.value if call.excinfo else None
    failure: Failure | None = None
    if isinstance(error, NotApplicable) and bench:
        bench.skipped = str(error)
        path, line, _ = report.location
        report.outcome, report.longrepr = "skipped", (path, line or 0, f"Skipped: {error}")
    elif (report.skipped or hasattr(report, "wasxfail")) and not (bench and bench.skipped):
        report.__dict__.pop("wasxfail", None)
        failure = Failure(SKIPPED, SKIPPED)
    elif report.failed and error is not None:
        refused = bench is not None and bench.refusal
        failure = Failure(refused, refused) if refused else explain(error)
    if failure is not None:
        report.outcome = "failed"
        if item.config.getoption("tbstyle") == "auto":
            report.longrepr = Shown(failure)  # type: ignore[assignment]  # any object that prints itself
    if bench is not None and (report.when == "call" or not report.passed):
        found = bench.outcome(failure, call.duration)
        report.__dict__[FOUND] = msgspec.to_builtins(found)
        # A teardown that fails makes a second report, and has put nothing to the test.
        bench.ledger.counts.clear()


@dataclass(frozen=True, slots=True)
class Crash:
    """Where pytest looks for the line of its short summary."""

    message: str


class Shown:
    """A failure, as pytest prints it."""

    def __init__(self, failure: Failure) -> None:
        self.reprcrash = Crash(failure.what)
        self.text = failure.text

    def __str__(self) -> str:
        return self.text

    def toterminal(self, writer: Any) -> None:
        for line in self.text.splitlines():
            writer.line(line)


class Listener:
    """Sums up a run, in the process that talks to the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[dict[str, Any]] = []
        self._report: Report | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found: dict[str, Any] | None = getattr(report, FOUND, None)
        if found is not None:
            self._found.append(found)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what was found, and fail a run in which too little was."""
        if not self._found:
            return
        import msgspec

        from taskq.testing.report import Outcome
        from taskq.testing.runner import judge

        outcomes: list[Outcome] = msgspec.convert(self._found, list[Outcome])
        self._report = judge(outcomes, self._config.getoption("--taskq-profile"))
        tested = [backend for backend in self._report.backends if not backend.facts.missing]
        if session.exitstatus == pytest.ExitCode.OK and not all(b.passed for b in tested):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        place: Path | None = self._config.getoption("--taskq-report")
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self._report.encode())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._report is None:
            return
        from taskq.testing.tables import lines

        terminalreporter.section("laws of the taskq contract: verdict and times put to the test")
        for line in lines(self._report):
            terminalreporter.line(line, red="NOT TESTED" in line or "BROKEN" in line)
