"""Which queue and priority a task has when the call does not say."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Final, NamedTuple

from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.names import check_name

_KEYS: Final = frozenset({"queue", "priority"})
_GLOB: Final = frozenset("*?[")


class Route(NamedTuple):
    """Where a task goes; None leaves it to the task or the application."""

    queue: str | None = None
    priority: int | None = None


class Router:
    """Looks tasks up in `task_routes`: exact names first, then patterns in their order."""

    def __init__(self, routes: Mapping[str, str | Mapping[str, str | int]]) -> None:
        self.routes = routes
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[str, Route]] = []
        for pattern, target in routes.items():
            route = _parse(pattern, target)
            if _GLOB.isdisjoint(pattern):
                self._exact[pattern] = route
            else:
                self._patterns.append((pattern, route))

    def route(self, task: str) -> Route:
        """Return the route of a task; an empty one if none fits."""
        found = self._exact.get(task)
        if found is not None:
            return found
        for pattern, route in self._patterns:
            if fnmatch.fnmatchcase(task, pattern):
                return route
        return Route()


def _parse(pattern: str, target: str | Mapping[str, str | int]) -> Route:
    if isinstance(target, str):
        return Route(queue=check_name(target, "queue"))
    for key in target:
        if key not in _KEYS:
            raise UnknownOption(key, _KEYS, what=f"key in the route of {pattern!r}")
    queue, priority = target.get("queue"), target.get("priority")
    if queue is not None and not isinstance(queue, str):
        raise ImproperlyConfigured(f"route of {pattern!r}: queue must be a name")
    return Route(
        queue=None if queue is None else check_name(queue, "queue"),
        priority=None if priority is None else check_priority(priority),
    )


def check_priority(value: object) -> int:
    """Return a priority.

    Raises:
        ImproperlyConfigured: it is no whole number from 0 to 9.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9:
        return value
    raise ImproperlyConfigured("priority must be a whole number from 0 to 9; 9 is the most urgent")
