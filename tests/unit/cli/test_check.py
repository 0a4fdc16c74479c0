from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskq.contract.laws import LAWS
from taskq.testing import runner

from .conftest import Run

LIFO = """
from taskq.plugins import PluginInfo, hookimpl
from taskq.testing.mutants.claiming import LastInFirstOut
from taskq.testing.mutants.target import MutantTarget


@hookimpl
def taskq_plugin():
    return PluginInfo(name="lifo", version="0.7", schemes=("lifo",))


@hookimpl
def taskq_target(url, plugins):
    target = MutantTarget(LastInFirstOut)
    target.given = url
    return target
"""
UNFINISHED = (
    LIFO.replace("from taskq.testing.mutants.claiming", "from taskq.memory.broker")
    .replace("import LastInFirstOut", "import MemoryBroker")
    .replace("MutantTarget(LastInFirstOut)", "MutantTarget(Unfinished)")
    + """

class Unfinished(MemoryBroker):
    def settle(self, settlements, /):
        raise NotImplementedError
"""
)
ENTRY_POINTS = "[taskq]\nlifo = lifo_plugin\n"
METADATA = "Metadata-Version: 2.1\nName: lifo\nVersion: 0.7\n"
WITHOUT = """
import sys
assert not {blocked!r} & sys.modules.keys()
sys.modules.update(dict.fromkeys({blocked!r}))  # as if they were not installed
from taskq.cli.main import main
sys.argv[0] = "taskq"
main()
"""


@pytest.fixture
def lifo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed plugin whose broker delivers the last message first."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "lifo_plugin", raising=False)
    (folder / "lifo_plugin.py").write_text(LIFO)
    about = folder / "lifo-0.7.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text(ENTRY_POINTS)


@pytest.fixture
def unfinished(lifo: None, folder: Path) -> None:
    """The same plugin, whose broker cannot settle yet."""
    (folder / "lifo_plugin.py").write_text(UNFINISHED)


def without(blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(blocked=blocked), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_without_hypothesis_the_cure_is_told() -> None:
    done = without({"hypothesis"}, "broker", "check", "memory://")

    assert done.returncode == 2
    assert "pip install 'taskq-core[testing]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_examples_of_a_law_can_be_run_alone(run: Run) -> None:
    result = run("broker", "check", "memory://", "--law", "L9", "--law", "r5")

    assert result.exit_code == 0
    assert "The examples of L9, R5 pass." in result.stdout
    laws = [line.split()[0] for line in result.stdout.splitlines() if "undecided  " in line]
    assert laws == ["L9", "R5"]


@pytest.mark.usefixtures("lifo")
def test_a_broken_law_is_told_with_its_sentence_and_the_place(run: Run) -> None:
    result = run("broker", "check", "lifo://", "--law", "L9")

    assert result.exit_code == 1
    assert f"  L9: {LAWS['L9']}" in result.stdout
    assert "in test_messages_of_one_producer_come_in_the_order_they_were_sent" in result.stdout
    assert "  L9   broken " in result.stdout
    assert "of the kit failed; broken: L9" in result.stdout
    assert "L9 is broken: first claim" in result.stderr


@pytest.mark.usefixtures("lifo")
def test_json_is_the_report_and_nothing_else(run: Run) -> None:
    result = run("broker", "check", "lifo://", "--law", "L9", "--json")

    document = json.loads(result.stdout)
    (backend,) = document["backends"]
    assert result.exit_code == 1
    assert not document["passed"]
    assert (backend["facts"]["name"], backend["facts"]["url"]) == ("lifo", "lifo://")
    assert {law["law"]: law["verdict"] for law in backend["laws"]}["L9"] == "broken"


def test_a_run_of_some_laws_is_not_complete(run: Run) -> None:
    result = run("broker", "check", "memory://", "--law", "L9", "--json")

    document = json.loads(result.stdout)
    assert (document["passed"], document["complete"]) == (True, False)


@pytest.mark.usefixtures("unfinished")
def test_what_is_not_written_yet_is_told_by_its_name(run: Run) -> None:
    result = run("broker", "check", "lifo://", "--law", "L9")

    assert result.exit_code == 1
    assert "settle raised NotImplementedError" in result.stderr
    assert "  L9   undecided " in result.stdout
    assert "parts of the kit failed; not written yet: settle (" in result.stdout
    assert "broken" not in result.stdout


@pytest.mark.usefixtures("lifo")
def test_the_shortest_sequence_is_told_as_a_test(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BROKER_PARTS", runner.WHOLE[:1])
    monkeypatch.setattr(runner, "STORE_PARTS", ())

    result = run("broker", "check", "lifo://", "--profile", "smoke", "--json")

    (failure,) = json.loads(result.stdout)["backends"][0]["failures"]
    assert "def test_a_sequence_that_breaks_" in failure["text"]
    assert failure["text"].count("\n") < 60


def test_a_law_that_was_tested_too_rarely_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(part for part in runner.BROKER_PARTS if "L9" in part.laws)
    monkeypatch.setattr(runner, "BROKER_PARTS", few)
    monkeypatch.setattr(runner, "STORE_PARTS", ())

    result = run("broker", "check", "memory://")

    assert result.exit_code == 1
    assert f"0 of {len(few)} parts of the kit failed; too rarely tested: L1, " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["carrier://user:hunter2@pigeon"], 2, "no plugin handles carrier://"),
        (["rubbish"], 2, "not a broker URL"),
        (["redis://:hunter2@127.0.0.1:1/0"], 4, "redis://:***@127.0.0.1:1/0: the server was not"),
        (["memory://", "--law", "L99"], 2, "there is no law L99"),
        (["memory://", "--law", "l8,L9"], 2, "give them one by one: --law L8 --law L9"),
        (["memory://", "--law", "L8,L99"], 2, "there is no law L8,L99"),
        (["memory://", "--profile", "huge"], 2, "'huge' is not one of"),
        ([], 2, "Missing argument 'URL'"),
    ],
)
def test_what_cannot_be_tested_is_told(
    run: Run, arguments: list[str], code: int, words: str
) -> None:
    result = run("broker", "check", *arguments)

    assert result.exit_code == code
    assert words in result.stderr
    assert "hunter2" not in result.output


def test_a_restart_command_that_fails_is_a_finding(run: Run) -> None:
    result = run("broker", "check", "memory://", "--law", "L31", "--restart", "false")

    assert result.exit_code == 1
    assert "the restart command 'false' ended with 1" in result.stdout


def rows(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as link:
        tables = [
            name for (name,) in link.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        counts = [
            link.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
            if any(
                column[1] == "namespace" for column in link.execute(f"PRAGMA table_info({table})")
            )
        ]
    return sum(counts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_namespace(folder: Path, number: signal.Signals) -> None:
    database = folder / "tasks.db"
    command = [sys.executable, "-m", "taskq", "broker", "check", f"sqlite:///{database}"]
    with subprocess.Popen(command, cwd=folder, stdout=-1, stderr=-1) as process:
        deadline = time.monotonic() + 30
        while not (database.exists() and rows(database)):
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(number)
        said = process.communicate(timeout=30)

    assert process.returncode == 1, said
    assert b"Aborted!" in said[1]
    assert rows(database) == 0
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"tasks"}
