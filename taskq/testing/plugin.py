"""The pytest plugin of the conformance kit: its options, its counts, its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from taskq.testing.record import Record

if TYPE_CHECKING:
    from taskq.testing.conformance import Conformance

PROFILES: Final = ("smoke", "default", "soak")
_record: Final = pytest.StashKey[Record]()
_scarce: Final = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskq", "conformance of taskq backends")
    group.addoption(
        "--taskq-broker-url",
        action="append",
        default=[],
        metavar="URL",
        help="a backend to test with `--pyargs taskq.testing.suite`; may be repeated",
    )
    group.addoption(
        "--taskq-profile",
        choices=PROFILES,
        default="default",
        help="how many random sequences to try: smoke 20, default 100, soak 2000",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "law(*numbers): the laws of the contract a test checks")
    config.stash[_record] = Record()
    config.stash[_scarce] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note of which backends the whole suite is going to run."""
    chosen: dict[type[Conformance], set[str]] = {}
    for item in session.items:
        suite: type[Conformance] | None = getattr(item, "cls", None)
        if (
            suite is not None
            and hasattr(suite, "taskq_laws")
            and not any(item.iter_markers("skip"))
        ):
            chosen.setdefault(suite, set()).add(item.name)
    for suite, names in chosen.items():
        if all(name in names for name in dir(suite) if name.startswith("test_")):
            session.config.stash[_record].expect(suite.label(), set(suite.taskq_laws))


@pytest.fixture(scope="session")
def taskq_record(pytestconfig: pytest.Config) -> Record:
    """Return the counts of this run."""
    return pytestconfig.stash[_record]


@pytest.fixture(scope="session")
def taskq_profile(pytestconfig: pytest.Config) -> str:
    """Return the name of the chosen profile."""
    return str(pytestconfig.getoption("--taskq-profile"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which whole suites passed without testing each law enough."""
    config = session.config
    if config.getoption("--taskq-profile") == "smoke" or session.testsfailed:
        return
    config.stash[_scarce] = config.stash[_record].scarce()
    if config.stash[_scarce]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash[_record].table()
    if not lines:
        return
    terminalreporter.section("laws of the taskq contract: times put to the test")
    for line in lines:
        terminalreporter.line(line)
    for sentence in config.stash[_scarce]:
        terminalreporter.line(sentence, red=True)
