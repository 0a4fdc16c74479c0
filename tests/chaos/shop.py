"""The application of the chaos tests: tasks that write down what they do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from sqlalchemy.orm import Session

from taskq import TaskQ
from taskq.app.request import Request, current_request
from taskq.app.task import Task
from taskq.plugins import Plugins
from tests.chaos.business import Business, engine_of
from tests.chaos.ledger import Ledger


class DeliberateError(Exception):
    """What a task raises that is meant to fail."""


def make_app(url: str, ledger: Ledger, *, plugins: Plugins | None = None, **settings: Any) -> TaskQ:
    """Return the application, the same in producers and workers."""
    app = TaskQ("chaos", broker=url, plugins=plugins, **settings)

    @app.task(name="work")
    def work(seconds: float, burn: bool) -> int:
        with ledger.run(_request()):
            (_burn if burn else time.sleep)(seconds)
        return os.getpid()

    @app.task(name="crash")
    def crash() -> None:
        ledger.note_start(_request())
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="echo")
    def echo(value: str) -> str:
        with ledger.run(_request()):
            return value

    @app.task(name="brief", throws=(DeliberateError,))
    def brief(fail: bool) -> None:
        with ledger.run(_request()):
            if fail:
                raise DeliberateError

    @app.task(name="sale", bind=True)
    def sale(self: Task[..., Any], table: str) -> None:
        business = Business(engine_of(url, os.getpid()), table)
        with ledger.run(_request()), Session(business.engine) as session, self.complete(session):
            business.add(session.connection(), _request().id)
            time.sleep(0.002)

    return app


def _request() -> Request:
    request = current_request()
    assert request is not None
    return request


def _burn(seconds: float) -> None:
    """Keep the interpreter busy in pure Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(200))
