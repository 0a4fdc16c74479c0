"""Every error taskq raises, in one tree.

::

    TaskqError
    ├── ImproperlyConfigured          a setting, option, name or URL is wrong
    │   ├── InvalidName               a queue, task or id breaks the grammar
    │   ├── UnknownOption             a key nobody knows; suggests the right one
    │   ├── UnknownScheme             no installed plugin handles the URL
    │   ├── NotSupported              this backend or pool cannot do that
    │   ├── AlreadyRegistered         two tasks of one name
    │   └── NotRegistered             no task of that name
    ├── EncodingError                 a value cannot travel; nothing was sent
    ├── DecodeError                   bytes that are not what they should be
    │   └── NewerEnvelope             written by a newer taskq; not broken
    ├── BrokerError                   the server or the way to it failed
    │   ├── ConnectionFailed          nothing happened
    │   ├── OutcomeUnknown            the request may have been carried out
    │   ├── ServerRefused             the server answered: no
    │   ├── SendError                 which ids were sent, unsent, unknown
    │   └── Closed                    the client was closed by its owner
    ├── EnqueueError                  a task, or part of a batch, was not accepted
    ├── ResultError                   a result that is not a value
    │   ├── TaskError                 the task failed; its class is not here
    │   ├── TaskRevokedError          the task was dropped before it ran
    │   ├── TimeoutError              no result in time; names the state
    │   ├── UnknownResult             no such task, or its result is gone
    │   └── ResultNotSerializable     the task ran; its result cannot travel
    └── TaskControl                   raised inside a task to steer it
        ├── Retry                     run me again later
        ├── LeaseLost                 another worker may have the task by now
        └── MaxRetriesExceededError   `retry()` was called once too often

A class's docstring is its default message. Errors carry what happened as
attributes, so that nobody has to parse a sentence.
"""

from __future__ import annotations

import builtins
import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskq.clock import Seconds


class TaskqError(Exception):
    """Something in taskq went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").split("\n\n", 1)[0])


class ImproperlyConfigured(TaskqError, ValueError):
    """A setting, an option, a name or a URL is wrong."""


class InvalidName(ImproperlyConfigured):
    """A name may hold letters, digits and `_ . : -`, 1 to 128 of them."""


class UnknownOption(ImproperlyConfigured):
    """A key that nobody knows."""

    def __init__(self, name: str, known: Iterable[str], *, what: str = "option") -> None:
        self.name = name
        self.known = tuple(sorted(known))
        close = difflib.get_close_matches(name, self.known, n=1)
        cure = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(self.known)}"
        super().__init__(f"unknown {what} {name!r}; {cure}")


class UnknownScheme(ImproperlyConfigured):
    """No installed plugin handles this kind of URL."""


class NotSupported(ImproperlyConfigured):
    """This backend or pool cannot do what was asked."""


class AlreadyRegistered(ImproperlyConfigured):
    """A task of this name exists; give one of them another `name=`."""


class NotRegistered(ImproperlyConfigured):
    """No task of this name is registered here."""


class EncodingError(TaskqError, TypeError):
    """A value cannot be written in this format; nothing was sent."""


class DecodeError(TaskqError, ValueError):
    """Bytes that are not a taskq message or result.

    `code` is the code of the dead letter such bytes become: `undecodable`,
    `too_large` or `too_deep`.
    """

    def __init__(self, message: str | None = None, *, code: str = "undecodable") -> None:
        super().__init__(message)
        self.code = code


class NewerEnvelope(DecodeError):
    """Written in a newer format than this version of taskq reads."""


class BrokerError(TaskqError):
    """The broker, or the way to it, failed."""


class ConnectionFailed(BrokerError):
    """The server was not reached; nothing happened."""


class OutcomeUnknown(BrokerError):
    """The connection broke before the answer; the request may have been carried out."""


class ServerRefused(BrokerError):
    """The server answered, and refused; nothing happened."""


class Closed(BrokerError):
    """This client was closed; open a new one."""


class SendError(BrokerError):
    """A batch was not sent whole.

    `sent` were accepted; `unsent` certainly not; of `unknown` nobody can say.
    Each holds message ids in the order they were given. A step refused by the
    server counts as unsent, and `refused` tells that trying again at once is
    of no use.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        sent: Sequence[str] = (),
        unsent: Sequence[str] = (),
        unknown: Sequence[str] = (),
        refused: bool = False,
    ) -> None:
        super().__init__(message)
        self.sent = tuple(sent)
        self.unsent = tuple(unsent)
        self.unknown = tuple(unknown)
        self.refused = refused


class EnqueueError(TaskqError):
    """The broker did not accept every task before the deadline.

    `sent`, `unsent` and `unknown` hold task ids. Sending an unknown one again
    with the same `task_id` makes no second task where ids are unique.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        sent: Sequence[str] = (),
        unsent: Sequence[str] = (),
        unknown: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.sent = tuple(sent)
        self.unsent = tuple(unsent)
        self.unknown = tuple(unknown)


class ResultError(TaskqError):
    """A result that is not a value."""


class TaskError(ResultError):
    """The task failed with an exception whose class is not known here.

    `name` is the class's full name, `text` its message, `remote_traceback`
    the worker's traceback as text.
    """

    def __init__(self, name: str, text: str, remote_traceback: str = "") -> None:
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name
        self.text = text
        self.remote_traceback = remote_traceback


class TaskRevokedError(ResultError):
    """The task was dropped before it ran."""


class TimeoutError(ResultError, builtins.TimeoutError):  # noqa: A001 - Celery's name
    """No result came within the timeout."""

    def __init__(self, message: str | None = None, *, state: str = "PENDING") -> None:
        super().__init__(message)
        self.state = state


class UnknownResult(ResultError):
    """No task of this id is known, or its result has expired."""


class ResultNotSerializable(ResultError):
    """The task ran, but what it returned cannot be stored."""


class TaskControl(TaskqError):
    """Raised inside a task to steer it."""


class Retry(TaskControl):
    """The task asks to run again.

    `delay` is in seconds from now by the broker's clock; None leaves it to the
    task's own retry policy. `cause` is the exception that led here, if any.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        delay: Seconds | None = None,
        cause: BaseException | None = None,
        envelope: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.delay = delay
        self.cause = cause
        self.envelope = envelope


class LeaseLost(TaskControl):
    """Another worker may have the task by now, so this run cannot conclude it."""


class MaxRetriesExceededError(TaskControl):
    """The task has used up its retries."""
