"""What `@app.task(…)` accepts, and what becomes of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypedDict, TypeVar, overload

from taskq.app.retry import (
    DEFAULT_BACKOFF_MAX,
    DEFAULT_MAX_RETRIES,
    DEFAULT_RETRY_DELAY,
    RetryPolicy,
)
from taskq.app.routing import check_priority
from taskq.app.settings import seconds
from taskq.app.task import Task, TaskOptions
from taskq.clock import Seconds
from taskq.errors import ImproperlyConfigured, InvalidName, UnknownOption
from taskq.names import check_name, import_name

P = ParamSpec("P")
R = TypeVar("R")


class Definition(TypedDict, total=False):
    """The options of a task; names follow Celery's."""

    name: str
    """Module and function name, if left out."""
    queue: str
    """Where it goes, unless a route or the call says otherwise."""
    priority: int
    """0 to 9; 9 is the most urgent."""
    max_retries: int | None
    """3; None: without end. Stating it makes every exception a reason to retry."""
    default_retry_delay: Seconds | dt.timedelta
    """Seconds before a retry without backoff: 10."""
    autoretry_for: Iterable[type[BaseException]]
    """The exceptions that cause a retry by themselves; `()` for none."""
    retry_backoff: bool | Seconds
    """Exponential backoff, from 1 s (True) or from the seconds given."""
    retry_backoff_max: Seconds | dt.timedelta
    """Bound of the backoff: 600 s."""
    retry_jitter: bool
    """Draw the delay evenly between 0 and its bound: True."""
    throws: Iterable[type[BaseException]]
    """Expected exceptions: a failure, but neither a retry nor a dead letter."""
    max_deliveries: int
    """Lost workers after which the task is given up: 5; at least 2."""
    ignore_result: bool
    """Drop what it returns."""
    expires: Seconds | dt.timedelta
    """Do not start later than this after it was sent."""


_KNOWN: Final = frozenset(Definition.__annotations__)


class Decorator(Protocol):
    """What `app.task(option=…)` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BindingDecorator(Protocol):
    """What `app.task(bind=True)` returns: the function's first parameter is the task."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Task[..., Any], P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Task[..., Any], P], R], /) -> Task[P, R]: ...


def check_definition(options: Mapping[str, Any]) -> None:
    """Refuse options that do not exist.

    Raises:
        UnknownOption: suggests the right one.
    """
    for key in options:
        if key not in _KNOWN:
            raise UnknownOption(key, {*_KNOWN, "bind"}, what="task option")


def task_name(function: Callable[..., Any]) -> str:
    """Return the name of a function as a task: module and function.

    Raises:
        InvalidName: workers could not find it by that name.
    """
    name = function.__qualname__
    if "<" in name:
        kind = "a lambda" if "<lambda>" in name else "a local function"
        raise InvalidName(f"{kind} has no name that workers know it by; give it one: name=…")
    return f"{import_name(function.__module__)}.{name}"


def task_options(options: Mapping[str, Any]) -> TaskOptions:
    """Return what a task states about its messages.

    Raises:
        ImproperlyConfigured: a value is out of its range.
    """
    queue, priority = options.get("queue"), options.get("priority")
    limit = options.get("max_deliveries")
    if limit is not None and (not isinstance(limit, int) or limit < 2):
        raise ImproperlyConfigured(
            "max_deliveries must be at least 2: the first lost lease may not be the task's fault"
        )
    expires = options.get("expires")
    return TaskOptions(
        queue=None if queue is None else check_name(queue, "queue"),
        priority=None if priority is None else check_priority(priority),
        max_deliveries=limit,
        ignore_result=options.get("ignore_result"),
        expires=None if expires is None else seconds(expires, "expires"),
    )


def retry_policy(options: Mapping[str, Any]) -> RetryPolicy:
    """Return when a task runs again.

    A task that states `max_retries` or `retry_backoff` retries on any
    exception, unless `autoretry_for` narrows it; one that states neither does
    not retry by itself.

    Raises:
        ImproperlyConfigured: a value is out of its range.
    """
    stated = "max_retries" in options or bool(options.get("retry_backoff"))
    autoretry = options.get("autoretry_for", (Exception,) if stated else ())
    limit = options.get("max_retries", DEFAULT_MAX_RETRIES)
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise ImproperlyConfigured("max_retries must be a whole number from 0, or None for no end")
    backoff = options.get("retry_backoff", False)
    return RetryPolicy(
        max_retries=limit,
        default_delay=_duration(options, "default_retry_delay", DEFAULT_RETRY_DELAY),
        autoretry_for=_exceptions(autoretry, "autoretry_for"),
        backoff=float(backoff)
        if isinstance(backoff, bool)
        else _duration(options, "retry_backoff", 0),
        backoff_max=_duration(options, "retry_backoff_max", DEFAULT_BACKOFF_MAX),
        jitter=bool(options.get("retry_jitter", True)),
        throws=_exceptions(options.get("throws", ()), "throws"),
    )


def _duration(options: Mapping[str, Any], key: str, default: Seconds) -> Seconds:
    value = seconds(options.get(key, default), key)
    if value < 0:
        raise ImproperlyConfigured(f"{key} must not be negative")
    return value


def _exceptions(value: Any, key: str) -> tuple[type[BaseException], ...]:
    classes = tuple(value) if isinstance(value, Iterable) else (value,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ImproperlyConfigured(f"{key} must hold exception classes")
    return classes
