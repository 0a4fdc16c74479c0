"""Eager mode: a task runs where it is sent, at once, with all that a worker does to it.

The message is written and read back as on its way to a worker, and the same
`Executor` runs it and judges the outcome, so that arguments, values and
exceptions which would not travel do not pass here either. There is no broker:
no queue, no lease, no worker to lose, and no time: delays are skipped over.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from taskq.app.application import TaskQ
from taskq.app.result import AsyncResult
from taskq.clock import Seconds, Timestamp
from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import ImproperlyConfigured, NotRegistered, TaskError
from taskq.wire.outcome import Status
from taskq.worker.executor import Completed, Executor, Run

R = TypeVar("R", covariant=True)
T = TypeVar("T")

NAME: Final = "eager"
"""What a task finds as its worker's name, and its lease's token."""
MOST_RETRIES: Final = 100
"""Retries without end have none where no time passes."""
OUTCOMES: Final = (Exception, SystemExit, asyncio.CancelledError)
"""What user code may raise as the outcome of a task. Anything else, such as Ctrl-C or the
exceptions by which a test ends, is meant for the caller whose thread this is."""


class EagerResult(AsyncResult[R]):
    """The result of a task that has run already, kept here and nowhere else."""

    __slots__ = ("_record",)

    def __init__(self, app: TaskQ, id: str, record: ResultRecord | None, *, ignored: bool) -> None:
        super().__init__(id, app, ignored=ignored)
        self._record = record

    def __repr__(self) -> str:
        return f"<EagerResult {self.id}>"

    async def aget(self, timeout: Seconds | None = None, propagate: bool = True) -> R:
        return self.get(timeout, propagate)

    def forget(self) -> None:
        self._record = None

    def _fetch(self) -> ResultRecord | None:
        return self._record

    def _locate(self) -> str:
        return "nowhere"

    def _await_record(self, limit: Seconds) -> ResultRecord:  # noqa: ARG002 - never waits
        record = self.verdict()
        assert record is not None  # what is nowhere has a result, or an error says that it is gone
        return record


def run_now(app: TaskQ, item: Send, *, ignored: bool) -> EagerResult[Any]:
    """Run a message's task in this thread, and its retries right after; return its result.

    A delay is not waited for, but counts: a task that would expire before it
    is due is not run. Coroutines get an event loop of their own, in another
    thread where one runs here.

    Raises:
        NotRegistered: the task is not defined in this process.
        ImproperlyConfigured: it retries without end.
        Exception: what the task raised in the end, if `task_eager_propagates`.
    """
    delivery, end = _first(app, item)
    raised: list[BaseException] = []
    executor = Executor(app, NAME, on_error=lambda _, error: raised.append(error), claimed=False)
    while True:
        raised.clear()
        settlement = _run(executor, delivery)
        for error in raised:
            if not isinstance(error, OUTCOMES):
                raise error
        if not isinstance(settlement, Retry):
            break
        if delivery.retries >= MOST_RETRIES:
            raise ImproperlyConfigured(
                f"task {delivery.id} was retried {MOST_RETRIES} times: eager mode retries at once, "
                "so a task needs max_retries there"
            ) from (raised[-1] if raised else None)
        delivery = _again(delivery, settlement, end)
    assert isinstance(settlement, Ack | Dead)
    result: EagerResult[Any] = EagerResult(app, delivery.id, settlement.result, ignored=ignored)
    if app.conf.task_eager_propagates:
        _propagate(result, settlement, raised)
    return result


def off_loop(function: Callable[..., T], *args: Any) -> T:
    """Call a function here, or in a thread of its own where an event loop runs here.

    It may run an event loop itself. The thread has ended when this returns.
    """
    if not _loop_runs():
        return function(*args)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="taskq-off-loop") as pool:
        return pool.submit(context.run, function, *args).result()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _first(app: TaskQ, item: Send) -> tuple[Delivery, Timestamp | None]:
    """Return what a worker that is always free would claim, and when the message expires."""
    now = app.clock.now()
    due = now + item.delay if item.eta is None else item.eta
    start = max(now, due)
    end = item.expires if item.ttl is None else now + item.ttl
    expired = end is not None and end <= start
    first = Delivery(item.message, token=NAME, claimed=start, lease_until=math.inf, expired=expired)
    return first, end


def _run(executor: Executor, delivery: Delivery) -> Settlement:
    run = executor.prepare(delivery)
    if isinstance(run, Release):
        raise NotRegistered(
            "eager mode runs the tasks that are defined in this process, and the one that was "
            "sent is not: import its module, or test with taskq.testing.sandbox"
        )
    if not isinstance(run, Run):
        return run
    run.request.is_eager = True
    outcome = executor.call(run, lambda coroutine: off_loop(asyncio.run, coroutine))
    assert not isinstance(outcome, Completed)  # there is nothing to complete but the effects
    return outcome


def _again(delivery: Delivery, retry: Retry, end: Timestamp | None) -> Delivery:
    """Return what a worker would claim after the retry's delay."""
    start = delivery.claimed + retry.delay
    message = delivery.message
    if retry.envelope is not None:
        message = msgspec.structs.replace(message, envelope=retry.envelope)
    return msgspec.structs.replace(
        delivery,
        message=message,
        claimed=start,
        retries=delivery.retries + 1,
        run=delivery.run + 1,
        expired=end is not None and end <= start,
    )


def _propagate(
    result: EagerResult[Any], settlement: Ack | Dead, raised: list[BaseException]
) -> None:
    """Raise what the task failed with, if it did."""
    if raised:
        raise raised[-1]
    record = settlement.result
    if record is not None and record.state != Status.SUCCESS:
        result.get(disable_sync_subtasks=False)
    elif isinstance(settlement, Dead):
        raise TaskError(f"taskq.{settlement.code}", settlement.detail)
