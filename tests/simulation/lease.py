"""One delivery, as the server and its worker saw it, and what excuses its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Settlement
from taskq.testing.stepper import SteppedSlot

from .node import KEEPERS, SLACK, Node
from .plan import Verdict

AT_ONCE: Final = 0.05
"""Seconds within which a worker starts what it may not hold unstarted."""
FAILURES: Final = 2
"""Calls of the lease keeper that fail, one after the other, before a lease may be lost."""


@dataclass(slots=True, eq=False)
class Lease:
    """One delivery. Instants are those of the simulation's clock."""

    delivery: Delivery
    node: Node
    claimed: float
    granted: float
    """When it was claimed or last extended."""
    arrived: float | None = None
    """When its worker heard of it."""
    slot: SteppedSlot | None = None
    """Where it began to run."""
    finished: bool = False
    wanted: Verdict | None = None
    """How it has to be concluded."""
    returned: bool = False
    """Its worker has tried to give it back, or to conclude it."""
    conclusion: Settlement | None = None
    """How it was, at the server."""
    lost: bool = False
    told: bool = False
    """Its worker's lease keeper has heard that it is lost."""

    @property
    def at_work(self) -> bool:
        """Whether a slot is at work on it."""
        slot = self.slot
        if slot is None or self.finished or self.node.ended or slot.held is None:
            return False
        return slot.held.delivery is self.delivery

    @property
    def late(self) -> bool:
        """Whether the answer to the claim took long."""
        return (self.arrived or 0.0) - self.claimed > self.node.lease * SLACK

    def excuse(self, now: float, since: float | None = None) -> str | None:
        """Return why it may be lost, or its run told so; None if nothing explains it."""
        node = self.node
        since = self.granted if since is None else since
        if node.crashed:
            return "the worker crashed"
        if node.worker.death is not None:
            return "a part of the worker died"
        if self.arrived is None:
            return "the answer to the claim was lost"
        if node.stopping and (node.failed_since(node.stopped) or now >= node.stop_by):
            return "the worker was out of time, or could not say goodbye"
        if self.late and self.granted == self.claimed:
            return "the answer to the claim was late"
        if stalled(node, now, since):
            return "the worker was frozen"
        if sum(when >= since for when, name in node.failures if name == "extend") >= FAILURES:
            return "the broker was out of reach"
        if self.delivery.id in node.world.trouble.given_up:
            return "the server refused its conclusion"
        return None

    def bad_luck(self) -> bool:
        """Say whether something kept the worker from starting it at once, or giving it back."""
        assert self.arrived is not None
        node, until = self.node, self.arrived + AT_ONCE
        if node.crashed_at <= until or node.asleep_until > until or node.worker.death is not None:
            return True
        # It may not start while the claim that brought it waits for an answer to the
        # release of its neighbours: one of them may be what kills workers.
        if "claim" in node.busy and node.claiming_since <= self.arrived:
            return True
        return any(since <= until for since, _ in node.stalls["leases"])


def stalled(node: Node, now: float, since: float, names: Sequence[str] = KEEPERS) -> bool:
    """Say whether one of these parts of a worker was kept from its work since an instant."""
    if any(until >= since for name in names for _, until in node.stalls[name]):
        return True
    slack = node.lease * SLACK
    late = any(now - node.stepped.due.get(name, now) > slack for name in names)
    return late or node.asleep_until > now
