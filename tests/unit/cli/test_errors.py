from __future__ import annotations

import subprocess
import sys

import pytest

from taskq import errors
from taskq.cli.main import EPILOG, exit_code

from .conftest import SHOP, Module, Run

PASSWORD = "hunter2-hunter2"
DEAF = f"redis://user:{PASSWORD}@127.0.0.1:1/0"


def test_a_scheme_nobody_handles_is_told_with_what_is_installed(run: Run) -> None:
    result = run("-b", f"carrier://user:{PASSWORD}@pigeon", "status")

    assert result.exit_code == 2
    assert "no plugin handles carrier:// URLs" in result.stderr
    assert "installed are: amqp, amqps, mariadb, memory" in result.stderr
    assert PASSWORD not in result.output


def test_a_plugin_that_is_not_installed_is_told_with_the_cure(run: Run) -> None:
    result = run("-b", "postgresql://localhost/tasks", "status")

    if "pip install" not in result.stderr:
        pytest.skip("a plugin for PostgreSQL is installed here")
    assert result.exit_code == 2
    assert "pip install 'taskq-core[sql]'" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "redis://host:port", ""])
def test_what_is_no_url_is_told(url: str, run: Run) -> None:
    result = run("-b", url, "status")

    assert result.exit_code == 2
    assert "not a broker URL" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["purge", "-f"],
        ["dead", "list"],
        ["dead", "requeue", "--all"],
        ["result", "some-id"],
        ["call", "add"],
        ["demo"],
    ],
)
def test_an_unreachable_broker_ends_in_4_and_never_shows_its_password(
    command: list[str], module: Module, run: Run
) -> None:
    name = module(SHOP.replace('broker="memory://"', 'broker="memory://", enqueue_timeout=0.5'))
    arguments = command if command == ["demo"] else ["-A", name, *command]
    if command == ["call", "add"]:
        arguments = [*arguments, "-a", "[1, 2]"]

    result = run("-b", DEAF, *arguments)

    assert result.exit_code == 4, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert PASSWORD not in result.output


def test_debug_shows_the_error_itself(run: Run) -> None:
    result = run("--debug", "-b", "carrier://pigeon", "status")

    assert isinstance(result.exception, errors.UnknownScheme)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TaskError("a", "b"), 1),
        (errors.TaskRevokedError(), 1),
        (errors.DecodeError(), 1),
        (errors.UnknownScheme(), 2),
        (errors.NotSupported(), 2),
        (errors.NotRegistered(), 2),
        (errors.EncodingError(), 2),
        (errors.ConnectionFailed(), 4),
        (errors.ServerRefused(), 4),
        (errors.EnqueueError(), 4),
        (errors.UnknownResult(), 5),
        (errors.TimeoutError(), 6),
    ],
)
def test_each_error_has_its_exit_code(error: errors.TaskqError, code: int) -> None:
    assert exit_code(error) == code


def test_help_lists_the_exit_codes_and_the_commands(run: Run) -> None:
    result = run("--help")

    assert result.exit_code == 0
    assert EPILOG.splitlines()[-1] in result.stdout
    for command in ("worker", "call", "result", "status", "purge", "dead", "demo", "completion"):
        assert f"  {command} " in result.stdout


def test_version_is_told(run: Run) -> None:
    assert run("--version").stdout.startswith("taskq ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, run: Run) -> None:
    result = run("completion", shell)

    assert result.exit_code == 0
    assert "_TASKQ_COMPLETE" in result.stdout


def test_an_unknown_shell_or_option_is_a_usage_error(run: Run) -> None:
    assert run("completion", "tcsh").exit_code == 2
    assert run("status", "--jsn").exit_code == 2
    assert run("stats").exit_code == 2


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import taskq", ["click", "rich"]),
        ("import taskq.cli.main", ["rich", "taskq.worker.worker", "sqlalchemy", "redis"]),
    ],
)
def test_nothing_heavy_is_imported_too_early(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
