"""How a run of pytest with the kit is begun, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from taskq.testing import conformance, runner
from tests.kit.inner import LIFO, ONE, THREE_LINES, run, run_apart

pytest_plugins = ["pytester"]

FORGETFUL = """
from taskq.contract.capabilities import Capabilities
from taskq.errors import NotSupported
from taskq.memory.broker import MemoryBroker
from taskq.testing import BrokerConformance
from taskq.testing.mutants.target import MutantTarget

class Forgetful(MemoryBroker):
    capabilities = Capabilities(locate=False)

    def locate(self, ids, /):
        raise NotSupported

class TestForgetful(BrokerConformance):
    target = MutantTarget(Forgetful)
    target.allowed_denials = frozenset({"locate"})
"""
SUITE = ("--pyargs", "taskq.testing.conformance")
DEAF = "redis://:hunter2@127.0.0.1:1/0"


def test_three_lines_are_a_test_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREE_LINES)

    result = run(pytester, "-k", "urgent or leased")

    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 2
    result.stdout.fnmatch_lines(
        ["law  memory", "L8   undecided *", "*only a part of the kit was run"]
    )


def test_without_a_file_the_urls_of_the_command_line_are_tested(pytester: pytest.Pytester) -> None:
    result = run_apart(
        pytester, *SUITE, *ONE, "-v", "--taskq-broker-url=memory://", "--taskq-broker-url=sqlite://"
    )

    result.assert_outcomes(passed=2, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*urgent_come_first?memory?*", "*urgent_come_first?sqlite?*"])
    result.stdout.fnmatch_lines(["law  memory       sqlite"])


def test_two_urls_of_one_scheme_are_told_apart(pytester: pytest.Pytester) -> None:
    urls = [f"--taskq-broker-url=sqlite:///{pytester.path}/{name}.db" for name in "ab"]

    result = run_apart(pytester, *SUITE, *ONE, *urls)

    assert result.parseoutcomes()["passed"] == 2
    result.stdout.fnmatch_lines(
        [f"law  sqlite:///{pytester.path}/a.db  sqlite:///{pytester.path}/b.db"]
    )


@pytest.mark.parametrize("way", ["module", "file"])
def test_without_a_url_the_error_names_the_option(pytester: pytest.Pytester, way: str) -> None:
    where = SUITE if way == "module" else (str(conformance.__file__),)

    result = run(pytester, *where)

    assert result.ret != 0
    said = result.stdout.str() + result.stderr.str()
    assert "pass --taskq-broker-url=URL" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--taskq-broker-url=rubbish"], "--taskq-broker-url: not a broker URL"),
        (["--taskq-restart=true"], "goes with exactly one --taskq-broker-url"),
        (
            ["--taskq-broker-url=memory://", "--taskq-broker-url=sqlite://", "--taskq-restart=x"],
            "goes with exactly one --taskq-broker-url",
        ),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(
    pytester: pytest.Pytester, options: list[str], words: str
) -> None:
    result = run(pytester, *options)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}*"])


def test_a_class_without_a_target_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "from taskq.testing import ResultsConformance\nclass TestIt(ResultsConformance): pass"
    )

    result = run(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(['*TestIt has no target; say which: target = "scheme://*"*'])


def test_a_scheme_nobody_handles_fails_once(pytester: pytest.Pytester) -> None:
    result = run(pytester, *SUITE, "--taskq-broker-url=carrier://pigeon", "--taskq-profile=smoke")

    assert result.ret == 1
    assert result.parseoutcomes()["errors"] == 1
    assert result.parseoutcomes()["skipped"] > 50
    result.stdout.fnmatch_lines(["carrier://pigeon cannot be tested: no plugin handles carrier*"])


def test_a_server_that_is_not_there_skips_all_with_one_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREE_LINES.replace("memory://", DEAF))

    result = run(pytester)

    assert result.ret == 0
    assert set(result.parseoutcomes()) == {"skipped"}
    result.stdout.fnmatch_lines(["redis: NOT TESTED: the server was not reached: cannot connect*"])
    assert "hunter2" not in result.stdout.str()


@pytest.mark.parametrize("way", ["option", "CI", "command line"])
def test_a_server_that_is_required_and_not_there_fails_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "CI":
        monkeypatch.setenv("CI", "true")
    options = ["--taskq-require"] if way == "option" else []
    if way == "command line":
        options = [*SUITE, f"--taskq-broker-url={DEAF}"]
    else:
        pytester.makepyfile(THREE_LINES.replace("memory://", DEAF))

    result = run(pytester, *options)

    assert result.ret == 1
    assert result.parseoutcomes()["errors"] == 1
    assert set(result.parseoutcomes()) == {"errors", "skipped"}


def test_a_law_of_a_denied_capability_is_not_applicable_and_says_so(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(FORGETFUL)

    result = run(pytester, "-k", "locate_finds or located or may_be_denied")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["L22  n/a *", "memory: not applicable: L22: locate is denied"])


def test_a_denial_that_is_not_allowed_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FORGETFUL.replace('{"locate"}', "()"))

    result = run(pytester, "-k", "may_be_denied")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*denied without being an allowed denial*"])


def test_what_the_target_cannot_do_is_left_out_and_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREE_LINES)

    result = run(pytester, "-k", "restart_of_the_server", "-rs")

    assert result.ret == 0
    assert set(result.parseoutcomes()) == {"skipped", "deselected"}
    result.stdout.fnmatch_lines(["SKIPPED * the target cannot restart its server"])
    result.stdout.fnmatch_lines(["memory: left out: test_a_restart_of_the_server_loses_nothing: *"])


@pytest.mark.parametrize(
    "way",
    [
        "@pytest.mark.skip(reason='flaky')",
        "@pytest.mark.skipif(True, reason='slow')",
        "@pytest.mark.xfail(reason='known')",
    ],
)
def test_a_skip_without_a_capability_as_reason_is_a_failure(
    pytester: pytest.Pytester, way: str
) -> None:
    pytester.makepyfile("import pytest\n" + LIFO.replace("class Test", f"{way}\nclass Test"))

    result = run(pytester, *ONE)

    assert result.ret == 1
    assert set(result.parseoutcomes()) & {"skipped", "xfailed"} == set()
    result.stdout.fnmatch_lines(["a test of the kit may be skipped for one reason alone*"])


def test_a_skip_inside_a_test_is_a_failure_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        THREE_LINES
        + "    def test_the_most_urgent_come_first(self, case):\n"
        + "        import pytest; pytest.skip('too hard')\n"
    )

    assert run(pytester, *ONE).ret == 1


def test_an_author_s_own_test_in_the_class_may_be_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        THREE_LINES
        + "    def test_mine(self, case):\n"
        + "        import pytest; pytest.skip('later')\n"
        + "    def test_fresh(self, case):\n"
        + "        assert case.broker.stats() == []\n"
    )

    result = run(pytester, "-k", "test_mine or test_fresh")

    result.assert_outcomes(passed=1, skipped=1, deselected=result.parseoutcomes()["deselected"])


def test_a_target_that_does_not_work_fails_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
from taskq.testing import BrokerConformance, UrlTarget

class MyTarget(UrlTarget):
    pass

class TestMine(BrokerConformance):
    target = MyTarget("memory://")
"""
    )

    result = run(pytester)

    assert result.ret == 1
    assert result.parseoutcomes()["errors"] == 1
    assert set(result.parseoutcomes()) == {"errors", "skipped"}
    result.stdout.fnmatch_lines(
        ["*its target does not work: wipe raised NotImplementedError: MyTarget must say how*"]
    )


def test_a_plain_target_stands_for_the_one_that_the_plugin_has(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        THREE_LINES.replace("Conformance\n", "Conformance, UrlTarget\n", 1).replace(
            '"memory://"', 'UrlTarget("memory://", restart="true")'
        )
    )

    result = run(pytester, "-k", "left or restart_of_the_server")

    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 2


def test_a_law_that_was_tested_too_rarely_fails_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(part for part in runner.BROKER_PARTS if part.name == ONE[1])
    monkeypatch.setattr(runner, "BROKER_PARTS", few)
    pytester.makepyfile(THREE_LINES)

    result = run(pytester, *ONE)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["memory: L8 was put to the test only 2 times; 20 are needed*"])


def test_tests_can_be_told_by_their_laws(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREE_LINES)
    pytester.makeconftest(
        "def pytest_collection_modifyitems(items):\n"
        "    items[:] = [i for i in items if any('L9' in m.args for m in i.iter_markers('law'))]\n"
    )

    result = run(pytester)

    assert 0 < result.parseoutcomes()["passed"] < 10


def test_runs_at_once_do_not_disturb_each_other(pytester: pytest.Pytester) -> None:
    url = f"sqlite:///{pytester.path}/shared.db"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SUITE]
    command += [f"--taskq-broker-url={url}", "-k", "(left or stats or purge) and not random"]

    runs = [
        subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    for process in runs:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said


def test_the_restart_command_reaches_the_target(pytester: pytest.Pytester) -> None:
    marker = pytester.path / "restarted"
    command = f"touch {marker}"

    result = run(
        pytester,
        *SUITE,
        "--taskq-broker-url=memory://",
        f"--taskq-restart={command}",
        "-k",
        "restart_of_the_server",
    )

    assert result.ret == 0
    assert marker.exists()


def test_runs_without_the_kit_hear_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_x(): pass")

    result = run(pytester)

    result.assert_outcomes(passed=1)
    assert "taskq contract" not in result.stdout.str()


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_plugin_and_the_package_load_little() -> None:
    plain = loaded("import taskq.testing; dir(taskq.testing)")
    plugin = loaded("import taskq.testing.plugin")

    assert not {"pytest", "hypothesis", "taskq.testing.target"} & plain
    assert not {"hypothesis", "taskq.testing.runner", "taskq.testing.laws.case"} & plugin


def test_the_names_of_the_package_are_these() -> None:
    from taskq import testing

    assert testing.__all__ == [
        "BrokerConformance",
        "Fault",
        "LawBroken",
        "ResultsConformance",
        "Target",
        "UrlTarget",
    ]
    assert all(getattr(testing, name) for name in testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        testing.Nothing  # noqa: B018


def test_without_pytest_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['pytest'] = None; from taskq.testing import BrokerConformance"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "pip install 'taskq-core[testing]'" in done.stderr
