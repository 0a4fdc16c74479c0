"""`taskq worker`."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from taskq import __version__
from taskq.cli.logs import LEVELS, configure
from taskq.cli.output import note
from taskq.cli.session import Session, queues_option, session_options
from taskq.clock import Seconds
from taskq.errors import ConnectionFailed

if TYPE_CHECKING:
    from taskq.app.application import TaskQ
    from taskq.worker.options import WorkerOptions

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)

FIRST_PAUSE: Final[Seconds] = 0.1
LONGEST_PAUSE: Final[Seconds] = 2.0

OPTIONS: Final = (
    click.option("-c", "--concurrency", type=int, help="Tasks at work at once. Default: 10."),
    click.option("-P", "--pool", metavar="threads|solo", help="What runs them. Default: threads."),
    click.option("-n", "--name", help="A label; %h is the host, %p the process id."),
    click.option("--queue-order", metavar="rotate|strict", help="Default: rotate."),
    click.option("--prefetch", type=int, help="Messages held per slot. Default: 1."),
    click.option("--prefetch-max", type=int, help="Most held per slot, however short the tasks."),
    click.option("--visibility-timeout", type=float, help="Seconds of a lease. Default: 30."),
    click.option("--heartbeat-interval", type=float, help="Seconds. Default: 5."),
    click.option("--schedule-poll-interval", type=float, help="Seconds. Default: 1."),
    click.option("--reaper-interval", type=float, help="Seconds. Default: 10."),
    click.option("--shutdown-grace", type=float, help="Seconds tasks may finish in. Default: 25."),
)


def _worker_options(function: F) -> F:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command()
@session_options()
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
)
@queues_option("Queues to work on, in order of preference.")
@_worker_options
@click.option("-I", "--include", multiple=True, metavar="MODULE", help="Import this one too.")
@click.option(
    "--start-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for a broker that is not there yet.",
)
@click.pass_obj
def worker(
    session: Session,
    /,
    loglevel: str,
    include: tuple[str, ...],
    start_timeout: float,
    **given: Any,
) -> None:
    """Run a worker until it is told to stop.

    SIGTERM or Ctrl-C: it claims nothing more, finishes what runs, and ends.
    A second one: what still runs is given back at once.
    """
    from taskq.app.loading import import_tasks
    from taskq.worker.options import worker_options

    configure(loglevel)
    app = session.app()
    import_tasks(app, include)
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    options = worker_options(chosen).resolved(app.conf.task_default_queue)
    note(banner(app, options, tasks=loglevel == "debug"))
    _await_broker(app, start_timeout)
    _run(app, options)


def _await_broker(app: TaskQ, timeout: Seconds) -> None:
    """Return once the broker is there and can be used; the worker logs its warnings.

    Workers often start together with their broker, so one that does not answer
    yet gets some time; after it an error tells the supervisor.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE
    while True:
        try:
            app.broker.check()
        except ConnectionFailed as error:
            if time.monotonic() + pause > deadline:
                raise
            if pause == FIRST_PAUSE:
                log.warning("waiting up to %.0f s for the broker: %s", timeout, error)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return


def _run(app: TaskQ, options: WorkerOptions) -> None:
    from taskq.worker.worker import Exit, Worker

    code = Worker(app, options).run()
    if code != Exit.WARM:
        # Threads of unfinished tasks may still run, and an ordinary exit would wait for them.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    click.get_current_context().exit(code)


def banner(app: TaskQ, options: WorkerOptions, *, tasks: bool) -> str:
    """Return what a worker says of itself before it starts; passwords are masked."""
    results = "with the broker" if app.results_with_broker else str(app.result_url)
    facts = {
        "app": app.name,
        "broker": str(app.broker_url),
        "results": results,
        "queues": ", ".join(options.queues),
        "pool": f"{options.pool}, {options.concurrency} at once",
        "lease": f"{options.visibility_timeout:g} s",
        "tasks": str(len(app.tasks)) if app.tasks else "0 - is a module missing? See --include",
    }
    lines = [f"taskq {__version__}: worker {options.name}"]
    lines += [f"  {name:<8} {fact}" for name, fact in facts.items()]
    if tasks:
        lines += [f"           - {name}" for name in sorted(app.tasks)]
    return "\n".join(lines)
