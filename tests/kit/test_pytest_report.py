"""What a run of pytest with the kit shows, and what it hands on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskq.contract.laws import LAWS
from taskq.testing.report import read_report
from tests.kit.inner import LIFO, ONE, THREE_LINES, run, run_apart

pytest_plugins = ["pytester"]


def test_a_failure_is_shown_in_the_words_of_the_kit(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LIFO)

    result = run(pytester, *ONE, "--taskq-profile=smoke")

    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "L8 is broken: first claim: *",
            f"  L8: {LAWS['L8']}",
            "  *claiming.py:*: in test_the_most_urgent_come_first",
            "    >     case.same*",
            "L8   BROKEN 1",
            "FAILED *",
        ],
        consecutive=False,
    )
    said = result.stdout.str()
    assert "_pytest" not in said
    assert "def check(" not in said


def test_a_sequence_that_breaks_a_law_is_shown_as_a_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LIFO)

    result = run_apart(
        pytester, "-p", "no:cacheprovider", "-k", "sequences_of_calls", "--taskq-profile=smoke"
    )

    result.stdout.fnmatch_lines(["*is broken: *", "def test_a_sequence_that_breaks_*"])
    failure = result.stdout.str().partition("FAILURES")[2].partition("laws of the taskq")[0]
    assert failure.count("\n") < 60
    assert "hypothesis" not in failure


def test_other_tracebacks_are_there_for_the_asking(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LIFO)

    result = run(pytester, *ONE, "--tb=long")

    assert "def check(" in result.stdout.str()


def test_what_was_found_survives_the_way_between_processes(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(LIFO)
    pytester.makeconftest(
        """
import json, pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    config = item.config
    sent = config.hook.pytest_report_to_serializable(config=config, report=report)
    got = json.loads(json.dumps(sent))
    return config.hook.pytest_report_from_serializable(config=config, data=got)
"""
    )

    result = run(pytester, *ONE)

    result.stdout.fnmatch_lines(["L8 is broken: first claim: *", "L8   BROKEN 1"])


def test_counts_of_several_processes_are_merged(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(THREE_LINES)
    arguments = ["-k", "urgent or lost or order"]

    alone = run_apart(pytester, *arguments)
    shared = run_apart(pytester, *arguments, "-n2")

    def table(result: pytest.RunResult) -> list[str]:
        return [line for line in result.outlines if line.startswith(("law", "L"))]

    assert shared.ret == 0
    assert len(table(alone)) > 3
    assert table(shared) == table(alone)


def test_the_report_is_json(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREE_LINES)

    run(pytester, *ONE, "--taskq-report=report.json")

    document = json.loads(Path(pytester.path, "report.json").read_text())
    assert [backend["facts"]["name"] for backend in document["backends"]] == ["memory"]


def test_a_teardown_that_fails_is_a_finding(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        LIFO.replace("LastInFirstOut)", "object)")
        + """
    def wipe(calls=iter(["when the kit looks"])):
        if not next(calls, None):
            raise TypeError("cannot wipe")

    target.wipe = wipe
"""
    )

    result = run(pytester, *ONE, "--taskq-report=report.json")

    assert result.ret == 1
    (backend,) = read_report((pytester.path / "report.json").read_bytes()).backends
    assert [failure.what for failure in backend.failures] == ["TypeError: cannot wipe"]
    assert next(finding.times for finding in backend.laws if finding.law == "L8") == 2
