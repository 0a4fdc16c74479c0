"""What the machine may do: settings, and how arguments are drawn.

Time moves in multiples of 7 s, and no lease, delay or backoff is one, so that
an instant seldom falls so near to another that nobody can tell their order.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from taskq.contract.delivery import State

QUEUES: Final = ("a", "b", "c")
CLIENTS: Final = 3
_EXAMPLES: Final = {"smoke": (20, 20), "default": (100, 30), "soak": (2000, 60)}

leases = st.sampled_from([10.0, 31.0, 60.0])
delays = st.sampled_from([0.0, 20.0, 53.0])
ttls = st.sampled_from([30.0, 300.0])
priorities = st.sampled_from([5, 5, 0, 9])
picks = st.integers(0, 11)
queues = st.sampled_from(QUEUES[:2]) | st.sampled_from(QUEUES)
orders = st.lists(st.sampled_from(QUEUES), min_size=1, max_size=2, unique=True)
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
)
settlements = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["ack", "ack", "retry", "release", "dead"]),
        "pick": picks,
        "delay": delays,
        "ttl": st.none() | ttls,
        "changed": st.booleans(),
        "successors": st.sampled_from([0, 0, 1, 2]),
    }
)

clients = st.integers(0, CLIENTS - 1)
pages = st.sampled_from([1, 2, 100])
states = st.sets(st.sampled_from([State.READY, State.SCHEDULED]), min_size=1)
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
