from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskq import TaskQ
from taskq.cli.main import cli

Run = Callable[..., Result]
Module = Callable[[str], str]

SHOP = """
from taskq import TaskQ

app = TaskQ("shop", broker="memory://")

@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y
"""
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, whose modules are forgotten afterwards."""
    for name in ("TASKQ_APP", "TASKQ_BROKER_URL", "TASKQ_RESULT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("shop"):
            del sys.modules[name]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(cli, arguments, prog_name="taskq", **options)  # type: ignore[arg-type]

    return invoke


@pytest.fixture
def module(folder: Path) -> Module:
    """Writes a module of its own name, and returns the name."""

    def write(source: str) -> str:
        name = f"shop{next(_numbers)}"
        (folder / f"{name}.py").write_text(source)
        return name

    return write


@pytest.fixture
def shop(module: Module, run: Run) -> Iterator[tuple[str, TaskQ]]:
    """An application on memory://: its module, and itself."""
    name = module(SHOP)
    assert run("-A", name, "status").exit_code == 0
    app = sys.modules[name].app
    yield name, app
    app.close()
