"""`taskq outbox`: carrying tasks from a program's own database to the broker."""

from __future__ import annotations

import itertools
import json
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, Protocol, TypeVar

import click

from taskq.clock import SystemClock
from taskq.errors import ImproperlyConfigured, UnknownResult
from taskq.url import Url
from taskq_sql.engine import Database
from taskq_sql.outbox import aside
from taskq_sql.outbox.relay import BATCH, Relay, open_outbox

F = TypeVar("F", bound=Callable[..., Any])
FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)-8s %(name)s: %(message)s"
TIME: Final = "%Y-%m-%d %H:%M:%S"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


class _Client(Protocol):
    @property
    def broker_url(self) -> Url: ...


class _Said(Protocol):
    """What was said before the command's name: -A or -b, or nothing."""

    def client(self) -> _Client: ...


def _urls(function: F) -> F:
    """Add the two URLs; that of the broker may also come from before the command's name."""
    function = click.argument("broker_url", required=False)(function)
    return click.argument("database_url", envvar="TASKQ_OUTBOX_URL")(function)


@click.group()
def outbox() -> None:
    """Carry tasks from your own database to a broker that is none.

    A task sent with session=… waits in DATABASE_URL, where the session's
    transaction wrote it, until a relay carries it to BROKER_URL, the broker
    of the application that sent it. The URLs may also stand in
    TASKQ_OUTBOX_URL and TASKQ_BROKER_URL, and `taskq -A MODULE outbox …`
    takes the broker of the application.
    """


@outbox.command()
@_urls
@click.option(
    "--batch",
    type=click.IntRange(min=1, max=10_000),
    default=BATCH,
    show_default=True,
    help="Tasks carried at once, at most.",
)
@click.option("--once", is_flag=True, help="Carry what is there, and end.")
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(("debug", "info", "warning", "error"), case_sensitive=False),
    default="info",
    show_default=True,
)
@click.pass_obj
def relay(
    said: _Said, database_url: str, broker_url: str | None, batch: int, once: bool, loglevel: str
) -> None:
    """Carry tasks until told to stop.

    Run two or more, and one carries while the others stand by. SIGTERM or
    Ctrl-C: it ends after the batch it is about. A second one: at once; what
    it was about is sent again by the next relay, with the same ids.
    """
    broker = _broker(said, broker_url)
    _configure(loglevel)
    if broker.scheme == "memory":
        raise ImproperlyConfigured(
            "memory:// ends with the process, and the tasks carried there with it; name the "
            "broker that your workers use"
        )
    with Relay(database_url, broker, batch=batch) as carrier:
        for warning in carrier.check():
            log.warning("%s", warning)
        with _until_told(carrier):
            log.info("carrying from %s to %s", carrier.database_url, carrier.broker_url)
            if once:
                log.info("carried: %d", carrier.drain())
            else:
                carrier.run()
    log.info("ended")


@outbox.command("list")
@_urls
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_refused(
    said: _Said, database_url: str, broker_url: str | None, limit: int, as_json: bool
) -> None:
    """List tasks that the broker refused, and say how many wait."""
    with _opened(said, database_url, broker_url) as database:
        waiting = aside.count_waiting(database)
        found = list(itertools.islice(aside.refused(database), limit))
    if as_json:
        rows = [{"id": one.id, "queue": one.queue, "reason": one.reason} for one in found]
        click.echo(json.dumps({"waiting": waiting, "refused": rows}, indent=2))
        return
    for one in found:
        click.echo(f"{one.id}  {one.queue}  {_printable(one.reason)}")
    click.echo(f"waiting for a relay: {waiting}; shown as refused: {len(found)}", err=True)


@outbox.command()
@_urls
@click.option("--id", "ids", multiple=True, metavar="ID", help="This one. May stand repeatedly.")
@click.option("--all", "every", is_flag=True, help="All there are.")
@click.pass_obj
def retry(
    said: _Said, database_url: str, broker_url: str | None, ids: tuple[str, ...], every: bool
) -> None:
    """Let refused tasks wait for the relay again, each in its old place."""
    if bool(ids) == every:
        raise click.UsageError("name tasks by --id, or pass --all")
    with _opened(said, database_url, broker_url) as database:
        found = aside.send_again(database, None if every else set(ids))
    if missing := set(ids).difference(found):
        raise UnknownResult(f"no refused task has the id {', '.join(sorted(missing))}")
    click.echo(f"waiting again: {len(found)}")


def _broker(said: _Said, text: str | None) -> Url:
    return said.client().broker_url if text is None else Url.parse(text)


@contextmanager
def _opened(said: _Said, database_url: str, broker_url: str | None) -> Iterator[Database]:
    broker = _broker(said, broker_url)
    with closing(open_outbox(Url.parse(database_url), broker, SystemClock())) as database:
        yield database


@contextmanager
def _until_told(carrier: Relay) -> Iterator[None]:
    """Let the first signal stop the relay, and the second one the process."""

    def stop(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        carrier.stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _configure(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(FORMAT, TIME))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return _printable(super().formatMessage(record))


def _printable(text: str) -> str:
    """Return text as one line that moves no cursor: servers' words are others' words."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
