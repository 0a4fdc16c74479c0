from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import SHOP, Module, Run

APP = 'from taskq import TaskQ\n{name} = TaskQ("{name}", broker="memory://")\n'


def test_an_application_called_app_is_found_by_its_module(module: Module, run: Run) -> None:
    assert run("-A", module(SHOP), "status").exit_code == 0


def test_the_only_application_of_a_module_is_found(module: Module, run: Run) -> None:
    assert run("-A", module(APP.format(name="queue")), "status").exit_code == 0


def test_app_wins_over_others(module: Module, run: Run) -> None:
    name = module(APP.format(name="app") + APP.format(name="other"))

    assert run("-A", name, "status").exit_code == 0


def test_the_option_may_stand_before_or_after_the_command(module: Module, run: Run) -> None:
    name = module(SHOP)

    assert run("-A", name, "dead", "list").exit_code == 0
    assert run("dead", "list", "-A", name).exit_code == 0
    assert run("dead", "-A", name, "list").exit_code == 0


def test_the_environment_names_the_application(
    module: Module, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQ_APP", module(SHOP))

    assert run("status").exit_code == 0


def test_the_command_line_wins_over_the_environment(
    module: Module, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQ_APP", "no_such_module")

    assert run("status", "-A", module(SHOP)).exit_code == 0


def test_workdir_is_where_modules_are_looked_for(folder: Path, run: Run) -> None:
    place = folder / "elsewhere"
    place.mkdir()
    (place / "shopaway.py").write_text(SHOP)

    assert run("-A", "shopaway", "status", "--workdir", str(place)).exit_code == 0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no_such_module", ["no module 'no_such_module'"]),
        ("json.nothing", ["no module 'json.nothing'", "write json:nothing"]),
        ("json.py", ["no module 'json.py'", "leave out the ending: json"]),
        ("json", ["'json' has no application", "make one there"]),
        ("json:loads", ["json:loads is a function, not a TaskQ"]),
        ("json:nothing", ["json:nothing does not exist"]),
        ("../shop", ["'../shop' is not the name of a module", "--workdir"]),
        ("", ["'' is not the name of a module"]),
        (".shop", ["'.shop' is not the name of a module"]),
    ],
)
def test_what_cannot_be_found_is_told(spec: str, words: list[str], run: Run) -> None:
    result = run("-A", spec, "status")

    assert result.exit_code == 2
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_several_applications_are_named(module: Module, run: Run) -> None:
    name = module(APP.format(name="mail") + APP.format(name="web"))

    result = run("-A", name, "status")

    assert result.exit_code == 2
    assert f"{name}:mail, {name}:web" in result.stderr
    assert run("-A", f"{name}:web", "status").exit_code == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("def broken(:", "SyntaxError"),
        ("raise ValueError('too bad')", "ValueError: too bad"),
        ("raise SystemExit('over')", "SystemExit: over"),
    ],
)
def test_an_error_inside_the_module_shows_where(
    source: str, reason: str, module: Module, run: Run
) -> None:
    name = module(f"\n{source}\n")

    result = run("-A", name, "status")

    assert result.exit_code == 2
    assert f"module '{name}' cannot be imported" in result.stderr
    assert f'{name}.py", line 2' in result.stderr
    assert reason in result.stderr
    assert "importlib" not in result.stderr


def test_without_application_and_broker_the_cure_is_told(run: Run) -> None:
    result = run("status")

    assert result.exit_code == 2
    assert "-A" in result.stderr
    assert "-b" in result.stderr
    assert "TASKQ_BROKER_URL" in result.stderr


def test_a_worker_needs_an_application(run: Run) -> None:
    result = run("-b", "memory://", "worker")

    assert result.exit_code == 2
    assert "which application?" in result.stderr


def test_a_broker_alone_serves_where_no_tasks_are_needed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("-b", "memory://", "status").exit_code == 0
    monkeypatch.setenv("TASKQ_BROKER_URL", "memory://")
    assert run("dead", "list").exit_code == 0


def test_the_broker_option_wins_over_what_the_module_has_opened(
    module: Module, run: Run, folder: Path
) -> None:
    name = module(SHOP + "add.delay(1, 2)\n")

    result = run("-A", name, "-b", f"sqlite:///{folder}/other.db", "purge", "-f")

    assert result.exit_code == 0
    assert "nothing waits" in result.stderr
