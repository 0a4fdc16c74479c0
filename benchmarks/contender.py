"""What every contender can do, and what is the same for all of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

BATCH = 500
"""Tasks per call of a bulk send."""
CLAIM = 100
"""Tasks per claim of the bare clients."""
THREADS = 10
"""Tasks that the workers of taskq and of peers run at once."""
SIZE = 128
"""Bytes of a bare client's message: as many as taskq's own has."""


class Contender(ABC):
    """Something that can send and drain. The clock runs after it was made and has prepared."""

    def __init__(self, url: str) -> None:
        self.url = url

    def prepare(self) -> None:  # noqa: B027 - there may be nothing to do
        """Make tables if they are not there yet, import what is used, connect."""

    @abstractmethod
    def send(self, count: int) -> None:
        """Send `count` tasks one by one, each safe on the server when the call returns."""

    def bulk(self, count: int) -> None:
        """Send `count` tasks in batches."""
        self.send(count)

    @abstractmethod
    def drain(self, count: int) -> None:
        """Run `count` tasks that are there already."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that do the work."""
        return {}


def write(number: int) -> str:
    """Return a bare client's message."""
    text = json.dumps(["add", [number, number]])
    return text.ljust(SIZE)


def run(text: str | bytes) -> None:
    """Do what a bare client's message asks for."""
    name, args = json.loads(text)
    _TASKS[name](*args)


_TASKS: dict[str, Callable[..., Any]] = {"add": lambda x, y: x + y}
