"""From a delivery to its settlement: decode, run, judge. No broker, no thread, no clock.

Everything that can go wrong with one message ends here as a settlement of that
message, so that no neighbour ever notices.
"""

from __future__ import annotations

import logging
import reprlib
import time
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Final, TypeAlias

import msgspec

from taskq.app.application import TaskQ
from taskq.app.request import Conclude, Request, enter, leave
from taskq.app.settings import seconds
from taskq.app.task import Task
from taskq.clock import Seconds, from_microseconds, to_microseconds
from taskq.contract.delivery import Delivery
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import (
    DecodeError,
    EncodingError,
    LeaseLost,
    MaxRetriesExceededError,
    NewerEnvelope,
)
from taskq.errors import Retry as RetryAsked
from taskq.wire import envelope as wire
from taskq.wire import outcome
from taskq.wire.envelope import Envelope
from taskq.wire.failures import Failure, describe, safe_text
from taskq.wire.outcome import Outcome, Status
from taskq.worker.pace import Pace

RunCoroutine: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
"""How the place that runs the task awaits a coroutine."""
OnStart: TypeAlias = Callable[[Request], None]
"""Told of the run just before user code starts."""
OnError: TypeAlias = Callable[[Request, BaseException], None]
"""Told what user code raised, before it is judged."""

log = logging.getLogger(__name__)

LONGEST_RELEASE: Final[Seconds] = 30.0
DETAIL_LIMIT: Final = 1000


class Run(msgspec.Struct, eq=False, gc=False):
    """A delivery that is ready to run: its task, and what the task is told."""

    task: Task[..., Any]
    request: Request
    delivery: Delivery
    envelope: Envelope


class Completed(msgspec.Struct, frozen=True):
    """A delivery that its task has concluded by itself, in a transaction of its own."""

    delivery: Delivery
    record: ResultRecord | None
    stored: bool
    """The record is in the same transaction, and not to be stored once more."""


Outcomes: TypeAlias = Settlement | Completed
"""How a run ends."""


class Executor:
    """Runs tasks of one application. Thread-safe.

    Where nothing is `claimed`, as in eager mode, completing in a transaction
    only commits it.
    """

    def __init__(
        self,
        app: TaskQ,
        worker: str,
        pace: Pace | None = None,
        on_error: OnError | None = None,
        *,
        claimed: bool = True,
    ) -> None:
        self._app = app
        self._worker = worker
        self._draw = (pace or Pace()).draw
        self._on_error = on_error
        self._codecs = app.codecs
        self._tasks = app.tasks
        self._limit = app.conf.message_limit
        self._concludes = self._conclude if claimed else None

    def run(self, delivery: Delivery, run_coroutine: RunCoroutine, on_start: OnStart) -> Outcomes:
        """Run the task, and return how its delivery is concluded. Never raises."""
        run = self.prepare(delivery)
        if not isinstance(run, Run):
            return run
        on_start(run.request)
        return self.call(run, run_coroutine)

    def prepare(self, delivery: Delivery) -> Run | Settlement:
        """Return what is to run, or how the delivery is concluded if nothing is. Never raises."""
        try:
            return self._prepare(delivery)
        except BaseException as error:  # noqa: BLE001 - one message must never end the slot
            return self._indescribable(delivery, error)

    def call(self, run: Run, run_coroutine: RunCoroutine) -> Outcomes:
        """Run user code, and return how its delivery is concluded. Never raises."""
        try:
            return self._call(run, run_coroutine)
        except BaseException as error:  # noqa: BLE001 - one message must never end the slot
            return self._indescribable(run.delivery, error)

    def _indescribable(self, delivery: Delivery, error: BaseException) -> Settlement:
        """Give up a message whose exception or value has methods that raise themselves."""
        # No traceback here, since a logger would look at it again.
        detail = f"{type(error).__qualname__} was raised while its outcome was described"
        log.error("task message %s: %s", delivery.id, detail)
        failure = Failure("taskq.errors.TaskError", detail, "")
        record = self._failure_record("", delivery, Status.FAILURE, failure)
        return Dead(delivery, "failed", detail, record)

    def _prepare(self, delivery: Delivery) -> Run | Settlement:
        if delivery.expired:
            return self._revoke(delivery)
        try:
            envelope, body = wire.read(delivery.message.envelope, limit=self._limit)
            if envelope.id != delivery.message.id:
                raise DecodeError("the envelope is of another message")
            task = self._tasks.get(envelope.task)
            if task is None:
                return self._offer_others(delivery, f"no task {envelope.task} here", envelope.task)
            sent = self._arguments(envelope, body)
        except NewerEnvelope as error:
            return self._offer_others(delivery, str(error), "")
        except Exception as error:  # noqa: BLE001 - whatever bytes can do to a parser
            code = error.code if isinstance(error, DecodeError) else "undecodable"
            return self._bury(delivery, "", code, error, keep=True)
        try:
            args, kwargs = task.arguments.convert(*sent)
        except Exception as error:  # noqa: BLE001 - the annotated class may raise anything
            if not isinstance(error, TypeError):
                error = TypeError(f"an argument's class raised {type(error).__qualname__}")
            keep = not self._ignored(envelope)
            return self._bury(delivery, task.name, "bad_arguments", error, keep=keep)
        request = _request(delivery, envelope, args, kwargs, self._worker, self._concludes)
        return Run(task, request, delivery, envelope)

    def _arguments(self, envelope: Envelope, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        value = self._codecs.of(envelope.type).decode(body)
        # A match statement would take 3 µs here: it asks an ABC whether this is a sequence.
        if isinstance(value, list) and len(value) == 2:
            args, kwargs = value
            if isinstance(args, list) and isinstance(kwargs, dict):
                return args, kwargs
        raise DecodeError("the body is not [arguments, keyword arguments]")

    def _call(self, run: Run, run_coroutine: RunCoroutine) -> Outcomes:
        task, request = run.task, run.request
        token = enter(request)
        try:
            if task.bind:
                value = task.function(task, *request.args, **request.kwargs)
            else:
                value = task.function(*request.args, **request.kwargs)
            if task.is_async or type(value) is CoroutineType:
                value = run_coroutine(value)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
            if self._on_error is not None:
                self._on_error(request, error)
            if request.completed:
                return self._completed(run, error)
            return self._judge(run, error)
        finally:
            leave(token)
        if request.completed:
            return self._completed(run)
        if self._ignored(run.envelope):
            return Ack(run.delivery)
        return self._return(task, run.delivery, value)

    # -- Outcomes

    def _return(self, task: Task[..., Any], delivery: Delivery, value: Any) -> Settlement:
        try:
            return Ack(delivery, self._success(task.name, delivery, value))
        except Exception as error:  # noqa: BLE001 - a user's value may raise anything when read
            reason = error if isinstance(error, EncodingError) else type(error).__qualname__
            return self._unreturnable(task, delivery, value, safe_text(reason))

    def _success(self, task: str, delivery: Delivery, value: Any) -> ResultRecord:
        header = self._header(task, Status.SUCCESS, delivery)
        payload = outcome.write(header, self._codecs.default.encode(value))
        if len(payload) > self._app.conf.result_limit:
            raise EncodingError(f"the result is {len(payload)} bytes, over result_limit")
        return self._record(delivery, Status.SUCCESS, payload)

    def _conclude(self, request: Request, transaction: object, value: Any) -> None:
        """Conclude a run within a transaction of its own: `taskq.app.completion` asks for it."""
        delivery = request.delivery
        assert delivery is not None  # what a worker runs was claimed
        record = None
        if not self._ignored(request):
            # Also where it is stored later: what cannot be must be known before the commit.
            record = self._success(request.task, delivery, value)
        if not self._app.results_with_broker:
            record = None
        joined = self._app.transactions.join(transaction)
        if joined.settle([Ack(delivery, record)]):
            raise LeaseLost(
                f"the lease of task {request.task}[{request.id}] was lost before it was completed"
            )

    def _completed(self, run: Run, error: BaseException | None = None) -> Outcomes:
        task, delivery, value = run.task, run.delivery, run.request.value
        if error is not None:
            log.error(
                "task %s[%s] raised when it was completed",
                task.name,
                run.request.id,
                exc_info=error,
            )
        if self._concludes is None:
            return (
                Ack(delivery)
                if self._ignored(run.envelope)
                else self._return(task, delivery, value)
            )
        ignored = self._ignored(run.envelope)
        record = None if ignored else self._success(task.name, delivery, value)
        return Completed(delivery, record, stored=self._app.results_with_broker)

    def _unreturnable(
        self, task: Task[..., Any], delivery: Delivery, value: Any, reason: str
    ) -> Settlement:
        """Fail a task that did its work but cannot say so; running it again would not help."""
        try:
            shown = reprlib.repr(value)
        except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
            shown = f"<{type(value).__qualname__}>"
        text = f"{reason}; it was {safe_text(shown)}"
        log.error(
            "task %s[%s] ran, but its result cannot be stored: %s", task.name, delivery.id, text
        )
        failure = Failure("taskq.errors.ResultNotSerializable", text, "", [text])
        record = self._failure_record(task.name, delivery, Status.FAILURE, failure)
        return Dead(delivery, "failed", f"ResultNotSerializable: {text}"[:DETAIL_LIMIT], record)

    def _judge(self, run: Run, error: BaseException) -> Settlement:
        task, delivery = run.task, run.delivery
        policy = task.retry_policy
        keep = not self._ignored(run.envelope)
        if isinstance(error, RetryAsked):
            cause = error.cause or error
            delay = policy.delay(delivery.retries, self._draw)
            if error.delay is not None:
                delay = max(0.0, seconds(error.delay, "the delay of a retry"))
            return self._retry(delivery, task, cause, delay, keep, error.envelope)
        if policy.throws and isinstance(error, policy.throws):
            why = f"{type(error).__qualname__}: {safe_text(error)}"
            log.info("task %s[%s] failed as it may: %s", task.name, delivery.id, why)
            record = self._failure(task.name, delivery, error) if keep else None
            return Ack(delivery, record)
        if isinstance(error, LeaseLost):
            log.warning("%s; nothing of it was committed", error)
            return Release(delivery)
        exhausted = run.request.exhausted or isinstance(error, MaxRetriesExceededError)
        if not exhausted and policy.wants(error):
            if not policy.exhausted(delivery.retries):
                delay = policy.delay(delivery.retries, self._draw)
                return self._retry(delivery, task, error, delay, keep, None)
            exhausted = True
        code = "retries_exhausted" if exhausted else "failed"
        return self._bury(delivery, task.name, code, error, keep=keep, ran=True)

    def _retry(
        self,
        delivery: Delivery,
        task: Task[..., Any],
        cause: BaseException,
        delay: Seconds,
        keep: bool,
        envelope: bytes | None,
    ) -> Settlement:
        why = f"{type(cause).__qualname__}: {safe_text(cause)}"
        log.info("task %s[%s] runs again in %.1f s: %s", task.name, delivery.id, delay, why)
        record = None
        if keep:
            failure = describe(cause, self._codecs.default)
            record = self._failure_record(task.name, delivery, Status.RETRY, failure)
        return Retry(delivery, delay, envelope, record)

    def _bury(
        self,
        delivery: Delivery,
        task: str,
        code: str,
        error: BaseException,
        *,
        keep: bool,
        ran: bool = False,
    ) -> Settlement:
        detail = f"{type(error).__qualname__}: {safe_text(error)}"[:DETAIL_LIMIT]
        trace = error if ran else None
        log.error(
            "task %s[%s] is given up: %s: %s", task, delivery.id, code, detail, exc_info=trace
        )
        record = self._failure(task, delivery, error) if keep else None
        return Dead(delivery, code, detail, record)

    def _revoke(self, delivery: Delivery) -> Settlement:
        """Conclude a message that was claimed after its time was over."""
        failure = Failure("taskq.errors.TaskRevokedError", "the task expired before it started", "")
        return Ack(delivery, self._failure_record("", delivery, Status.REVOKED, failure))

    def _offer_others(self, delivery: Delivery, reason: str, task: str) -> Settlement:
        """Give back what this worker does not know: in a rolling deploy another one may."""
        first = delivery.first_released
        if first is not None and delivery.claimed - first >= self._app.conf.unknown_grace:
            error = DecodeError(f"{reason}, and no other worker took it")
            return self._bury(delivery, task, "unknown_task", error, keep=True)
        if first is None:
            log.warning("message %s is left to other workers: %s", delivery.id, reason)
        return Release(delivery, min(0.5 * 2.0 ** min(delivery.releases, 10), LONGEST_RELEASE))

    # -- Records

    def _ignored(self, run: Envelope | Request) -> bool:
        asked = run.meta.get("ignore_result")
        return self._app.ignores_result(run.task) if asked is None else bool(asked)

    def _failure(self, task: str, delivery: Delivery, error: BaseException) -> ResultRecord:
        failure = describe(error, self._codecs.default)
        return self._failure_record(task, delivery, Status.FAILURE, failure)

    def _failure_record(
        self, task: str, delivery: Delivery, state: Status, failure: Failure
    ) -> ResultRecord:
        header = self._header(task, state, delivery)
        payload = outcome.write_failure(header, failure, self._codecs.default)
        return self._record(delivery, state, payload)

    def _header(self, task: str, state: Status, delivery: Delivery) -> Outcome:
        return Outcome(
            v=outcome.VERSION,
            task=task,
            state=state,
            retries=delivery.retries,
            worker=self._worker,
            done=to_microseconds(time.time()),
            type=self._codecs.default.content_type,
        )

    def _record(self, delivery: Delivery, state: Status, payload: bytes) -> ResultRecord:
        expires = self._app.conf.result_expires
        return ResultRecord(delivery.message.id, delivery.run, state.value, payload, expires)


def _request(
    delivery: Delivery,
    envelope: Envelope,
    args: Any,
    kwargs: Any,
    worker: str,
    conclude: Conclude | None,
) -> Request:
    meta = envelope.meta
    root, parent = meta.get("root"), meta.get("parent")
    return Request(
        id=envelope.id,
        task=envelope.task,
        args=args,
        kwargs=kwargs,
        queue=delivery.message.queue,
        priority=delivery.message.priority,
        retries=delivery.retries,
        losses=delivery.losses,
        run=delivery.run,
        headers=envelope.headers,
        meta=meta,
        root_id=root if isinstance(root, str) else None,
        parent_id=parent if isinstance(parent, str) else None,
        hostname=worker,
        created=from_microseconds(envelope.created),
        delivery=delivery,
        conclude=conclude,
    )
