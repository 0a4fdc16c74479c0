"""Follows every lease from the server's side and the worker's, and says when a rule is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from taskq.contract.delivery import Delivery, State
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.memory.server import Entry
from taskq.testing.stepper import Ran, SteppedSlot

from .lease import Lease, stalled
from .node import Node, Run
from .plan import Verdict, verdict
from .rules import Rule, RuleBroken

if TYPE_CHECKING:
    from .world import World

LONGEST_ON_SHELF: Final = 2.6
"""Seconds for which a worker may hold what it does not start: 1, and two looks at the shelf."""
QUIET: Final = 12.0
"""Seconds after which a worker without trouble has sent a heartbeat."""
TOLERANCE: Final = 1e-6
"""Seconds by which sums of floats may differ."""


class Referee:
    """What is known of every delivery of one simulation, and the rules."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.leases: dict[str, Lease] = {}
        self.known: set[str] = set()
        """The ids that the server has accepted."""
        self.finals: dict[str, Lease | None] = {}
        """The lease that ended a task; None if lost leases did."""
        self.again: set[str] = set()
        """The ids that were accepted once more after their end."""
        self.breach: RuleBroken | None = None
        self.checks: Counter[str] = Counter()
        """How often each rule was put to the test."""

    def check(self, holds: bool, rule: Rule, *what: object) -> None:
        """Note a breach, which ends the simulation even where a worker catches everything."""
        self.checks[rule] += 1
        if not holds and self.breach is None:
            self.breach = RuleBroken(rule, " ".join(map(str, what)))
            raise self.breach

    # -- The server's side

    def accepted(self, id: str) -> None:
        if id in self.finals:
            # A second run of a parent sends its child again; the first one's result guards it.
            guarded = self.world.plans[id].keeps and not self.world.apart
            self.check(not guarded, "what has ended is not accepted again", id)
            del self.finals[id]
            self.again.add(id)
        self.known.add(id)

    def claimed(self, node: Node, deliveries: Sequence[Delivery], lease: float) -> None:
        now = self.world.now
        self.check(
            not (deliveries and node.stopping), "a stopping worker claims nothing", node.name
        )
        for delivery in deliveries:
            self.world.log(node.name, "claimed", delivery.id, f"run {delivery.run}")
            self.leases[delivery.token] = Lease(delivery, node, now, now)

    def extended(self, node: Node, asked: Sequence[Delivery], lost: Sequence[Delivery]) -> None:
        gone = {delivery.token for delivery in lost}
        for delivery in asked:
            if delivery.token not in gone:
                self.leases[delivery.token].granted = self.world.now

    def told(self, node: Node, asked: Sequence[Delivery], lost: Sequence[Delivery]) -> None:
        """Take in the answer that the lease keeper of a worker gets."""
        for delivery in asked:
            self.check(
                not self.leases[delivery.token].told,
                "a lost lease is extended no more",
                node.name,
                delivery.id,
            )
        for delivery in lost:
            lease = self.leases[delivery.token]
            # One that was settled just now is not lost, but no longer there.
            lease.told = lease.lost

    def lost(self, entry: Entry) -> None:
        """Judge a lease that ends without a settlement."""
        lease = self.leases[entry.token]
        node, id = lease.node, entry.message.id
        lease.lost = True
        self.world.log(node.name, "loses", id, f"run {lease.delivery.run}")
        excuse = lease.excuse(self.world.now)
        self.check(excuse is not None, "a lease is lost for a reason only", node.name, id)
        if lease.slot is None:
            self._lost_unstarted(lease)
        elif lease.at_work and not stalled(node, self.world.now, lease.granted, ["fence"]):
            request = lease.slot.request
            self.check(
                request is None or request.lost,
                "a task is told before its lease ends",
                node.name,
                id,
            )
        if entry.losses + 1 >= entry.message.max_deliveries:
            self._end(id, None)

    def _lost_unstarted(self, lease: Lease) -> None:
        """Judge a second loss of a message that did not run."""
        if not lease.delivery.losses or lease.arrived is None or lease.returned or lease.late:
            return
        self.check(
            lease.bad_luck(),
            "what was lost before is started at once, or given back",
            lease.node.name,
            lease.delivery.id,
        )

    def settling(self, settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            self.leases[settlement.delivery.token].returned = True

    def settled(
        self, node: Node, settlements: Sequence[Settlement], lost: Sequence[Delivery]
    ) -> None:
        gone = {delivery.token for delivery in lost}
        for settlement in settlements:
            token = settlement.delivery.token
            self.world.log(
                node.name,
                "lost" if token in gone else "settled",
                settlement.delivery.id,
                type(settlement).__name__,
            )
            if token not in gone:
                # A second settlement of one batch for the same delivery is lost.
                gone.add(token)
                self._conclude(self.leases[token], settlement)

    def _conclude(self, lease: Lease, settlement: Settlement) -> None:
        lease.conclusion = settlement
        node, id = lease.node, lease.delivery.id
        out_of_time = node.stopping and self.world.now >= node.stop_by
        if isinstance(settlement, Release) and (not lease.finished or out_of_time):
            request = lease.slot.request if lease.slot is not None else None
            self.check(
                not lease.at_work or (node.stopping and (request is None or request.lost)),
                "only a worker that ends gives back what runs, and tells it",
                node.name,
                id,
            )
            return
        wanted = lease.wanted
        if wanted is None:
            self.check(False, "nothing is concluded before it has run", node.name, id)
            return
        self._compare(lease, wanted, settlement)
        if isinstance(settlement, Ack | Dead):
            self._end(id, lease)

    def _compare(self, lease: Lease, wanted: Verdict, settlement: Settlement) -> None:
        who = (lease.node.name, lease.delivery.id)
        same = isinstance(settlement, wanted.kind)
        self.check(same, "it is concluded as it ran", *who, settlement, wanted)
        if isinstance(settlement, Dead):
            self.check(settlement.code == wanted.code, "a dead letter says why", *who, settlement)
        if isinstance(settlement, Retry):
            low, high = wanted.delays
            self.check(low <= settlement.delay <= high, "a retry waits as its task says", *who)
        self._result(lease, "the result is stored with its conclusion")

    def _result(self, lease: Lease, rule: Rule) -> None:
        id, wanted = lease.delivery.id, lease.wanted
        if wanted is None or wanted.state is None or id in self.again:
            return
        record = self.world.store.result(id)
        same = record is not None and (record.state, record.run) == (
            wanted.state.value,
            lease.delivery.run,
        )
        self.check(same, rule, lease.node.name, id, record)

    def _end(self, id: str, lease: Lease | None) -> None:
        self.check(id not in self.finals, "a task ends once", id)
        self.finals[id] = lease

    # -- The worker's side

    def arrived(self, node: Node, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.leases[delivery.token].arrived = self.world.now

    def claim_ended(self, node: Node) -> None:
        """Look at the shelf after a claim."""
        if "claim" not in node.stepped.due:
            return
        shelf, options = node.worker.shelf, node.worker.options
        unfinished = shelf.unfinished()
        most = (options.concurrency or 1) * options.prefetch_max
        self.check(len(unfinished) <= most, "no more is held than allowed", node.name)
        suspects = [held for held in unfinished if held.delivery.losses and not held.started]
        self.check(
            len(suspects) <= 1 and (not suspects or shelf.idle > 0),
            "one message with a loss is held, for a free slot",
            node.name,
        )

    def begun(self, node: Node, slot: SteppedSlot) -> None:
        assert slot.held is not None
        delivery = slot.held.delivery
        lease = self.leases[delivery.token]
        lease.slot = slot
        entry = self.world.server.held(delivery)
        self.check(
            entry is not None and entry.lease_until > self.world.now - TOLERANCE,
            "nothing starts without a lease",
            node.name,
            delivery.id,
        )
        self.check(
            slot.request is None or not delivery.expired, "what has expired is not run", delivery.id
        )

    def finished(self, node: Node, run: Run, ran: Ran) -> None:
        lease = self.leases[run.delivery.token]
        lease.finished = True
        plan = self.world.plans[run.delivery.id]
        lease.wanted = verdict(plan, run.delivery, run.outcome)
        if ran.request is not None and ran.request.lost:
            # What was told stays told, even if the lease could be renewed after all.
            excuse = lease.excuse(self.world.now, since=lease.claimed)
            self.check(excuse is not None, "no task is told of a loss without one", plan.id)

    def ended(self, node: Node) -> None:
        """Look at a worker after its farewell."""
        if node.failed_since(node.stopped) or node.worker.death is not None:
            return
        left = [held.delivery.id for held in node.worker.shelf.held()]
        self.check(not left, "a worker that ended holds nothing", node.name, left)
        mine = [
            lease.delivery.id
            for lease in self.leases.values()
            if lease.node is node
            and lease.arrived is not None
            and lease.delivery.id not in self.world.trouble.given_up
            and self.world.server.held(lease.delivery) is not None
        ]
        self.check(not mine, "a worker that ended leaves no lease", node.name, mine)
        listed = [beat.incarnation for _, beat in self.world.server.workers.values()]
        self.check(
            node.worker.incarnation not in listed, "a worker that ended is not listed", node.name
        )

    def watched(self, node: Node) -> None:
        """Look at a worker between any two steps."""
        if node.ended:
            return
        shelf, claiming = node.worker.shelf, "claim" in node.busy
        if node.stopping and not claiming:
            self.check(not shelf.waiting, "a worker that stops holds nothing back", node.name)
        death = node.worker.death
        if death is not None or node.sabotaged is not None:
            told = node.sabotaged is not None and node.sabotaged in (death or "")
            busy = node.sabotaged in node.busy and death is None
            self.check(told or busy, "what dies of a bug is named, and nothing else dies", death)
        if not shelf.waiting or claiming or node.stopping:
            return
        now = self.world.now
        since = min(held.shelved for held in shelf.unfinished() if not held.started)
        if now - since > LONGEST_ON_SHELF:
            self.check(
                node.failed_since(since) or stalled(node, now, since) or node.stalled_claim(since),
                "what does not start is given back",
                node.name,
            )

    def alive(self, nodes: Iterable[Node]) -> None:
        """Look at the list of workers in quiet times."""
        now = self.world.now
        listed = {beat.incarnation for end, beat in self.world.server.workers.values() if end > now}
        for node in nodes:
            if node.ended or node.stopping or node.failed_since(now - QUIET):
                continue
            if node.started < now - QUIET and not stalled(node, now, now - QUIET):
                name = node.worker.incarnation
                self.check(name in listed, "a worker that lives is listed", node.name)

    # -- The end

    def final(self) -> None:
        """Judge what is left when all has ended."""
        for id in sorted(self.known):
            self.check(id in self.finals, "no task is lost", id)
            lease = self.finals[id]
            entry = self.world.server.messages.get(id)
            dead = entry is not None and entry.state is State.DEAD
            if lease is None:
                kept = entry is not None and dead and entry.code == "worker_lost"
            else:
                kept = dead == isinstance(lease.conclusion, Dead)
                self._result(lease, "the result is that of the run that counted")
            self.check(kept, "a dead letter is kept", id)
        for plan in self.world.plans.values():
            if plan.child is not None:
                self._child(plan.id, plan.child.id)

    def _child(self, parent: str, child: str) -> None:
        lease = self.finals.get(parent)
        if lease is not None and isinstance(lease.conclusion, Ack) and not lease.delivery.expired:
            self.check(child in self.known, "what a task sent exists", child)
