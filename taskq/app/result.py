"""What becomes of a task, seen by whoever has its id."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from taskq.app.request import current_request
from taskq.app.settings import seconds
from taskq.clock import Seconds
from taskq.contract.delivery import State
from taskq.contract.results import ResultRecord
from taskq.errors import (
    ConnectionFailed,
    ImproperlyConfigured,
    OutcomeUnknown,
    ResultError,
    TaskError,
    TaskRevokedError,
    TimeoutError,  # noqa: A004
    UnknownResult,
)
from taskq.wire import outcome
from taskq.wire.failures import rebuild
from taskq.wire.outcome import READY_STATES, Status

if TYPE_CHECKING:
    from taskq.app.application import TaskQ

R = TypeVar("R", covariant=True)

FIRST_WAIT: Final[Seconds] = 0.05
"""Before this is over an unknown id is found out."""
LONGEST_WAIT: Final[Seconds] = 1.0
OUTAGE_PAUSE: Final[Seconds] = 0.2
"""Between two looks while the result store is out of reach."""

_STATUS: Final = {
    State.SCHEDULED: Status.PENDING,
    State.READY: Status.PENDING,
    State.PROCESSING: Status.STARTED,
    State.DEAD: Status.FAILURE,
}


class AsyncResult(Generic[R]):
    """A handle on a task's result. Cheap to make, and thread-safe.

    The result can be read any number of times, by anybody, until it expires
    (`result_expires`) or is forgotten.
    """

    __slots__ = ("app", "id", "ignored")

    def __init__(self, id: str, app: TaskQ, *, ignored: bool = False) -> None:
        self.id = id
        self.app = app
        self.ignored = ignored
        """The sender asked for no result."""

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.id

    def get(
        self,
        timeout: Seconds | None = None,
        propagate: bool = True,
        *,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task, and return what it returned.

        Waits `timeout` seconds, or `result_timeout` if None. With
        `propagate=False` an exception is returned instead of raised. Inside a
        task it refuses, since a worker that waits for its own queue may wait
        for ever, unless `disable_sync_subtasks=False`.

        Raises:
            Exception: what the task raised, with the worker's traceback as its cause.
            TaskError: the same, where the exception's class is not known here.
            TaskRevokedError: the task expired before it could start.
            TimeoutError: no result came in time; says the task's state.
            UnknownResult: there is no such task, or its result is not kept (any more).
            ConnectionFailed: the result store stayed out of reach until the timeout.
        """
        self._refuse_waiting(disable_sync_subtasks)
        limit = self._limit(timeout)
        record = self._await_record(limit)
        return self._open(record, propagate)

    async def aget(self, timeout: Seconds | None = None, propagate: bool = True) -> R:
        """Do what `get` does, without blocking the event loop."""
        self._refuse_waiting(disable_sync_subtasks=True)
        limit = self._limit(timeout)
        record = await self.app.bridge.wait_for(self, limit)
        return self._open(record, propagate)

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED.

        What is not known at all is PENDING too; `known` tells it apart.
        """
        return self._look()[0]

    status = state

    @property
    def known(self) -> bool | None:
        """Whether there is such a task or result. None: this broker cannot tell."""
        return self._look()[1]

    def ready(self) -> bool:
        """Say whether the task has ended, in whatever way."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Say whether the task has returned."""
        return self.state == Status.SUCCESS

    def failed(self) -> bool:
        """Say whether the task has failed for good."""
        return self.state == Status.FAILURE

    @property
    def result(self) -> Any:
        """What the task returned, the exception it raised, or None while it runs."""
        record = self._fetch()
        return None if record is None else self._value(record)

    @property
    def traceback(self) -> str | None:
        """The worker's traceback as text, if there is one."""
        record = self._fetch()
        if record is None or record.state == Status.SUCCESS:
            return None
        header, data = outcome.read(record.payload)
        return outcome.read_failure(header, data, self.app.codecs).traceback or None

    def forget(self) -> None:
        """Drop the result."""
        self.app.results.forget([self.id])

    # -- Waiting

    def _limit(self, timeout: object) -> Seconds:
        return self.app.conf.result_timeout if timeout is None else seconds(timeout, "timeout")

    def _await_record(self, limit: Seconds) -> ResultRecord:
        deadline = time.monotonic() + limit
        nap = FIRST_WAIT
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                found = self.app.results.wait([self.id], timeout=min(left, nap))
                record = found.get(self.id) or self.verdict()
            except (ConnectionFailed, OutcomeUnknown):
                if left <= OUTAGE_PAUSE:
                    raise
                time.sleep(OUTAGE_PAUSE)
                continue
            if record is not None:
                return record
            if time.monotonic() >= deadline:
                self.give_up(limit)
            nap = LONGEST_WAIT

    def verdict(self) -> ResultRecord | None:
        """Return the final record if it came meanwhile; None if it is worth waiting.

        Raises:
            UnknownResult: there is none, and no task that could make one.
            TaskError: the task is a dead letter without a result.
        """
        if self.ignored:
            raise UnknownResult(f"task {self.id} was sent with ignore_result: nothing is kept")
        place = self._locate()
        if place is None or place not in (State.DEAD, "nowhere"):
            return None
        # The message went in the same step, or after, its result came: look in this order.
        record = self._fetch()
        if record is not None and record.state in READY_STATES:
            return record
        if place is State.DEAD:
            raise TaskError(
                "taskq.DeadLetter",
                f"task {self.id} was given up without a result; see: taskq dead show {self.id}",
            )
        raise UnknownResult(
            f"no task {self.id}: it never existed, its transaction is not committed, its result "
            f"has expired (result_expires is {self.app.conf.result_expires:g} s), or results "
            "are off"
        )

    def give_up(self, limit: Seconds) -> NoReturn:
        """Raise the error of a wait that took `limit` seconds."""
        state = self.state
        when = f"after {limit:g} s" if limit else "and has no result yet"
        raise TimeoutError(f"task {self.id} is {state} {when}", state=state)

    def _refuse_waiting(self, disable_sync_subtasks: bool) -> None:
        if disable_sync_subtasks and current_request() is not None:
            raise ImproperlyConfigured(
                "a task must not wait for another: all slots may end up waiting; pass "
                "disable_sync_subtasks=False if that cannot happen here"
            )

    # -- Looking

    def _fetch(self) -> ResultRecord | None:
        return self.app.results.fetch([self.id]).get(self.id)

    def _locate(self) -> State | str | None:
        """Return where the message is, "nowhere", or None if the broker cannot tell."""
        if not self.app.broker.capabilities.locate:
            return None
        return self.app.broker.locate([self.id]).get(self.id, "nowhere")

    def _look(self) -> tuple[str, bool | None]:
        record = self._fetch()
        if record is not None and record.state in READY_STATES:
            return record.state, True
        place = self._locate()
        if place == "nowhere":
            record = self._fetch()
            if record is not None and record.state in READY_STATES:
                return record.state, True
            # A record of a retry, left by a task that was purged since, promises nothing.
            return Status.PENDING, False
        if record is not None and place in (State.SCHEDULED, State.READY, None):
            return record.state, True
        return (Status.PENDING, None) if place is None else (_STATUS[State(place)], True)

    # -- Opening a record

    def _open(self, record: ResultRecord, propagate: bool) -> R:
        value = self._value(record)
        if record.state != Status.SUCCESS and propagate:
            raise value
        return value  # type: ignore[no-any-return]  # what the task returned

    def _value(self, record: ResultRecord) -> Any:
        header, data = outcome.read(record.payload)
        if header.state is Status.SUCCESS:
            value = outcome.read_value(header, data, self.app.codecs)
            return self.app.convert_result(header.task, value)
        failure = outcome.read_failure(header, data, self.app.codecs)
        if header.state is Status.REVOKED:
            return TaskRevokedError(failure.text)
        return rebuild(failure, frozenset(self.app.conf.result_exceptions))


class Waiting:
    """One `aget` under way: who waits, until when, and how to tell them."""

    __slots__ = ("abandoned", "deadline", "limit", "result", "tell")

    def __init__(
        self, result: AsyncResult[Any], limit: Seconds, tell: Callable[[object], None]
    ) -> None:
        self.result = result
        self.limit = limit
        self.deadline = time.monotonic() + limit
        self.tell = tell
        self.abandoned = False
        """Nobody waits any more."""

    def look(self, record: ResultRecord | None) -> bool:
        """Tell the waiter if there is something to tell; say whether there was."""
        if self.abandoned:
            return True
        try:
            record = record or self.result.verdict()
            if record is None and time.monotonic() >= self.deadline:
                self.result.give_up(self.limit)
        except ResultError as error:
            self.tell(error)
            return True
        if record is not None:
            self.tell(record)
        return record is not None
