"""What there is on the server, by name and by argument.

All names begin with the version of this layout and the namespace, and a slash,
which no name of ours may hold, parts them. A queue's
arguments can never be changed, so none comes from a setting; a new layout is a
new version, with names of its own.
"""

from __future__ import annotations

from typing import Any, Final

from taskq.clock import Seconds

VERSION: Final = "tq1"
LEVELS: Final = 20
"""Two for each priority: what was lost or released stands before the others of its own."""
UNIT: Final = 50
"""Milliseconds that the shortest step of a delay takes."""
STEPS: Final = 20
LONGEST: Final[Seconds] = ((1 << STEPS) - 1) * UNIT / 1000
"""What one way down the steps can last. Who has longer to wait goes it again."""

_ENOUGH: Final = 2_000_000_000
"""A server of version 4 would drop what comes back 20 times; we count ourselves."""
LASTING: Final[dict[str, Any]] = {"x-queue-type": "quorum", "x-delivery-limit": _ENOUGH}
WAKING: Final[dict[str, Any]] = {
    "x-queue-type": "classic",
    "x-message-ttl": 1000,
    "x-max-length": 64,
    "x-overflow": "drop-head",
}
"""Tokens may be lost: who waits looks once a second by himself."""
STREAM: Final[dict[str, Any]] = {"x-queue-type": "stream"}
FLEETING: Final[dict[str, Any]] = STREAM | {
    "x-max-age": "2h",
    "x-stream-max-segment-size-bytes": 1_000_000,
}
"""What is older is dropped by and by, a segment at a time."""


def level_of(priority: int, *, returned: bool = False) -> int:
    """Return the level of a message: the higher, the sooner it is claimed."""
    return 2 * priority + returned


class Names:
    """The names of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._prefix = f"{VERSION}/{namespace}"
        self.catalog = f"{self._prefix}/catalog"
        """A stream of what was made for which queue."""
        self.begun = f"{self._prefix}/begun"
        """Holds a message for each entry of the catalog, put there before it."""
        self.version = f"{self._prefix}/version"
        """Holds a message for each entry of the catalog, put there behind it."""
        self.holders = f"{self._prefix}/holders"
        """Never holds anything. Who holds messages consumes from it, and is counted so."""
        self.letters = f"{self._prefix}/letters"
        """Never holds anything. Who looks at dead letters consumes from it, alone."""
        self.workers = f"{self._prefix}/workers"
        """A stream of heartbeats."""
        self.ask = f"{self._prefix}/ask"
        """A fanout exchange to all who hold messages."""
        self.due = f"{self._prefix}/due"
        """A topic exchange, from the last step to the queues of ready messages."""

    @property
    def fixed_queues(self) -> list[str]:
        """The queues of the namespace that do not belong to one of ours."""
        return [
            self.catalog,
            self.begun,
            self.version,
            self.holders,
            self.letters,
            self.workers,
        ]

    @property
    def exchanges(self) -> list[str]:
        return [self.ask, self.due, *(self.step(number) for number in range(STEPS))]

    def ready(self, queue: str, level: int) -> str:
        return f"{self._prefix}/ready/{level}/{queue}"

    def wake(self, queue: str) -> str:
        """Return the queue of tokens that wake who waits for messages."""
        return f"{self._prefix}/wake/{queue}"

    def later(self, queue: str, step: int) -> str:
        """Return the queue in which what is to come later spends this step."""
        return f"{self._prefix}/later/{step}/{queue}"

    def dead(self, queue: str) -> str:
        return f"{self._prefix}/dead/{queue}"

    def lease(self, owner: str) -> str:
        """Return the queue of one client with what it holds for long."""
        return f"{self._prefix}/lease/{owner}"

    def step(self, number: int) -> str:
        """Return the topic exchange before a step; the one behind the last is `due`."""
        return f"{self._prefix}/step/{number}" if number >= 0 else self.due

    def later_arguments(self, step: int) -> dict[str, Any]:
        """Return the arguments of a queue in which a message waits for one step.

        Dead-lettering at least once, which needs the overflow that is named: by
        default a server that dies while messages expire loses a third of them.
        """
        return LASTING | {
            "x-message-ttl": UNIT << step,
            "x-dead-letter-exchange": self.step(step - 1),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


def route(units: int, level: int, queue: str) -> str:
    """Return the routing key of a delay: its binary digits, then where it ends."""
    digits = ".".join(f"{units:0{STEPS}b}")
    return f"{digits}.{level}.{queue}"


def pattern(step: int, digit: int, end: str) -> str:
    """Return the binding key of a step, for the keys with this digit there."""
    words = ["*"] * STEPS
    words[STEPS - 1 - step] = str(digit)
    return f"{'.'.join(words)}.{end}"


def arrival(level: int, queue: str) -> str:
    """Return the binding key of a queue of ready messages at the end of all steps."""
    return f"{'.'.join(['*'] * STEPS)}.{level}.{queue}"


def arrivals(queue: str) -> str:
    """Return the binding key of all levels of a queue at the end of all steps."""
    return f"{'.'.join(['*'] * STEPS)}.*.{queue}"


def units_of(delay: Seconds) -> int:
    """Return how many units a delay lasts at least; 0 if it is none."""
    if delay <= 0:
        return 0
    return min(-(-round(delay * 1_000_000) // (UNIT * 1000)), (1 << STEPS) - 1)
