"""Every setting of an application, once: name, type, default, meaning.

Names follow Celery's where the concept is Celery's. An unknown name or a value
of the wrong type is an error at once, never ignored.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from taskq.app.routing import Router
from taskq.clock import Seconds, Timestamp
from taskq.contract.message import DEFAULT_MAX_DELIVERIES, DEFAULT_PRIORITY
from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.names import check_name
from taskq.url import MASK, Url

Positive = Annotated[float, msgspec.Meta(gt=0)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]

ENVIRONMENT: Final = {"broker_url": "TASKQ_BROKER_URL", "result_url": "TASKQ_RESULT_URL"}
"""Variables read where the program names no URL."""
MISSPELT: Final = 0.85
"""Likeness from which a variable is taken for one of these: `TASKQ_BROKER_URI` is, at 0.94, and
`TASKQ_BROKER`, at 0.86; `TASKQ_BROKER_PORT`, which Kubernetes sets for a service, is not."""


class Settings(msgspec.Struct, kw_only=True):
    """The settings of one application: `app.conf`.

    Read them anywhere; change them before the first task is sent.
    """

    broker_url: str | None = None
    """Where tasks go. None: $TASKQ_BROKER_URL, else an SQLite file named after the application."""
    result_url: str | None = None
    """Where results go. None: $TASKQ_RESULT_URL, else to the broker."""
    include: list[str] = []
    """Modules with tasks, which a worker imports when it starts."""

    task_serializer: Literal["json", "msgpack"] = "json"
    """Format of arguments and results: json or msgpack. Both are always read."""
    task_default_queue: str = "default"
    """Where tasks go that neither call nor route nor task sends elsewhere; also what a worker
    serves if it is given no queues."""
    task_default_priority: Priority = DEFAULT_PRIORITY
    """0 to 9; 9 is the most urgent."""
    task_routes: dict[str, str | dict[str, str | int]] = {}
    """Task name or pattern (`mail.*`) to a queue, or to `{"queue": …, "priority": …}`."""
    task_ignore_result: bool = False
    """Drop what tasks return, unless the task or the call says otherwise."""
    task_max_deliveries: Annotated[int, msgspec.Meta(ge=2)] = DEFAULT_MAX_DELIVERIES
    """Lost leases after which a task is given up."""
    task_always_eager: bool = False
    """Run tasks in the caller, at once, instead of sending them. For tests: workers refuse it."""
    task_eager_propagates: bool = False
    """Let `delay` raise what such a task raised."""

    enqueue_timeout: Positive = 10.0
    """Seconds in which a task is accepted, or the caller gets an error."""
    message_limit: Annotated[int, msgspec.Meta(ge=1024)] = 1024 * 1024
    """Largest message, in bytes."""
    result_limit: Annotated[int, msgspec.Meta(ge=1024)] = 1024 * 1024
    """Largest result, in bytes."""
    result_expires: Positive = 3600.0
    """Seconds for which a result can be read."""
    result_timeout: Positive = 600.0
    """Seconds after which `get()` without a timeout gives up."""
    result_exceptions: list[str] = []
    """Full names of exception classes that may be rebuilt under another name."""

    dead_letter_expires: Positive | None = 30 * 86400.0
    """Seconds for which dead letters are kept; None: until they are purged."""
    unknown_grace: Positive = 3600.0
    """Seconds for which a task unknown to a worker is offered to others."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, check(name, value))

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, shown(name, getattr(self, name))) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def update(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Change several settings; all or none."""
        changes = {**(values or {}), **more}
        checked = {name: check(name, value) for name, value in changes.items()}
        for name, value in checked.items():
            super().__setattr__(name, value)


_TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def check(name: str, value: Any) -> Any:
    """Return the value, converted to the setting's type.

    Raises:
        UnknownOption: there is no such setting.
        ImproperlyConfigured: the value does not fit; the message does not
            show it, since it may be a secret.
    """
    if name not in _TYPES:
        raise UnknownOption(name, _TYPES, what="setting")
    if isinstance(value, tuple):
        value = list(value)
    try:
        checked = msgspec.convert(value, _TYPES[name])
    except msgspec.ValidationError as error:
        what = str(error).partition(" - at ")[0]
        raise ImproperlyConfigured(f"setting {name}: {what[:1].lower()}{what[1:]}") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise ImproperlyConfigured(f"setting {name}: expected a finite number")
    if name in ENVIRONMENT and checked == "":
        raise ImproperlyConfigured(f"setting {name} is empty; leave it out for the default")
    if name == "task_routes":
        Router(checked)
    if name == "task_default_queue":
        check_name(checked, "queue")
    return checked


def shown(name: str, value: Any) -> Any:
    """Return a setting's value as it may be shown to anybody, without passwords."""
    if value is None or name not in ENVIRONMENT:
        return value
    try:
        return str(Url.parse(value))
    except ImproperlyConfigured:
        return MASK


def from_environment(name: str) -> str | None:
    """Return a URL setting's environment variable, if it is set and not empty.

    Raises:
        UnknownOption: it is not set, but one is whose name looks like it
            misspelt: the default would send tasks where no worker looks.
    """
    variable = ENVIRONMENT[name]
    if variable in os.environ:
        return os.environ[variable] or None
    for other in os.environ:
        if other.startswith("TASKQ_") and other not in ENVIRONMENT.values():
            likeness = difflib.SequenceMatcher(None, other, variable).ratio()
            if likeness > MISSPELT:
                raise UnknownOption(other, [variable], what="environment variable")
    return None


def default_broker_url(application: str) -> str:
    """Return the URL of the SQLite file that serves where nobody named a broker.

    It lies in the user's state directory, so that producers and workers find
    the same file whatever directory they start in.
    """
    import platformdirs

    folder = Path(platformdirs.user_state_path("taskq", ensure_exists=True))
    return f"sqlite:///{(folder / f'{application}.db').absolute().as_posix()}"


def seconds(value: Any, what: str) -> Seconds:
    """Return a duration given as a number of seconds or a timedelta.

    Raises:
        ImproperlyConfigured: it is neither, or not finite.
    """
    import datetime as dt

    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(value):
                return float(value)
    raise ImproperlyConfigured(f"{what} must be a number of seconds or a timedelta")


def instant(value: Any, what: str) -> Timestamp:
    """Return an instant given as a datetime.

    Raises:
        ImproperlyConfigured: it is none, or has no time zone.
    """
    import datetime as dt

    if isinstance(value, dt.datetime) and value.utcoffset() is not None:
        return value.timestamp()
    raise ImproperlyConfigured(f"{what} must be a datetime with a time zone, such as UTC")
