"""Exceptions as data, and back, without trusting the data.

An exception is stored as the name of its class, its message, its arguments
where they travel, and the traceback as text. Reading it never imports a module
and never runs a constructor (the root of CVE-2021-23727): a class is used only
if it is built in, already imported here, or allow-listed; anything else comes
back as `TaskError`.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from typing import Any, Final

import msgspec

from taskq.errors import TaskError
from taskq.wire.codecs import Codec

TEXT_LIMIT: Final = 4096
TRACEBACK_LIMIT: Final = 64 * 1024


class Failure(msgspec.Struct, frozen=True):
    """An exception as it travels."""

    name: str
    """Module and qualified name of the class."""
    text: str
    traceback: str
    args: list[Any] | None = None
    """The exception's arguments; None if they do not travel."""


class RemoteTraceback(Exception):
    """The worker's traceback, shown as the cause of an exception from a task."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


def describe(error: BaseException, codec: Codec) -> Failure:
    """Return an exception as data. Never raises, whatever its class does."""
    cls = type(error)
    args: list[Any] | None
    try:
        args = list(error.args)
        if len(codec.encode(args)) > TEXT_LIMIT:
            args = None
    except Exception:  # noqa: BLE001 - besides EncodingError, what the arguments' classes raise
        args = None
    return Failure(
        name=f"{cls.__module__}.{cls.__qualname__}",
        text=safe_text(error),
        traceback=_format(error),
        args=args,
    )


def safe_text(value: object) -> str:
    """Return `str(value)`, shortened, or something harmless where that raises."""
    try:
        text = str(value)
    except BaseException as error:  # noqa: BLE001 - a user's __str__ may raise anything
        text = f"<{type(value).__qualname__} whose __str__ raised {type(error).__qualname__}>"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"


def rebuild(failure: Failure, allowed: frozenset[str] = frozenset()) -> BaseException:
    """Return an exception to raise in place of the one that was stored."""
    cls = _find(failure.name, allowed)
    error = None if cls is None or failure.args is None else _instance(cls, failure.args)
    if error is None:
        error = TaskError(failure.name, failure.text, failure.traceback)
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _find(name: str, allowed: frozenset[str]) -> type[Exception] | None:
    module, _, qualified = name.rpartition(".")
    found: Any = None
    if module == "builtins":
        found = getattr(builtins, qualified, None)
    else:
        while module and module not in sys.modules:
            module = module.rpartition(".")[0]
        found = sys.modules.get(module)
        for part in name[len(module) + 1 :].split("."):
            # Not getattr: a module's or a metaclass's __getattr__ may import or run anything.
            found = getattr(found, "__dict__", {}).get(part)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    if f"{found.__module__}.{found.__qualname__}" != name and name not in allowed:
        return None
    return found


def _instance(cls: type[Exception], args: list[Any]) -> Exception | None:
    """Make the exception without running a constructor written in Python.

    The built-in base is initialised, since it may hold more than `args`.
    """
    native = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    try:
        error: Exception = native.__new__(cls, *args)
        native.__init__(error, *args)  # type: ignore[misc]  # of the built-in class itself
        error.args = tuple(args)
        str(error)
    except Exception:  # noqa: BLE001 - the stored arguments may not fit the class's __str__
        return None
    return error


def _format(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - as in `safe_text`
        text = f"{type(error).__qualname__}: {safe_text(error)}\n"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TRACEBACK_LIMIT else text[:TRACEBACK_LIMIT] + "…\n"
