"""The application: its settings, its tasks, its way to a broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from taskq.app.composer import Composer
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
from taskq.app.forklock import ForkLock
from taskq.app.producer import enqueue
from taskq.app.request import Request, current_request
from taskq.app.result import AsyncResult
from taskq.app.settings import Settings, default_broker_url, from_environment
from taskq.app.signature import CallOptions, Signature
from taskq.app.task import Task
from taskq.clock import Clock, SystemClock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.errors import AlreadyRegistered, UnknownScheme
from taskq.names import check_name
from taskq.plugins import Plugins
from taskq.url import Url
from taskq.wire.codecs import Codecs

if TYPE_CHECKING:
    from typing import Unpack

    from taskq.app.bridge import Bridge

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


class TaskQ:
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
        self.name = check_name(name, "application")
        self.conf = Settings()
        urls = {"broker_url": broker, "result_url": results}
        self.conf.update(settings, **{key: url for key, url in urls.items() if url is not None})
        self.tasks: dict[str, Task[..., Any]] = {}
        self.clock = clock or SystemClock()
        self.plugins = plugins or Plugins()
        self._lock = ForkLock()
        self._bridge: Bridge | None = None
        self._broker: Broker | None = None
        self._results: Results | None = None
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
        **options: Unpack[CallOptions],
    ) -> AsyncResult[Any]:
        """Send a task by name; it need not be defined here. Raises as `Task.delay`."""
        return self.submit(check_name(name, "task"), args, kwargs or {}, options)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[Any]:
        """Do what `send_task` does, without blocking the event loop."""
        return await self.bridge.call(
            self.submit, check_name(name, "task"), args, kwargs or {}, options
        )

    def bulk(self, calls: Sequence[Signature[R]]) -> list[AsyncResult[R]]:
        """Send many tasks in as few round trips as the broker allows.

        Not a transaction: if it fails, the error lists which ids were sent,
        which not, and which may have been. Raises as `Task.delay`.
        """
        if not all(isinstance(call, Signature) for call in calls):
            raise TypeError("bulk takes calls that have not been made, such as task.s(1, 2)")
        parent = current_request()
        items = [self._composer.item(c.task, c.args, c.kwargs, c.options, parent) for c in calls]
        enqueue(self.broker, items, self.conf.enqueue_timeout)
        return [
            AsyncResult(item.message.id, self, ignored=self._ignored(call.task, call.options))
            for item, call in zip(items, calls, strict=True)
        ]

    async def abulk(self, calls: Sequence[Signature[R]]) -> list[AsyncResult[R]]:
        """Do what `bulk` does, without blocking the event loop."""
        return await self.bridge.call(self.bulk, calls)

    def submit(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
    ) -> AsyncResult[Any]:
        """Send one task: what `delay`, `apply_async` and `send_task` come down to."""
        item = self._composer.item(name, args, kwargs, options, current_request())
        enqueue(self.broker, [item], self.conf.enqueue_timeout)
        return AsyncResult(item.message.id, self, ignored=self._ignored(name, options))

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

    # -- The way to the broker

    @property
    def broker(self) -> Broker:
        """The application's client of its broker; opened at first use."""
        if self._broker is None:
            with self._lock():
                if self._broker is None:
                    self._broker = self.open_broker()
        return self._broker

    @property
    def results(self) -> Results:
        """The application's client of its result store; opened at first use."""
        if self._results is None:
            with self._lock():
                if self._results is None:
                    self._results = self.open_results()
        return self._results

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

    @property
    def broker_url(self) -> Url:
        """The URL of the broker, wherever it was named."""
        named = self.conf.broker_url or from_environment("broker_url")
        if named is not None:
            return Url.parse(named)
        return Url.parse(default_broker_url(self.name))

    @property
    def result_url(self) -> Url:
        """The URL of the result store."""
        named = self.conf.result_url or from_environment("result_url")
        return self.broker_url if named is None else Url.parse(named)

    @property
    def results_with_broker(self) -> bool:
        """Whether results live where tasks do, so that one step can change both."""
        return self.result_url == self.broker_url

    def open_broker(self) -> Broker:
        """Return a new client of the broker, owned by the caller.

        Raises:
            UnknownScheme: no installed plugin handles the URL; says what to do.
        """
        url = self.broker_url
        unnamed = self.conf.broker_url is None and from_environment("broker_url") is None
        try:
            broker = self.plugins.open_broker(url, clock=self.clock)
        except UnknownScheme:
            if not unnamed:
                raise
            raise UnknownScheme(
                f"application {self.name!r} names no broker. Either give it one, such as "
                "broker='redis://localhost' or TASKQ_BROKER_URL, or install the embedded one: "
                "pip install 'taskq-core[sql]'"
            ) from None
        if unnamed:
            log.info("no broker named; using the embedded one: %s", url)
        return broker

    def open_results(self) -> Results:
        """Return a new client of the result store, owned by the caller."""
        return self.plugins.open_results(self.result_url, clock=self.clock)

    def close(self) -> None:
        """Close what was opened; the next use opens it again."""
        if self._bridge is not None:
            self._bridge.close()
        with self._lock():
            broker, self._broker = self._broker, None
            results, self._results = self._results, None
        if broker is not None:
            broker.close()
        if results is not None:
            results.close()


def _learn(codecs: Codecs, task: Task[..., Any]) -> None:
    for cls in task.arguments.values():
        codecs.types.register(cls)
