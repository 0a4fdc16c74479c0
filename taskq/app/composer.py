"""From a call to a message: arguments checked, route found, envelope written."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from taskq.app.request import Request
from taskq.app.routing import Router, check_priority
from taskq.app.settings import check, instant, seconds
from taskq.app.signature import CallOptions
from taskq.app.task import Task
from taskq.clock import Seconds, to_microseconds
from taskq.contract.message import Message, Send
from taskq.errors import EncodingError, ImproperlyConfigured, UnknownOption
from taskq.ids import new_id
from taskq.names import check_name
from taskq.wire import envelope as wire
from taskq.wire.envelope import Envelope, Scalar
from taskq.wire.tagged import lower

if TYPE_CHECKING:
    from taskq.app.application import TaskQ


class Composer:
    """Writes the messages of one application. Thread-safe; sends nothing."""

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._conf = app.conf
        self._router: Router | None = None

    def item(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        parent: Request | None,
    ) -> Send:
        _check_args(args, kwargs)
        if not options.keys() <= _OPTIONS:
            raise _unknown_option(options)
        task = self._app.tasks.get(name)
        if task is not None:
            task.arguments.convert(args, kwargs)
        id = options.get("task_id")
        id = new_id() if id is None else check_name(id, "task id")
        route = self._route(name, task, options)
        meta: dict[str, Scalar] = {}
        if parent is not None and not parent.called_directly:
            meta["root"] = parent.root_id or parent.id
            meta["parent"] = parent.id
        if options.get("ignore_result") is not None:
            meta["ignore_result"] = options["ignore_result"]
        headers = options.get("headers")
        header = Envelope(
            v=wire.VERSION,
            id=id,
            task=name,
            queue=route[0],
            created=to_microseconds(time.time()),
            type=self._app.codecs.default.content_type,
            meta=meta,
            headers={} if headers is None else check_headers(headers),
        )
        limit = task.options.max_deliveries if task is not None else None
        message = Message(
            id=id,
            queue=route[0],
            envelope=self._write(header, args, kwargs),
            priority=route[1],
            max_deliveries=limit or self._conf.task_max_deliveries,
        )
        return _timed(message, options, task.options.expires if task is not None else None)

    def _write(self, header: Envelope, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        data = wire.write(header, self._app.codecs.default.encode((tuple(args), dict(kwargs))))
        if len(data) > self._conf.message_limit:
            raise EncodingError(
                f"task {header.task} would be a message of {len(data)} bytes, over message_limit "
                f"({self._conf.message_limit}); send a reference to the data instead"
            )
        return data

    def _route(
        self, name: str, task: Task[..., Any] | None, options: CallOptions
    ) -> tuple[str, int]:
        router = self._router
        if router is None or router.routes != self._conf.task_routes:
            # The check makes a copy, which shows when the setting was changed in place.
            router = self._router = Router(check("task_routes", self._conf.task_routes))
        route = router.route(name)
        queue, priority = options.get("queue"), options.get("priority")
        own = task.options if task is not None else None
        if queue is not None:
            check_name(queue, "queue")
        else:
            queue = route.queue or (own.queue if own else None) or self._conf.task_default_queue
        if priority is not None:
            return queue, check_priority(priority)
        if route.priority is not None:
            return queue, route.priority
        if own is not None and own.priority is not None:
            return queue, own.priority
        return queue, self._conf.task_default_priority

    def rewrite(self, request: Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Return the envelope of a run with other arguments, for a retry."""
        _check_args(args, kwargs)
        header = Envelope(
            v=wire.VERSION,
            id=request.id,
            task=request.task,
            queue=request.queue,
            created=to_microseconds(request.created),
            type=self._app.codecs.default.content_type,
            meta=dict(request.meta),
            headers=dict(request.headers),
        )
        return self._write(header, args, kwargs)


_OPTIONS: Final = CallOptions.__optional_keys__


def _unknown_option(options: Mapping[str, Any]) -> UnknownOption:
    stranger = next(key for key in options if key not in _OPTIONS)
    return UnknownOption(stranger, _OPTIONS, what="call option")


def _check_args(args: object, kwargs: object) -> None:
    if not isinstance(args, list | tuple):
        raise TypeError("args must be a list or tuple of the task's arguments")
    if not isinstance(kwargs, Mapping):
        raise TypeError("kwargs must be a dictionary of the task's keyword arguments")


_SCALARS: Final = (str, int, float, bool, type(None))


def check_headers(headers: Mapping[Any, Any]) -> dict[str, Scalar]:
    """Return the headers as a dictionary of scalars.

    Raises:
        EncodingError: a key is no string, or a value is no scalar, or NaN.
    """
    checked: dict[str, Scalar] = {}
    for key, value in headers.items():
        scalar = lower(value)
        if not isinstance(key, str) or not isinstance(scalar, _SCALARS):
            raise EncodingError("headers must map strings to strings, numbers, booleans or None")
        checked[str.__str__(key)] = scalar
    return checked


def _timed(message: Message, options: CallOptions, own_ttl: Seconds | None) -> Send:
    countdown, eta, expires = options.get("countdown"), options.get("eta"), options.get("expires")
    if countdown is not None and eta is not None:
        raise ImproperlyConfigured("give countdown or eta, not both")
    ttl, end = own_ttl, None
    if isinstance(expires, dt.datetime):
        ttl, end = None, instant(expires, "expires")
    elif expires is not None:
        ttl = seconds(expires, "expires")
    return Send(
        message,
        delay=0.0 if countdown is None else seconds(countdown, "countdown"),
        eta=None if eta is None else instant(eta, "eta"),
        ttl=ttl,
        expires=end,
    )
