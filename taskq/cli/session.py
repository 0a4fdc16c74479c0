"""Which application and which broker a command is about."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from taskq.app.settings import from_environment
from taskq.errors import ImproperlyConfigured
from taskq.names import check_name
from taskq.url import Url

if TYPE_CHECKING:
    from taskq.app.application import TaskQ

F = TypeVar("F", bound=Callable[..., Any])

NAMELESS: Final = "taskq-cli"
"""What the application is called that stands in where only a broker was named."""


class Session:
    """What was said before and after the command's name. Lives as long as the command."""

    def __init__(self) -> None:
        self.app_name: str | None = None
        self.broker_url: str | None = None
        self.workdir: str | None = None
        self.debug: bool = False
        self._opened: TaskQ | None = None

    def app(self) -> TaskQ:
        """Return the application that `-A` names.

        Raises:
            ImproperlyConfigured: none was named, or it cannot be found or imported.
        """
        if self.app_name is None:
            raise ImproperlyConfigured(
                "which application? Name its module with -A, such as: taskq -A shop worker"
            )
        return self._keep(self._load(self.app_name))

    def client(self) -> TaskQ:
        """Return the application that `-A` names, or one that knows only the broker's URL.

        Raises:
            ImproperlyConfigured: neither was named.
        """
        if self.app_name is not None:
            return self.app()
        if self.broker_url is None and from_environment("broker_url") is None:
            raise ImproperlyConfigured(
                "which broker? Name the application with -A or the broker with -b, "
                "or set TASKQ_BROKER_URL"
            )
        from taskq.app.application import TaskQ

        app = TaskQ(NAMELESS)
        self._override(app)
        return self._keep(app)

    def close(self) -> None:
        """Close the application's connections."""
        if self._opened is not None:
            self._opened.close()

    def _load(self, name: str) -> TaskQ:
        from taskq.app.loading import find_app

        prepare_path(self.workdir)
        app = find_app(name)
        self._override(app)
        return app

    def _override(self, app: TaskQ) -> None:
        if self.broker_url is None:
            return
        # An empty one, as of a variable that is not set, must not mean the default broker.
        Url.parse(self.broker_url)
        # What the module has opened on import is of another broker.
        app.close()
        app.conf.broker_url = self.broker_url

    def _keep(self, app: TaskQ) -> TaskQ:
        if self._opened is None:
            click.get_current_context().call_on_close(self.close)
        self._opened = app
        return app


def prepare_path(workdir: str | None) -> None:
    """Enter the working directory, if one was named, and let modules in it be imported."""
    if workdir is not None:
        os.chdir(workdir)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option's value, so that it counts on whichever side of the command it stands."""
    session = context.ensure_object(Session)
    if value is not None and parameter.name is not None:
        setattr(session, parameter.name, value)


def session_options(*, environment: bool = False) -> Callable[[F], F]:
    """Add the options that every command has; the command finds them in its `Session`."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _remember}
    options = (
        click.option(
            "-A",
            "--app",
            "app_name",
            metavar="MODULE[:NAME]",
            envvar="TASKQ_APP" if environment else None,
            show_envvar=environment,
            help="The application.",
            **shared,
        ),
        click.option(
            "-b",
            "--broker",
            "broker_url",
            metavar="URL",
            help="The broker, in place of the application's own or of TASKQ_BROKER_URL.",
            **shared,
        ),
        click.option(
            "--workdir",
            type=click.Path(exists=True, file_okay=False),
            help="Enter this directory first.",
            **shared,
        ),
        click.option(
            "--debug",
            is_flag=True,
            default=None,
            help="Show the traceback of an error of taskq's.",
            **shared,
        ),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def split_names(
    context: click.Context,  # noqa: ARG001
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> tuple[str, ...]:
    """Return the queues of a list such as `a,b`; none if the option was not given.

    Raises:
        InvalidName: one is no legal name.
    """
    if value is None:
        return ()
    return tuple(check_name(name.strip(), "queue") for name in value.split(","))


def queues_option(text: str) -> Callable[[F], F]:
    """Add `-Q a,b`, as a tuple called `queues`."""
    return click.option(
        "-Q",
        "--queues",
        metavar="NAME,…",
        callback=split_names,
        help=f"{text} Separated by commas.",
    )
