"""A distributed task queue with one semantics on every backend.

::

    from taskq import TaskQ

    app = TaskQ("shop", broker="redis://localhost")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(4, 5).get(timeout=10)
"""

from typing import Final

from taskq.app.application import TaskQ
from taskq.app.request import Request, current_request
from taskq.app.result import AsyncResult
from taskq.app.signature import Signature
from taskq.app.task import Task
from taskq.errors import (
    EnqueueError,
    MaxRetriesExceededError,
    Retry,
    TaskError,
    TaskqError,
    TaskRevokedError,
    TimeoutError,  # noqa: A004 - Celery's name
)

__version__: Final = "0.1.0"

__all__ = [
    "AsyncResult",
    "EnqueueError",
    "MaxRetriesExceededError",
    "Request",
    "Retry",
    "Signature",
    "Task",
    "TaskError",
    "TaskQ",
    "TaskRevokedError",
    "TaskqError",
    "TimeoutError",
    "current_request",
]
