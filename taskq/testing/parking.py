"""Keeping an application away from its broker between tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self

from taskq.app.application import TaskQ
from taskq.clock import Clock
from taskq.errors import ImproperlyConfigured
from taskq.plugins import Plugins
from taskq.url import Url


class Parked(Plugins):
    """Stands in for an application's plugins, and opens nothing."""

    def __init__(self, app: TaskQ) -> None:
        super().__init__()
        self._app = app

    def open_broker(self, url: str | Url, *, clock: Clock | None = None) -> NoReturn:  # noqa: ARG002
        raise ImproperlyConfigured(
            f"application {self._app.name!r} is used outside of a test, where it would reach "
            f"{self._app.broker_url}: a fixture of a wider scope, or a thread that a test has left "
            "behind, sends a task, or touches app.broker or app.results. Do that in a test or in a "
            "fixture of its scope"
        )

    open_results = open_broker


class Parking:
    """An application that opens no broker while a `with` block lasts, unless released.

    A sandbox takes it out, and puts it back.
    """

    def __init__(self, app: TaskQ) -> None:
        self.app = app
        self._plugins = app.plugins

    def __enter__(self) -> Self:
        self.app.plugins = Parked(self.app)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.app.plugins = self._plugins

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Let it use its own broker meanwhile."""
        parked, self.app.plugins = self.app.plugins, self._plugins
        try:
            yield
        finally:
            self.app.close()
            self.app.plugins = parked
