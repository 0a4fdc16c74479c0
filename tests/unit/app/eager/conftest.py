"""An application in eager mode that must not touch its broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskq import Request, TaskQ, current_request
from taskq.app.task import Task

NOW = 1_800_000_000.0


class Away(Exception):
    """An exception that another process would not know."""


class Unlucky:
    """Fails so often, then returns which attempt it was."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.requests: list[Request] = []

    def __call__(self) -> int:
        request = current_request()
        assert request is not None
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            raise Away(len(self.requests))
        return len(self.requests)

    @property
    def attempts(self) -> int:
        return len(self.requests)


def add(x: int, y: int = 0) -> int:
    return x + y


@pytest.fixture
def app() -> Iterator[TaskQ]:
    """One that would notice if it were asked for its broker."""
    before = set(threading.enumerate())
    app = TaskQ("shop", broker="nosuch://nowhere", task_always_eager=True)
    yield app
    assert not app.opened
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("taskq")]


@pytest.fixture
def strict(app: TaskQ) -> TaskQ:
    app.conf.task_eager_propagates = True
    return app


def task(app: TaskQ, function: Callable[..., Any], **options: Any) -> Task[..., Any]:
    made: Task[..., Any] = app.task(name="t", **options)(function)
    return made
