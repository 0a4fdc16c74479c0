"""Every check of the project, by name: `nox -l` lists them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PACKAGES = ("taskq", "taskq_amqp", "taskq_redis", "taskq_sql")
EXAMPLE = Path(__file__).parent / "examples" / "taskq_files"
CORE_ALONE = """
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
REDIS_AWAY = """
import sys
import taskq
app = taskq.TaskQ("smoke", broker="redis://127.0.0.1:1", enqueue_timeout=0.5)
try:
    app.send_task("x")
except taskq.EnqueueError as error:
    assert error.unsent and not error.unknown, error
else:
    raise SystemExit("sent to nobody")
assert "sqlalchemy" not in sys.modules
"""
DATABASES_AWAY = """
import taskq
for scheme in ("postgresql", "mariadb"):
    url = f"{scheme}://nobody@127.0.0.1:1/none"
    app = taskq.TaskQ("smoke", broker=url, enqueue_timeout=0.5)
    try:
        app.send_task("x")
    except taskq.EnqueueError as error:
        assert error.unsent and not error.unknown, error
    else:
        raise SystemExit("sent to nobody")
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
        _build(session, package, wheels)
    away = Path(session.create_tmp()).absolute()
    _build(session, str(EXAMPLE), away)
    with session.chdir(away):
        core = _venv(session, away / "core", wheels, "taskq-core")
        _python(session, core, "-c", CORE_ALONE)
        sql = _venv(session, away / "sql", wheels, "taskq-core[sql]")
        _python(session, sql, "-m", "taskq", "demo", "--folder", str(Path(nox.__file__).parent))
        servers = _venv(session, away / "servers", wheels, "taskq-core[postgresql,mysql]")
        _python(session, servers, "-c", DATABASES_AWAY)
        _python(session, servers, "-m", "taskq", "sql", "sql", "postgresql://host/database")
        _python(session, servers, "-m", "taskq", "outbox", "relay", "--help")
        redis = _venv(session, away / "redis", wheels, "taskq-core[redis]")
        _python(session, redis, "-c", REDIS_AWAY)
        kit = _venv(session, away / "kit", wheels, "taskq-core[testing]")
        _python(session, kit, "-m", "pip", "install", "-q", "--no-index", *_wheels(away))
        _use_kit(session, kit, away)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break a backend in every small way: `nox -s mutants -- --target sqlite` (minutes)."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure CPU per task next to a bare client and a peer."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


def _build(session: nox.Session, package: str, wheels: Path) -> None:
    session.run("python", "-m", "build", "--wheel", "--outdir", str(wheels), package, silent=True)


def _wheels(folder: Path) -> list[str]:
    return [str(wheel) for wheel in folder.glob("*.whl")]


def _use_kit(session: nox.Session, venv: Path, away: Path) -> None:
    """Put the example of the guide to the test in all three ways."""
    shutil.rmtree(away / "tests", ignore_errors=True)
    shutil.copytree(EXAMPLE / "tests", away / "tests")
    url = f"files://{away}/queue"
    _python(session, venv, "-m", "pytest", "-q", "tests")
    kit = ("--pyargs", "taskq.testing.conformance", "--taskq-profile=smoke")
    _python(session, venv, "-m", "pytest", "-q", *kit, f"--taskq-broker-url={url}")
    _python(session, venv, "-m", "taskq", "broker", "check", url, "--profile", "smoke")


def _venv(session: nox.Session, place: Path, wheels: Path, requirement: str) -> Path:
    session.run("python", "-m", "venv", "--clear", str(place))
    _python(session, place, "-m", "pip", "install", "-q", "--find-links", str(wheels), requirement)
    return place


def _python(session: nox.Session, venv: Path, *command: str) -> None:
    session.run(str(venv / "bin" / "python"), *command, external=True)
