"""What a machine did, written so that it can be pasted into a test and run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from hypothesis.stateful import initialize, rule

from taskq.testing.record import LawBroken
from taskq.url import Url

WIDTH: Final = 100
Options = ParamSpec("Options")
Machine = TypeVar("Machine", bound="Traced")
Method = Callable[Concatenate[Machine, Options], None]


class Traced(Protocol):
    """A machine that keeps its trace."""

    trace: Trace


class Trace:
    """The calls of one sequence, in order."""

    def __init__(self, url: Url, machine: str) -> None:
        self._url = str(url)
        self._machine = machine
        self._calls: list[str] = []
        self._told = False
        self.when_told: Callable[[Exception, int], None] | None = None
        """Called with what ended the sequence, and its number of calls."""

    def add(self, name: str, arguments: dict[str, Any]) -> None:
        """Note a call of the machine."""
        texts = [f"{key}={value!r}" for key, value in arguments.items()]
        line = f"        state.{name}({', '.join(texts)})"
        if len(line) > WIDTH:
            inner = "".join(f"            {text},\n" for text in texts)
            line = f"        state.{name}(\n{inner}        )"
        self._calls.append(line)

    def tell(self, error: Exception) -> None:
        """Add the sequence to an error as a test, once."""
        if not self._told:
            self._told = True
            error.add_note(self.as_test(error))
            if self.when_told is not None:
                self.when_told(error, len(self._calls))

    def as_test(self, error: Exception) -> str:
        """Return the source of a test that repeats the sequence."""
        name = f"breaks_{error.law.lower()}" if isinstance(error, LawBroken) else "fails"
        return "\n".join(
            [
                "As a test:\n",
                "from taskq.testing import machine\n",
                f'URL = "{self._url}"\n\n',
                f"def test_a_sequence_that_{name}():",
                f"    with machine.replay(URL, machine.{self._machine}) as state:",
                *(self._calls or ["        pass"]),
            ]
        )


def _logged(method: Method[Machine, Options]) -> Method[Machine, Options]:
    @functools.wraps(method)
    def logged(self: Machine, /, *args: Options.args, **arguments: Options.kwargs) -> None:
        self.trace.add(method.__name__, arguments)
        try:
            method(self, *args, **arguments)
        except Exception as error:
            self.trace.tell(error)
            raise

    return logged


def step(**strategies: Any) -> Callable[[Method[Machine, Options]], Method[Machine, Options]]:
    """Make a rule of a method; its calls are in the trace."""

    def decorate(method: Method[Machine, Options]) -> Method[Machine, Options]:
        found: Method[Machine, Options] = rule(**strategies)(_logged(method))  # type: ignore[no-untyped-call]  # untyped there
        return found

    return decorate


def first(**strategies: Any) -> Callable[[Method[Machine, Options]], Method[Machine, Options]]:
    """Make a method the first step of each sequence."""

    def decorate(method: Method[Machine, Options]) -> Method[Machine, Options]:
        found: Method[Machine, Options] = initialize(**strategies)(_logged(method))  # type: ignore[no-untyped-call]  # untyped there
        return found

    return decorate
