"""The application: its settings, its tasks, its way to a broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from taskq.app.composer import Composer
from taskq.app.connected import Connected
from taskq.app.definition import (
    BindingDecorator,
    Decorator,
    Definition,
    check_definition,
    retry_policy,
    task_name,
    task_options,
)
from taskq.app.discovery import autodiscover
from taskq.app.producer import enqueue
from taskq.app.request import Request, current_request
from taskq.app.result import AsyncResult
from taskq.app.settings import Settings
from taskq.app.signature import CallOptions, Signature
from taskq.app.task import Task
from taskq.app.transaction import check_blocking, chosen, lend
from taskq.clock import Clock, SystemClock
from taskq.contract.message import Send
from taskq.errors import AlreadyRegistered
from taskq.names import check_name
from taskq.plugins import Plugins
from taskq.wire.codecs import Codecs

if TYPE_CHECKING:
    from typing import Unpack

    from taskq.app.bridge import Bridge

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class TaskQ(Connected):
    """One application. Thread-safe, and usable in children after a fork.

    ``app = TaskQ("shop", broker="redis://localhost")``; further keywords are
    settings (`taskq.app.settings.Settings`).
    """

    def __init__(
        self,
        name: str,
        *,
        broker: str | None = None,
        results: str | None = None,
        clock: Clock | None = None,
        plugins: Plugins | None = None,
        **settings: Any,
    ) -> None:
        conf = Settings()
        urls = {"broker_url": broker, "result_url": results}
        conf.update(settings, **{key: url for key, url in urls.items() if url is not None})
        name = check_name(name, "application")
        super().__init__(name, conf, plugins or Plugins(), clock or SystemClock())
        self.tasks: dict[str, Task[..., Any]] = {}
        self._bridge: Bridge | None = None
        self._codecs: Codecs | None = None
        self._composer = Composer(self)

    def __repr__(self) -> str:
        return f"<TaskQ {self.name}>"

    # -- Defining tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, bind: Literal[True], **options: Unpack[Definition]) -> BindingDecorator: ...
    @overload
    def task(self, *, bind: Literal[False] = False, **options: Unpack[Definition]) -> Decorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:  # type: ignore[misc]
        """Make a task of a function: `@app.task` or `@app.task(option=…)`.

        The options are those of `taskq.app.definition.Definition`; with
        `bind=True` the function's first parameter is the task.

        Raises:
            AlreadyRegistered: there is a task of that name.
            UnknownOption: an option has no such name; suggests the right one.
            InvalidName: the function has no name that workers could find it by.
        """
        if function is not None:
            return self._define(function, bind=False, options={})
        bind = options.pop("bind", False)
        check_definition(options)
        return lambda function: self._define(function, bind=bind, options=options)

    def _define(
        self, function: Callable[..., Any], *, bind: bool, options: Mapping[str, Any]
    ) -> Task[..., Any]:
        name = check_name(options["name"], "task") if "name" in options else task_name(function)
        task: Task[..., Any] = Task(
            self,
            function,
            name=name,
            bind=bind,
            options=task_options(options),
            retry_policy=retry_policy(options),
        )
        with self._lock():
            if name in self.tasks:
                raise AlreadyRegistered(
                    f"task {name!r} is registered twice; give one of them another `name=`"
                )
            self.tasks[name] = task
            if self._codecs is not None:
                _learn(self._codecs, task)
        return task

    def register_type(self, cls: type) -> type:
        """Let values of an enum or dataclass be rebuilt from messages and results.

        Types in the annotations of tasks are registered by themselves. Usable
        as a decorator.
        """
        self.codecs.types.register(cls)
        return cls

    def autodiscover_tasks(self, packages: Sequence[str], related_name: str = "tasks") -> None:
        """Import the module `related_name` of each package, where there is one."""
        autodiscover(packages, related_name)

    # -- Sending tasks

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: object | None = None,
        connection: object | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[Any]:
        """Send a task by name; it need not be defined here. Does as `Task.apply_async`."""
        transaction = chosen(session, connection)
        return self.submit(check_name(name, "task"), args, kwargs or {}, options, transaction)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: object | None = None,
        connection: object | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[Any]:
        """Do what `send_task` does, without blocking the event loop."""
        transaction = chosen(session, connection)
        check_name(name, "task")
        return await self.asubmit(name, args, kwargs or {}, options, transaction)

    def bulk(
        self,
        calls: Sequence[Signature[R]],
        *,
        session: object | None = None,
        connection: object | None = None,
    ) -> list[AsyncResult[R]]:
        """Send many tasks in as few round trips as the broker allows.

        Not a transaction: if it fails, the error lists which ids were sent,
        which not, and which may have been. Raises as `Task.delay`. With a
        `session` or `connection` of SQLAlchemy it is part of the transaction
        that is open there, as with `Task.apply_async`.
        """
        return self._bulk(calls, chosen(session, connection))

    def _bulk(
        self, calls: Sequence[Signature[R]], transaction: object | None
    ) -> list[AsyncResult[R]]:
        if not all(isinstance(call, Signature) for call in calls):
            raise TypeError("bulk takes calls that have not been made, such as task.s(1, 2)")
        items = [self.compose(call) for call in calls]
        ignored = [self._ignored(call.task, call.options) for call in calls]
        if self.conf.task_always_eager:
            return [self._run_now(*one) for one in zip(items, ignored, strict=True)]
        self._send(items, transaction)
        return [
            AsyncResult(item.message.id, self, ignored=dropped)
            for item, dropped in zip(items, ignored, strict=True)
        ]

    async def abulk(
        self,
        calls: Sequence[Signature[R]],
        *,
        session: object | None = None,
        connection: object | None = None,
    ) -> list[AsyncResult[R]]:
        """Do what `bulk` does, without blocking the event loop."""
        transaction = chosen(session, connection)
        if transaction is not None:
            return await lend(transaction, partial(self._bulk, calls))
        return await self._off_loop(self._bulk, calls, None)

    def submit(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        transaction: object | None = None,
    ) -> AsyncResult[Any]:
        """Send one task: what `delay`, `apply_async` and `send_task` come down to."""
        item = self._composer.item(name, args, kwargs, options, current_request())
        ignored = self._ignored(name, options)
        if self.conf.task_always_eager:
            return self._run_now(item, ignored)
        self._send([item], transaction)
        return AsyncResult(item.message.id, self, ignored=ignored)

    async def asubmit(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        transaction: object | None = None,
    ) -> AsyncResult[Any]:
        """Do what `submit` does, without blocking the event loop."""
        if transaction is not None:
            return await lend(transaction, partial(self.submit, name, args, kwargs, options))
        return await self._off_loop(self.submit, name, args, kwargs, options)

    def _send(self, items: Sequence[Send], transaction: object | None) -> None:
        if transaction is None:
            enqueue(self.broker, items, self.conf.enqueue_timeout)
        else:
            check_blocking(transaction)
            self.transactions.join(transaction).send(items)

    def compose(self, call: Signature[Any]) -> Send:
        """Return what a call would send, without sending it; raises as `Task.delay`."""
        return self._composer.item(
            call.task, call.args, call.kwargs, call.options, current_request()
        )

    def _run_now(self, item: Send, ignored: bool) -> AsyncResult[Any]:
        from taskq.worker.eager import run_now  # what workers are made of

        return run_now(self, item, ignored=ignored)

    async def _off_loop(self, call: Callable[..., T], *args: Any) -> T:
        if self.conf.task_always_eager:
            import asyncio

            # Not the one thread of the bridge: an eager task may itself wait for it.
            return await asyncio.to_thread(call, *args)
        return await self.bridge.call(call, *args)

    def rewrite(self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Return the envelope of a run with other arguments, for a retry."""
        return self._composer.rewrite(request, args, kwargs)

    def AsyncResult(self, id: str) -> AsyncResult[Any]:  # noqa: N802 - Celery's name
        """Return a handle on the result of a task by its id."""
        return AsyncResult(check_name(id, "task id"), self)

    def _ignored(self, name: str, options: CallOptions) -> bool:
        asked = options.get("ignore_result")
        return self.ignores_result(name) if asked is None else asked

    # -- What workers ask

    def ignores_result(self, name: str) -> bool:
        """Say whether a task's results are dropped, unless a call says otherwise."""
        task = self.tasks.get(name)
        own = task.options.ignore_result if task is not None else None
        return self.conf.task_ignore_result if own is None else own

    def convert_result(self, name: str, value: Any) -> Any:
        """Return a result's value as the task's annotation has it, where it is known."""
        task = self.tasks.get(name)
        return value if task is None else task.arguments.convert_return(value)

    # -- What it is made of

    @property
    def codecs(self) -> Codecs:
        """The formats of arguments and results."""
        if self._codecs is None:
            with self._lock():
                if self._codecs is None:
                    codecs = Codecs(self.conf.task_serializer)
                    for task in self.tasks.values():
                        _learn(codecs, task)
                    self._codecs = codecs
        return self._codecs

    @property
    def bridge(self) -> Bridge:
        """What lets coroutines use the application; made at first use."""
        if self._bridge is None:
            from taskq.app.bridge import Bridge  # loads asyncio

            with self._lock():
                if self._bridge is None:
                    self._bridge = Bridge(lambda: self.results)
        return self._bridge

    def close(self) -> None:
        """Close what was opened; the next use opens it again."""
        if self._bridge is not None:
            self._bridge.close()
        super().close()


def _learn(codecs: Codecs, task: Task[..., Any]) -> None:
    for cls in task.arguments.values():
        codecs.types.register(cls)
