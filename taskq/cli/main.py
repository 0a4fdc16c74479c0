"""The command `taskq`, and what its exit codes mean.

====  ==============================================================
code  meaning
====  ==============================================================
0     done
1     the thing itself failed: a task, a check, a part of the worker
2     the command line or the configuration is wrong
3     the worker ended before its tasks did; they were given back
4     the broker was not reached, or refused
5     there is no such task, result or dead letter
6     nothing came within the timeout
====  ==============================================================
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import click

from taskq import __version__
from taskq.cli.check import broker
from taskq.cli.completion import completion
from taskq.cli.dead import dead
from taskq.cli.demo.command import demo
from taskq.cli.output import complain
from taskq.cli.purge import purge
from taskq.cli.send import call, result
from taskq.cli.session import Session, session_options
from taskq.cli.status import status
from taskq.cli.worker import worker
from taskq.errors import (
    BrokerError,
    EncodingError,
    EnqueueError,
    ImproperlyConfigured,
    TaskqError,
    TimeoutError,  # noqa: A004
    UnknownResult,
)

FAILED: Final = 1
COMMANDS: Final = "taskq.commands"
EXIT_CODES: Final[tuple[tuple[type[TaskqError], int], ...]] = (
    (ImproperlyConfigured, 2),
    (EncodingError, 2),
    (EnqueueError, 4),
    (BrokerError, 4),
    (UnknownResult, 5),
    (TimeoutError, 6),
)
"""The first that fits counts; any other error of taskq's is `FAILED`."""

EPILOG: Final = """\b
Exit codes:
  0  done
  1  the thing itself failed: a task, a check, a part of the worker
  2  the command line or the configuration is wrong
  3  the worker ended before its tasks did; they were given back
  4  the broker was not reached, or refused
  5  there is no such task, result or dead letter
  6  nothing came within the timeout
"""


def exit_code(error: TaskqError) -> int:
    """Return the exit code that an error leads to."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), FAILED)


class Program(click.Group):
    """A group whose commands may raise taskq's errors.

    An installed plugin adds one by an entry point of the group `taskq.commands`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, those of plugins included."""
        return sorted({*super().list_commands(ctx), *_of_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; one of a plugin is imported now."""
        known = super().get_command(ctx, cmd_name)
        if known is not None or cmd_name not in _of_plugins():
            return known
        found = _of_plugins()[cmd_name].load()
        return found if isinstance(found, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an error of taskq's into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except TaskqError as error:
            if ctx.ensure_object(Session).debug:
                raise
            complain(str(error))
            ctx.exit(exit_code(error))


@cache
def _of_plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMANDS)}


@click.group(
    cls=Program,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@session_options(environment=True)
@click.version_option(__version__, prog_name="taskq", message="%(prog)s %(version)s")
def cli() -> None:
    """Run workers, send tasks, and look after what became of them.

    Options that name the application and the broker may stand before or after
    the command's name.
    """


for command in (worker, call, result, status, purge, dead, broker, demo, completion):
    cli.add_command(command)


def main() -> None:
    """Run the command line and end the process."""
    sys.exit(cli(prog_name="taskq"))
