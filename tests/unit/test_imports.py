"""What the packages import: nothing that runs what a message says, and nothing heavy."""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("taskq*/__init__.py"))
SOURCES = sorted(source for package in PACKAGES for source in package.rglob("*.py"))

FORBIDDEN_MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "yaml", "code",
    "codeop",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
HEAVY = {
    "alembic", "asyncio", "click", "concurrent.futures.thread", "hiredis", "multiprocessing",
    "pika", "platformdirs", "redis", "rich", "sqlalchemy", "sqlite3", "ssl", "taskq.cli",
    "taskq.testing", "taskq.worker", "taskq_amqp", "taskq_redis", "taskq_sql",
}  # fmt: skip


def parsed(source: str) -> ast.AST:
    # A collection in mid-parse may let another thread parse, which CPython before
    # 3.11.8 answers with "recursion depth mismatch" (python/cpython#106905).
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


def forbidden(source: str) -> Iterator[str]:
    for node in ast.walk(parsed(source)):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if (
                module.partition(".")[0] in FORBIDDEN_MODULES
            ):
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                yield f"{name}()"
            case ast.Constant(value=str(text)) if text in FORBIDDEN_MODULES - {"code"}:
                yield f"the name {text!r}"


def test_the_scan_finds_what_it_is_for() -> None:
    source = (
        "import pickle.x\nfrom yaml import load\neval('1')\n"
        "import_module('marshal')\nre.compile('')"
    )

    assert list(forbidden(source)) == [
        "pickle.x",
        "yaml",
        "eval()",
        "the name 'marshal'",
    ]
    assert len(SOURCES) > 30
    assert {package.name for package in PACKAGES} >= {"taskq"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_can_run_what_a_message_says(source: Path) -> None:
    assert list(forbidden(source.read_text())) == []


def loaded(statement: str) -> set[str]:
    code = (
        f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_taskq_loads_no_backend_no_loop_and_no_terminal() -> None:
    modules = loaded("import taskq")

    assert "taskq.app.application" in modules
    assert HEAVY & modules == set()


def test_neither_does_making_an_application_and_a_task() -> None:
    modules = loaded("import taskq; taskq.TaskQ('shop', broker='memory://').task(name='t')(print)")

    assert HEAVY & modules == set()


def test_sending_to_memory_looks_for_no_plugins() -> None:
    modules = loaded("import taskq; taskq.TaskQ('shop', broker='memory://').send_task('t', (1,))")

    assert "taskq.memory.broker" in modules
    assert HEAVY & modules == set()
