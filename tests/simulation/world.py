"""A small world in which a seed decides everything: workers, a server, time, and trouble."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Any, Final

from taskq.clock import VirtualClock
from taskq.contract.delivery import State
from taskq.errors import MaxRetriesExceededError
from taskq.memory.server import Entry
from taskq.plugins import Plugins

from .link import Server, WorldPlugin
from .node import Node, Run
from .plan import AGAIN_IN, Outcome, Plan, Stumble, draw_plans
from .producer import Producer
from .referee import Referee
from .trouble import Trouble

LEASES: Final = (3.0, 6.0, 12.0)
SPAN: Final = 5.0
"""How long there is trouble, in leases."""
ENOUGH: Final = 1000.0
"""Seconds within which all must be done once the trouble is over."""
LONG_AFTER: Final = 1e5
"""Seconds after which results and signs of life have had their time."""
BLINK: Final = 1e-6
"""Seconds that pass at least whenever time moves."""


class FixedClock(VirtualClock):
    """Starts at the same instant in every run, so that sums of floats are the same, too."""

    def __init__(self) -> None:
        super().__init__(frozen=True)
        self._frozen_at = 1_000_000_000.0


class World:
    """One simulation. Make it with a seed, and `run` it once."""

    def __init__(self, seed: int) -> None:
        random = self.random = Random(seed)
        self.clock = FixedClock()
        self.trace: list[tuple[Any, ...]] = []
        self.referee = Referee(self)
        self.server = Server(self.clock, self.referee)
        self.apart = random.random() < 0.3
        """Whether results are stored elsewhere."""
        self.store = Server(self.clock, self.referee) if self.apart else self.server
        self.plugins = Plugins()
        self.plugins.register(WorldPlugin(self))
        self.lease = random.choice(LEASES)
        self.max_deliveries = random.choice((2, 3, 5))
        self.span = self.lease * SPAN
        self.nodes: dict[str, Node] = {}
        self.live: list[Node] = []
        """Those that have not ended."""
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.trouble = Trouble(self)
        self.producer = Producer(self)
        self.plans: dict[str, Plan] = {}
        count = random.choice((3, 6, 10, 14))
        for plan in draw_plans(random, count, self.lease, self.span * 0.7):
            self.plans[plan.id] = plan
            if plan.child is not None:
                self.plans[plan.child.id] = plan.child
            self.later(plan.at, functools.partial(self.producer.send, plan))

    def draw_options(self) -> dict[str, Any]:
        """Return the options of one more worker."""
        random = self.random
        prefetch = random.choice((1, 1, 2))
        return {
            "concurrency": random.choice((1, 2, 3)),
            "prefetch": prefetch,
            "prefetch_max": random.choice((prefetch, 4, 1000)),
            "queue_order": random.choice(("rotate", "strict")),
        }

    # -- What happens

    @property
    def now(self) -> float:
        return self.clock.now()

    def later(self, after: float, event: Callable[[], None]) -> None:
        """Let something happen `after` seconds from now."""
        heapq.heappush(self._agenda, (self.now + after, next(self._order), event))

    def start(self) -> None:
        """Start one more worker."""
        node = Node(self, f"w{len(self.nodes)}")
        self.log(node.name, "starts")
        self.nodes[node.name] = node
        self.live.append(node)
        node.start()

    def run(self) -> None:
        """Let everything happen.

        Raises:
            RuleBroken: a worker did what none may do.
        """
        for _ in range(self.random.randint(1, 3)):
            self.start()
        self.let_pass(self.now + self.span)
        self._calm_down()
        self.let_pass(self.now + ENOUGH, until=self._drained)
        self.referee.check(self._drained(), "all that is due is done", self._left())
        self.referee.alive(self.live)
        for node in list(self.live):
            node.stop(self.lease)
        self.let_pass(self.now + ENOUGH, until=lambda: not self.live)
        assert not self.live, "a worker ends once nothing of it is at work"
        self.referee.final()
        self._clean()

    def _calm_down(self) -> None:
        self.log("world", "is calm")
        self.trouble.over = True
        for node in self.live:
            node.asleep_until = min(node.asleep_until, self.now)
        if not any(node.usable for node in self.live):
            self.start()

    def let_pass(self, end: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass until `end`, or until a condition holds when time would move on."""
        while self.now < end:
            if not self.act(1):
                if until is not None and until():
                    return
                self._advance(end)
            self._watch()
            if self.referee.breach is not None:
                raise self.referee.breach

    def act(self, count: int) -> bool:
        """Let some things happen of those that could happen now; say whether there was one."""
        for _ in range(count):
            now = self.now
            actions = [found for node in self.live for found in node.actions(now)]
            if not actions:
                return False
            self.random.choice(actions)()
        return True

    def _advance(self, end: float) -> None:
        """Move time to the next instant at which something can happen, or a little further."""
        instants = [node.next_instant() for node in self.live]
        if self._agenda:
            instants.append(self._agenda[0][0])
        late = 0.0 if self.trouble.over else self.random.choice((0.0, 0.0, 0.0, 0.02, 0.2))
        target = min(min(instants, default=end) + late, end)
        self.clock.advance(max(0.0, target - self.now) + BLINK)
        while self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()

    def _watch(self) -> None:
        """Stop workers of which a part has died, as their own watch does."""
        self.live = [node for node in self.live if not node.ended]
        for node in self.live:
            self.referee.watched(node)
            if node.worker.death is not None and not node.stopping:
                node.stop(self.lease)

    def play(self, plan: Plan, task: Any, run: Run) -> Any:
        """Be the code of a task."""
        run.outcome = Outcome.RAISED
        if plan.child is not None:
            child = plan.child
            task.app.send_task(child.task, task_id=child.id, queue=child.queue)
        if task.request.retries < plan.stumbles:
            if plan.task == "again":
                run.outcome = Outcome.ASKED
                try:
                    task.retry(countdown=AGAIN_IN)
                except MaxRetriesExceededError:
                    run.outcome = Outcome.RAISED
                    raise
            raise LookupError if plan.task == "allowed" else Stumble
        run.outcome = Outcome.RETURNED
        return object() if plan.task == "odd" else plan.id

    # -- The end

    def _living(self) -> list[Entry]:
        return [e for e in self.server.messages.values() if e.state is not State.DEAD]

    def _drained(self) -> bool:
        return not (self._agenda or any(node.runs for node in self.live) or self._living())

    def _left(self) -> list[str]:
        """Name what is not done."""
        left = [f"{entry.message.id} is {entry.state}" for entry in self._living()]
        left += [f"{node.name} runs" for node in self.live if node.runs]
        return left + [f"{when - self.now:g}: an event" for when, _, _ in self._agenda]

    def _clean(self) -> None:
        """Let everything expire, with the worker's own reaper; nothing is left then."""
        self.clock.advance(LONG_AFTER)
        self.start()
        (node,) = self.live
        for queue in self.server.queues:
            node.worker.app.broker.purge_dead(queue)
        for service in ("reaper", "heartbeat"):
            node.stepped.step(service)
        node.stepped.stop()
        server, store = self.server, self.store
        left = [*server.messages, *server.workers, *store.results]
        self.referee.check(not left, "nothing is left", left)

    # -- The trace

    def log(self, who: str, what: str, *details: object) -> None:
        """Note something that happened."""
        self.trace.append((round(self.clock.offset, 6), who, what, *details))

    def story(self) -> str:
        """Return the trace as text."""
        return "\n".join(
            f"{when:10.3f}  {who:<9} {what:<12} {' '.join(map(str, details))}".rstrip()
            for when, who, what, *details in self.trace
        )
