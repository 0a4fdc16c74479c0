from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskq import TaskQ
from taskq.clock import VirtualClock
from taskq.contract.delivery import Delivery
from taskq.contract.results import ResultRecord
from taskq.wire import envelope, outcome
from taskq.wire.envelope import Envelope
from taskq.wire.failures import describe
from taskq.wire.outcome import Outcome, Status

Make = Callable[..., TaskQ]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(frozen=True)


@pytest.fixture
def make(clock: VirtualClock) -> Iterator[Make]:
    """Make applications on a memory broker of their own."""
    made: list[TaskQ] = []

    def new(**settings: Any) -> TaskQ:
        settings = {"broker": "memory://", "clock": clock, **settings}
        made.append(TaskQ("shop", **settings))
        return made[-1]

    yield new
    for app in made:
        app.close()


@pytest.fixture
def app(make: Make) -> TaskQ:
    return make()


def claim(app: TaskQ, *queues: str) -> list[Delivery]:
    return app.broker.reserve(queues or ("default",), limit=100, lease=60)


def opened(app: TaskQ, delivery: Delivery) -> tuple[Envelope, Any, Any]:
    """Return a delivery's first line, args and kwargs."""
    header, body = envelope.read(delivery.message.envelope)
    args, kwargs = app.codecs.of(header.type).decode(body)
    return header, args, kwargs


def sent(app: TaskQ, *queues: str) -> tuple[Envelope, Any, Any]:
    """Return the one message there is, opened."""
    [delivery] = claim(app, *queues)
    return opened(app, delivery)


def record(
    app: TaskQ,
    id: str,
    value: Any = None,
    *,
    state: Status | None = None,
    run: int = 0,
    task: str = "t",
) -> ResultRecord:
    """Return what a worker would store: a value, or an exception."""
    failed = isinstance(value, BaseException)
    state = state or (Status.FAILURE if failed else Status.SUCCESS)
    codec = app.codecs.default
    header = Outcome(v=outcome.VERSION, task=task, state=state, type=codec.content_type)
    payload = (
        outcome.write_failure(header, describe(value, codec), codec)
        if failed
        else outcome.write(header, codec.encode(value))
    )
    return ResultRecord(id=id, run=run, state=state, payload=payload, ttl=3600)
