"""What the machine may do: settings, and how arguments are drawn.

Time moves in multiples of 7 s, and no lease, delay or backoff is one, so that
an instant seldom falls so near to another that nobody can tell their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

QUEUES: Final = ("a", "b", "c")
CLIENTS: Final = 3
_EXAMPLES: Final = {"smoke": (20, 20), "default": (100, 30), "soak": (2000, 60)}

leases = st.sampled_from([10.0, 31.0, 60.0])
delays = st.sampled_from([0.0, 20.0, 53.0])
ttls = st.sampled_from([30.0, 300.0])
priorities = st.sampled_from([5, 5, 0, 9])
picks = st.integers(0, 11)
several = st.lists(picks, min_size=1, max_size=3, unique=True)
queues = st.sampled_from(QUEUES[:2]) | st.sampled_from(QUEUES)
orders = st.lists(st.sampled_from(QUEUES), min_size=1, max_size=2, unique=True)

ITEM: Final[dict[str, Any]] = {
    "again": None,
    "queue": "a",
    "priority": 5,
    "max_deliveries": 5,
    "delay": 0.0,
    "eta": None,
    "life": None,
    "absolute": False,
}
SETTLEMENT: Final[dict[str, Any]] = {
    "kind": "ack",
    "pick": 0,
    "delay": 0.0,
    "ttl": None,
    "changed": False,
    "successors": 0,
    "priority": 5,
}


def _unlike(plain: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Leave out what is as usual, so that a written trace is short."""
    return lambda drawn: {key: value for key, value in drawn.items() if value != plain[key]}


items = st.fixed_dictionaries(
    {
        "again": st.none() | st.none() | picks,
        "queue": queues,
        "priority": priorities,
        "max_deliveries": st.sampled_from([5, 2, 3]),
        "delay": st.sampled_from([0.0, 0.0, 20.0, 53.0]),
        "eta": st.sampled_from([None, None, None, -5.0, 20.0]),
        "life": st.sampled_from([None, None, 12.0, 40.0]),
        "absolute": st.booleans(),
    }
).map(_unlike(ITEM))
settlements = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["ack", "retry", "retry", "release", "dead"]),
        "pick": picks,
        "delay": delays,
        "ttl": st.none() | ttls,
        "changed": st.sampled_from([False, True, True]),
        "successors": st.sampled_from([0, 0, 1, 2]),
        "priority": priorities,
    }
).map(_unlike(SETTLEMENT))

clients = st.integers(0, CLIENTS - 1)
operations = st.sampled_from(
    ["requeue", "drop", "expire", "purge ready", "purge scheduled", "purge ready scheduled"]
)
states = st.sampled_from([["ready"], ["scheduled"], ["ready", "scheduled"]])
steps = st.sampled_from([7.0, 14.0, 35.0, 70.0, 210.0])


def profile(name: str, **changes: Any) -> settings:
    """Return the settings called smoke, default or soak, with changes."""
    examples, steps = _EXAMPLES[name]
    chosen: dict[str, Any] = {
        "max_examples": examples,
        "stateful_step_count": steps,
        "deadline": None,
        "print_blob": True,
        "suppress_health_check": list(HealthCheck),
    }
    return settings(**(chosen | changes))
