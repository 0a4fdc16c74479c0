"""The results of many tasks, as they come."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from taskq.cli.demo.tasks import Answer
from taskq.clock import Seconds
from taskq.errors import TaskqError
from taskq.wire import outcome
from taskq.wire.outcome import Status

if TYPE_CHECKING:
    from taskq.app.application import TaskQ
    from taskq.contract.results import ResultRecord

WINDOW: Final = 500
"""How many of the oldest open tasks are asked about at once."""


class TaskFailed(TaskqError):
    """A task of the demo failed."""


class Collector:
    """Holds the answers that came and the ids of those that did not."""

    def __init__(self, app: TaskQ, ids: Sequence[str]) -> None:
        self._app = app
        self._open = dict.fromkeys(ids)
        self.answers: dict[str, Answer] = {}
        self.workers: dict[str, str] = {}
        """Which worker answered, by id."""

    @property
    def missing(self) -> int:
        """How many answers are still to come."""
        return len(self._open)

    def collect(self, timeout: Seconds) -> int:
        """Wait for answers; return how many came.

        Raises:
            TaskFailed: one is no answer but a failure.
            ResultError: none came, and the oldest task cannot answer any more.
        """
        window = list(itertools.islice(self._open, WINDOW))
        found = self._app.results.wait(window, timeout=timeout)
        if window and not found:
            self._app.AsyncResult(window[0]).verdict()
        for id, record in found.items():
            self._take(id, record)
        return len(found)

    def busiest(self) -> str | None:
        """Return the worker with the most answers."""
        counts = collections.Counter(self.workers.values()).most_common(1)
        return counts[0][0] if counts else None

    def _take(self, id: str, record: ResultRecord) -> None:
        header, data = outcome.read(record.payload)
        if header.state is not Status.SUCCESS:
            failure = outcome.read_failure(header, data, self._app.codecs)
            raise TaskFailed(f"task {id} failed: {failure.name}: {failure.text}")
        value = outcome.read_value(header, data, self._app.codecs)
        self.answers[id] = msgspec.convert(value, Answer)
        self.workers[id] = header.worker
        del self._open[id]
