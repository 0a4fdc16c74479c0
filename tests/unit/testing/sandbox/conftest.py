"""An application as a program defines it, in a sandbox."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from taskq import Request, TaskQ, current_request
from taskq.testing.sandbox import Sandbox
from taskq.testing.workbench import TaskRun

URL = "redis://127.0.0.1:1"
"""Where nobody listens."""
HOUR = 3600.0


class Shop:
    """An application as a program defines it, and a log of what its tasks have done."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.app = TaskQ("shop", broker=URL)
        self.note = self.app.task(name="note", queue="notes")(self._note)
        self.add = self.app.task(name="add")(self._add)
        self.fail = self.app.task(name="fail")(self._fail)
        self.flaky = self.app.task(name="flaky", max_retries=3, default_retry_delay=10)(self._flaky)

    def _note(self, what: str) -> None:
        self.log.append(what)

    def _add(self, x: int, y: int = 0) -> int:
        return x + y

    def _fail(self, what: str = "") -> None:
        raise ZeroDivisionError(what)

    def _flaky(self, failures: int) -> int:
        retries = self.request.retries
        self.log.append((retries, self.app.clock.now()))
        if retries < failures:
            raise ConnectionError(str(retries))
        return retries

    @property
    def request(self) -> Request:
        request = current_request()
        assert request is not None
        return request


@dataclasses.dataclass
class Ticket:
    """Good for one use: an argument that is fine when it is sent, and no more when it arrives."""

    number: int
    used: ClassVar[list[int]] = []

    def __post_init__(self) -> None:
        if self.number in self.used:
            raise ValueError("used")
        self.used.append(self.number)


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    clock, plugins, settings = shop.app.clock, shop.app.plugins, repr(shop.app.conf)
    before = threads()
    yield shop
    assert not shop.app.opened
    assert (shop.app.clock, shop.app.plugins, repr(shop.app.conf)) == (clock, plugins, settings)
    assert threads() <= before


@pytest.fixture
def box(shop: Shop) -> Iterator[Sandbox]:
    with Sandbox(shop.app) as box:
        yield box


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith("taskq")}


def outcomes(ran: list[TaskRun]) -> list[tuple[str, str]]:
    return [(run.task, run.state) for run in ran]
