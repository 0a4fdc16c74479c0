"""pytest fixtures for programs that use taskq: each test in a sandbox of its own.

They act where the project's pytest settings name the application::

    [tool.pytest.ini_options]
    taskq_app = "shop:app"

The name is what `taskq -A` takes, and as in a worker the modules of `include`
are imported. From the first test on the application is then *parked*: outside of a sandbox
it opens no broker, so that nothing a test run does, not even a thread that a
test has left behind, sends a task to a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from taskq.app.application import TaskQ
    from taskq.testing.parking import Parking
    from taskq.testing.sandbox import Sandbox

SETTING: Final = "taskq_app"
MARKER: Final = "taskq_real_broker"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(SETTING, "the application whose tasks are tested, such as shop:app", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARKER}: the application of {SETTING} uses its own broker, and no sandbox"
    )


@pytest.fixture
def taskq_sandbox(_taskq_sandbox: Sandbox | None) -> Sandbox:
    """The sandbox this test's application is in: `run`, `travel`, `sent`."""
    if _taskq_sandbox is None:
        pytest.fail(
            f"there is no sandbox: name the application in pytest's settings, such as "
            f'{SETTING} = "shop:app", and do not mark the test {MARKER}',
            pytrace=False,
        )
    return _taskq_sandbox


@pytest.fixture(autouse=True)
def _taskq_sandbox(
    request: pytest.FixtureRequest, _taskq_parked: Parking | None
) -> Iterator[Sandbox | None]:
    if _taskq_parked is None:
        yield None
    elif request.node.get_closest_marker(MARKER) is not None:
        with _taskq_parked.released():
            yield None
    else:
        from taskq.testing.sandbox import Sandbox

        with Sandbox(_taskq_parked.app) as sandbox:
            yield sandbox


@pytest.fixture(scope="session", autouse=True)
def _taskq_parked(pytestconfig: pytest.Config) -> Iterator[Parking | None]:
    spec = str(pytestconfig.getini(SETTING)).strip()
    if not spec:
        yield None
        return
    from taskq.testing.parking import Parking

    app = _application(spec)
    if app.opened:
        raise _refusal(
            f"application {app.name!r} has opened {app.broker_url} before the first test: a module "
            "sends a task, or touches app.broker or app.results, when it is imported. Move that "
            "into a function"
        )
    with Parking(app) as parking:
        yield parking


def _application(spec: str) -> TaskQ:
    from taskq.app.loading import find_app, import_tasks
    from taskq.errors import ImproperlyConfigured

    try:
        app = find_app(spec)
        import_tasks(app)
    except ImproperlyConfigured as error:
        why = f"{SETTING} = {spec!r}: {error}"
        if error.__cause__ is None:  # otherwise it is a module that says itself why it failed
            why += (
                "\nWrite it as module:name, such as shop:app. The folder of a module that is not "
                "installed belongs in pytest's setting pythonpath"
            )
        raise _refusal(why) from None
    return app


def _refusal(why: str) -> BaseException:
    return pytest.fail.Exception(why, pytrace=False)
