"""What a running task knows of itself: `self.request`, `current_request()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import msgspec

from taskq.clock import Timestamp
from taskq.contract.delivery import Delivery

Conclude: TypeAlias = Callable[["Request", object, Any], None]
"""Concludes a run with a value, within a transaction of the task's."""


class Request(msgspec.Struct):
    """One run of a task. Names follow Celery's."""

    id: str
    task: str
    args: Any = ()
    kwargs: Mapping[str, Any] = {}
    queue: str = ""
    priority: int = 5
    retries: int = 0
    """How often it was retried."""
    losses: int = 0
    """How many workers were lost while they held it."""
    run: int = 0
    """Grows with every run, whatever caused it."""
    headers: Mapping[str, Any] = {}
    meta: Mapping[str, Any] = {}
    """The system's own headers, which a retry hands on."""
    root_id: str | None = None
    parent_id: str | None = None
    hostname: str = ""
    """The worker's name."""
    created: Timestamp = 0.0
    """When it was sent, by the sender's clock."""
    called_directly: bool = False
    is_eager: bool = False
    """It runs in its sender's thread (`task_always_eager`)."""
    exhausted: bool = False
    """Set by `retry()` when it had no retry left to give."""
    completed: bool = False
    """`self.complete(session)` has concluded it, and the transaction was committed."""
    value: Any = None
    """What it was completed with."""
    delivery: Delivery | None = None
    """What the worker claimed; None if there is no worker."""
    conclude: Conclude | None = None
    lost: bool = False
    """True once the worker has lost its lease: what the task returns will be
    refused, and another worker may have started it. Read it in long loops."""


_current: Final[ContextVar[Request | None]] = ContextVar("taskq_request", default=None)
enter: Final = _current.set
leave: Final = _current.reset
current_request: Final = _current.get
"""Return the request of the task that is running here, or None."""
