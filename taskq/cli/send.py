"""`taskq call` and `taskq result`."""

from __future__ import annotations

import datetime as dt
import json
import pprint
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import complain, escape, json_option, note, show, show_json
from taskq.cli.session import Session, session_options
from taskq.errors import (
    EncodingError,
    ImproperlyConfigured,
    NotRegistered,
    TaskError,
    UnknownOption,
)

if TYPE_CHECKING:
    from taskq.app.application import TaskQ
    from taskq.app.result import AsyncResult
    from taskq.app.signature import CallOptions


class Json(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """An option whose value is JSON: a list, or an object."""

    def __init__(self, kind: type) -> None:
        self.name = "JSON"
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self._kind):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(found, self._kind):
            wanted = "[1, 2]" if self._kind is list else '{"x": 1}'
            self.fail(f"must look like {wanted}", param, ctx)
        return found


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """An instant in ISO 8601 with a time zone; or, where allowed, seconds from now."""

    def __init__(self, *, relative: bool) -> None:
        self.name = "SECONDS|TIME" if relative else "TIME"
        self._relative = relative

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | dt.datetime:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # converted already
        if self._relative:
            try:
                return float(value)
            except ValueError:
                pass  # Then it is an instant.
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail("not a time in ISO 8601, such as 2030-01-31T18:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail("has no time zone; add Z or an offset such as +01:00", param, ctx)
        return moment


@click.command()
@session_options()
@click.argument("name")
@click.option("-a", "--args", type=Json(list), default="[]", help="Positional arguments.")
@click.option("-k", "--kwargs", type=Json(dict), default="{}", help="Keyword arguments.")
@click.option("--countdown", type=float, help="Start no earlier than this many seconds from now.")
@click.option("--eta", type=Moment(relative=False), help="Start no earlier than then.")
@click.option("--expires", type=Moment(relative=True), help="Do not start after then.")
@click.option("--queue", help="In place of the one the task is routed to.")
@click.option("--priority", type=int, help="0 to 9; 9 is the most urgent.")
@click.option("--task-id", help="In place of a new one.")
@click.option("--wait", is_flag=True, help="Wait for the result, and print it.")
@click.option("--timeout", type=float, help="Seconds to wait. Default: result_timeout.")
@json_option
@click.pass_obj
def call(
    session: Session,
    /,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send a task by its NAME.

    Prints its id, or with --wait its result.

    With only a broker (-b) any name is sent; an application (-A) must know it.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is about --wait")
    app = session.client()
    sent = _send(app, name, args, kwargs, {k: v for k, v in options.items() if v is not None})  # type: ignore[arg-type]  # click's names are those of CallOptions
    if not wait:
        show_json({"id": sent.id}) if as_json else show(sent.id)
        return
    note(f"waiting for task {sent.id}")
    show_outcome(sent, timeout=timeout, traceback=False, as_json=as_json)


def _send(
    app: TaskQ, name: str, args: list[Any], kwargs: dict[str, Any], options: CallOptions
) -> AsyncResult[Any]:
    from taskq.app.loading import import_tasks

    import_tasks(app)
    if app.tasks and name not in app.tasks:
        hint = UnknownOption(name, app.tasks, what="task")
        raise NotRegistered(f"{hint} To send a name that only workers know, give -b URL and no -A")
    try:
        return app.send_task(name, args, kwargs, **options)
    except EncodingError:
        raise
    except TypeError as error:
        raise ImproperlyConfigured(f"the arguments do not fit task {name}: {error}") from error


@click.command()
@session_options()
@click.argument("id")
@click.option("--timeout", type=float, default=0.0, help="Seconds to wait for it. Default: 0.")
@click.option("--traceback", is_flag=True, help="Print the worker's traceback of a failure.")
@json_option
@click.pass_obj
def result(session: Session, id: str, timeout: float, traceback: bool, as_json: bool) -> None:
    """Print what became of the task with this ID."""
    handle = session.client().AsyncResult(id)
    show_outcome(handle, timeout=timeout, traceback=traceback, as_json=as_json)


def show_outcome(
    handle: AsyncResult[Any], *, timeout: float | None, traceback: bool, as_json: bool
) -> None:
    """Print a task's value; or say how it failed, and end with exit code 1."""
    value = handle.get(timeout, propagate=False)
    failed = isinstance(value, BaseException)
    if as_json:
        show_json(_document(handle, value))
    elif failed:
        complain(escape(f"task {handle.id} failed: {_describe(value)}"))
        if traceback:
            show((handle.traceback or "there is no traceback").rstrip())
    else:
        show(pprint.pformat(value, sort_dicts=False))
    if failed:
        click.get_current_context().exit(1)


def _document(handle: AsyncResult[Any], value: Any) -> dict[str, Any]:
    from taskq.wire.tagged import lower

    document: dict[str, Any] = {"id": handle.id, "state": handle.state}
    if isinstance(value, BaseException):
        return document | {"error": _describe(value), "traceback": handle.traceback}
    return document | {"value": lower(value)}


def _describe(error: BaseException) -> str:
    if isinstance(error, TaskError):
        return str(error)
    return f"{type(error).__qualname__}: {error}"
