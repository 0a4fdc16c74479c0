"""Every check of the project, by name: `nox -l` lists them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PACKAGES = ("taskq", "taskq_redis", "taskq_sql")
SMOKE = """
import sys
import taskq
from taskq.errors import UnknownScheme
assert not {"redis", "sqlalchemy", "click", "rich"} & sys.modules.keys(), sys.modules.keys()
try:
    taskq.TaskQ("smoke", broker="redis://localhost").broker
except UnknownScheme as error:
    assert "pip install 'taskq-core[redis]'" in str(error), error
else:
    raise SystemExit("redis:// opened without a plugin")
app = taskq.TaskQ("smoke", broker="memory://")
assert app.send_task("x").state == "PENDING"
"""


@nox.session
def tests(session: nox.Session) -> None:
    """Run unit tests, the conformance kit and the short chaos tests."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def contract(session: nox.Session) -> None:
    """Run the conformance kit: `nox -s contract -- --taskq-profile soak`."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/contract", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the import rules."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy in strict mode, and see that users' mistakes are seen by mypy and pyright."""
    session.install("-e", ".[test,types]")
    session.run("mypy")
    session.run("pytest", "-q", "tests/unit/app/test_typing.py", env={"CI": "true"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; warnings are errors."""
    session.install("-e", ".[test,docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "build/docs")


@nox.session
def dist(session: nox.Session) -> None:
    """Build the wheels, and use them in empty environments outside the checkout."""
    session.install("build")
    wheels = Path("dist").absolute()
    shutil.rmtree(wheels, ignore_errors=True)
    for package in PACKAGES:
        session.run(
            "python", "-m", "build", "--wheel", "--outdir", str(wheels), package, silent=True
        )
    away = Path(session.create_tmp()).absolute()
    core = away / "core"
    session.run("python", "-m", "venv", "--clear", str(core))
    _install(session, core, wheels, "taskq-core")
    with session.chdir(away):
        _python(session, core, "-c", SMOKE)
        _install(session, core, wheels, "taskq-core[sql]")
        _python(session, core, "-m", "taskq", "demo", "--folder", str(Path(nox.__file__).parent))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure CPU per task next to a bare client and a peer."""
    session.install("-e", ".[test,bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


def _install(session: nox.Session, venv: Path, wheels: Path, requirement: str) -> None:
    _python(session, venv, "-m", "pip", "install", "-q", "--find-links", str(wheels), requirement)


def _python(session: nox.Session, venv: Path, *command: str) -> None:
    session.run(str(venv / "bin" / "python"), *command, external=True)
