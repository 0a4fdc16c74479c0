"""What each task of a simulation is going to do, and how its deliveries must then be concluded."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from taskq import TaskQ
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.wire.outcome import Status

QUEUES: Final = ("red", "blue")
UNKNOWN_GRACE: Final = 8.0
AGAIN_IN: Final = 0.5

TASKS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "flaky": {"max_retries": 2, "default_retry_delay": 1.0},
    "backoff": {"max_retries": 3, "retry_backoff": 0.5, "retry_backoff_max": 1.5},
    "again": {"max_retries": 3, "autoretry_for": ()},
    "allowed": {"throws": (LookupError,)},
    "mute": {"ignore_result": True, "max_retries": 1, "default_retry_delay": 1.0},
    "odd": {},
    "parent": {"max_retries": 9, "default_retry_delay": 0.5},
}
"""The tasks there are, with what they state about themselves."""
STRANGE: Final = ("nobody", "garbage", "misfit")
"""No task of that name; no envelope; arguments that do not fit."""


class Outcome(enum.Enum):
    """What user code came to."""

    RETURNED = enum.auto()
    RAISED = enum.auto()
    ASKED = enum.auto()
    """It asked to run again."""


class Stumble(Exception):
    """Raised by a task that is to fail."""


@dataclass(slots=True)
class Plan:
    """One task on its way through the simulation. Times are seconds from its start."""

    id: str
    task: str
    at: float
    queue: str
    priority: int = 5
    countdown: float = 0.0
    ttl: float | None = None
    stumbles: int = 0
    """How many runs fail before one succeeds, counted in retries."""
    duration: float = 0.0
    refusals: int = 0
    """How often the server refuses to conclude it."""
    child: Plan | None = None

    @property
    def keeps(self) -> bool:
        """Whether its results are kept."""
        return self.task != "mute"


def draw_plans(random: Random, count: int, lease: float, span: float) -> list[Plan]:
    """Return tasks sent within `span` seconds, in the order of sending."""
    plans = [_draw(random, f"t{number}", lease, span) for number in range(count)]
    return sorted(plans, key=lambda plan: plan.at)


def _draw(random: Random, id: str, lease: float, span: float) -> Plan:
    strange = random.random() < 0.08
    plan = Plan(
        id=id,
        task=random.choice(STRANGE) if strange else random.choice(tuple(TASKS)),
        at=random.uniform(0.0, span),
        queue=random.choice(QUEUES),
        priority=random.choice((0, 5, 5, 5, 9)),
        countdown=random.choice((0.0, 0.0, 0.0, 0.5, 4.0, lease)),
        ttl=random.choice((None, None, None, 1.0, lease)),
    )
    if not strange:
        plan.stumbles = random.choice((0, 0, 0, 1, 2, 5))
        lengths = (0.0, 0.0, 0.0, 0.01, 0.3, lease / 2, lease * 1.5, lease * 3)
        plan.duration = random.choice(lengths)
        plan.refusals = random.choice((0,) * 50 + (1, 2, 6, 1000))
    if plan.task == "parent":
        plan.stumbles = 0
        plan.child = Plan(f"{id}-child", "plain", plan.at, plan.queue)
    return plan


def define_tasks(app: TaskQ, body: Callable[[Any], Any]) -> None:
    """Make the tasks of an application; each runs `body` with itself."""
    for name, options in TASKS.items():
        # Without hints: to learn them costs a tenth of a simulation.
        app.task(bind=True, name=name, **options)(lambda task: body(task))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one delivery is to be concluded."""

    kind: type[Settlement]
    code: str = ""
    """Of a `Dead`."""
    state: Status | None = None
    """Of the result; None where there is none."""
    delays: tuple[float, float] = (0.0, 0.0)
    """Bounds of a retry's delay."""


def verdict(plan: Plan, delivery: Delivery, outcome: Outcome | None) -> Verdict:
    """Return how the worker has to conclude a delivery; `outcome` is None if nothing ran."""
    if delivery.expired:
        return Verdict(Ack, state=Status.REVOKED)
    match plan.task:
        case "nobody":
            first = delivery.first_released
            if first is not None and delivery.claimed - first >= UNKNOWN_GRACE:
                return Verdict(Dead, "unknown_task", Status.FAILURE)
            return Verdict(Release)
        case "garbage":
            return Verdict(Dead, "undecodable", Status.FAILURE)
        case "misfit":
            return Verdict(Dead, "bad_arguments", Status.FAILURE)
    if outcome is None:
        raise AssertionError(f"{plan.id} was concluded though it was not run")
    return _after_run(plan, delivery.retries, outcome)


def _after_run(plan: Plan, retries: int, outcome: Outcome) -> Verdict:
    failure = Status.FAILURE if plan.keeps else None
    if outcome is Outcome.RETURNED:
        if plan.task == "odd":
            return Verdict(Dead, "failed", Status.FAILURE)
        return Verdict(Ack, state=Status.SUCCESS if plan.keeps else None)
    if plan.task == "allowed":
        return Verdict(Ack, state=failure)
    limit = TASKS[plan.task].get("max_retries")
    if limit is None:
        return Verdict(Dead, "failed", failure)
    if retries >= limit:
        return Verdict(Dead, "retries_exhausted", failure)
    state = Status.RETRY if plan.keeps else None
    return Verdict(Retry, state=state, delays=_delays(plan, retries, outcome))


def _delays(plan: Plan, retries: int, outcome: Outcome) -> tuple[float, float]:
    options = TASKS[plan.task]
    if outcome is Outcome.ASKED:
        return AGAIN_IN, AGAIN_IN
    if "retry_backoff" in options:
        bound = min(options["retry_backoff"] * 2.0**retries, options["retry_backoff_max"])
        return 0.0, bound
    return options["default_retry_delay"], options["default_retry_delay"]
