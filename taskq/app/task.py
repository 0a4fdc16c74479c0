"""A task: a function that can be called elsewhere, and later."""

from __future__ import annotations

import datetime as dt
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

import msgspec

from taskq.app.arguments import Arguments
from taskq.app.completion import Completion
from taskq.app.request import Request, current_request, enter, leave
from taskq.app.result import AsyncResult
from taskq.app.retry import RetryPolicy
from taskq.app.settings import instant, seconds
from taskq.app.signature import CallOptions, Signature
from taskq.app.transaction import chosen
from taskq.clock import Seconds
from taskq.errors import MaxRetriesExceededError, NotSupported, Retry

if TYPE_CHECKING:
    from typing import Unpack

    from taskq.app.application import TaskQ

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class TaskOptions(msgspec.Struct, frozen=True):
    """What a task states about itself, beside its retry policy."""

    queue: str | None = None
    priority: int | None = None
    max_deliveries: int | None = None
    ignore_result: bool | None = None
    expires: Seconds | None = None


class Task(Generic[P, R]):
    """One task of one application. Thread-safe.

    Calling it runs the function here and now; `delay` and `apply_async` send
    it to a worker.
    """

    def __init__(
        self,
        app: TaskQ,
        function: Callable[..., Any],
        *,
        name: str,
        bind: bool,
        options: TaskOptions,
        retry_policy: RetryPolicy,
    ) -> None:
        self.app = app
        self.name = name
        self.options = options
        self.retry_policy = retry_policy
        self.function = function
        self.bind = bind
        self.is_async = inspect.iscoroutinefunction(function)
        self.arguments = Arguments(function, bound=bind)
        self.__name__ = getattr(function, "__name__", name)
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    # -- Calling

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as if it were no task."""
        if not self.bind:
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        request = Request(id="", task=self.name, args=args, kwargs=kwargs, called_directly=True)
        token = enter(request)
        try:
            value = self.function(self, *args, **kwargs)
        finally:
            leave(token)
        # A coroutine has not begun: it is to find the request when it does.
        return _within(request, value) if self.is_async else value  # type: ignore[return-value]

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task to a worker.

        Raises:
            TypeError: the arguments do not fit the function; nothing was sent.
            EncodingError: an argument does not travel; nothing was sent.
            EnqueueError: the broker did not accept it in time.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: object | None = None,
        connection: object | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Send the task with options; raises as `delay`.

        With a `session` or `connection` of SQLAlchemy it is sent in the
        transaction that is open there, and exists exactly if that is committed.
        The errors are those of the database then.
        """
        transaction = chosen(session, connection)
        return self.app.submit(self.name, args, kwargs or {}, options, transaction)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Do what `delay` does, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: object | None = None,
        connection: object | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Do what `apply_async` does, without blocking the event loop.

        `session` and `connection` are SQLAlchemy's for asyncio.
        """
        transaction = chosen(session, connection)
        return await self.app.asubmit(self.name, args, kwargs or {}, options, transaction)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the call instead of making it."""
        return Signature(self.app, self.name, args, kwargs, {})

    # -- Inside a run

    @property
    def request(self) -> Request:
        """The run that is under way in this thread or coroutine."""
        request = current_request()
        return request if request is not None else Request(id="", task=self.name)

    def complete(self, session: Any, /) -> Completion:
        """Conclude the run in a transaction of its own effects: `with self.complete(session):`.

        At the block's end the session is committed, with the effects and the
        end of the task in one transaction: both happen, or neither. `session` is
        a session or connection of SQLAlchemy (`async with` for asyncio's), of
        the database that is the broker. Keep the transaction short.

        Raises:
            NotSupported: the broker is not in a database.
            LeaseLost: at the block's end, after a rollback: another worker may have the
                task; this run has had no effect.
        """
        request = self.request
        if request.conclude is None:
            return Completion(request, session, None)
        if not self.app.transactions.settles:
            raise NotSupported(
                f"complete() needs the broker in the session's database, and it is "
                f"{self.app.broker_url.scheme}://; let the task bear to run twice instead"
            )
        return Completion(request, session, self.app.transactions.join)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        exc: BaseException | None = None,
        countdown: Seconds | dt.timedelta | None = None,
        eta: dt.datetime | None = None,
        max_retries: int | None = None,
    ) -> NoReturn:
        """Run again later, with the same id: `raise self.retry(…)`.

        `args` and `kwargs` replace the arguments. Without `countdown` or `eta`
        the task's own policy sets the delay.

        Raises:
            Retry: always, unless the retries are used up; the worker catches it.
            MaxRetriesExceededError: they are, and no `exc` was given; with `exc`, that.
        """
        request = self.request
        limit = self.retry_policy.max_retries if max_retries is None else max_retries
        if request.called_directly:
            raise exc or Retry("the task was called directly: there is nothing to retry")
        if limit is not None and request.retries >= limit:
            request.exhausted = True
            raise exc or MaxRetriesExceededError(
                f"task {self.name}[{request.id}] was retried {request.retries} times"
            )
        delay = None if countdown is None else seconds(countdown, "countdown")
        if eta is not None:
            delay = max(0.0, instant(eta, "eta") - time.time())
        envelope = None
        if args is not None or kwargs is not None:
            new_args = request.args if args is None else args
            new_kwargs = request.kwargs if kwargs is None else kwargs
            envelope = self.app.rewrite(request, new_args, new_kwargs)
        raise Retry(delay=delay, cause=exc, envelope=envelope) from exc


async def _within(request: Request, coroutine: Coroutine[Any, Any, R]) -> R:
    token = enter(request)
    try:
        return await coroutine
    finally:
        leave(token)


BoundFunction = Callable[Concatenate[Task[..., Any], P], R]
