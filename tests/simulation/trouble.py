"""What goes wrong in a simulation, and when: calls, processes, the server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from taskq.errors import ServerRefused
from taskq.testing.faults import Fault

if TYPE_CHECKING:
    from .node import Node
    from .world import World

DEEPEST: Final = 3
"""How many calls may be under way within each other."""
GIVES_UP: Final = 5
"""Refusals after which a worker leaves a lease to end."""
SABOTAGED: Final = ("reserve", "settle", "extend", "send_heartbeat", "poll_schedule")


class Trouble:
    """Draws the troubles of one world. How much there is of each kind is drawn first."""

    def __init__(self, world: World) -> None:
        random = self.random = world.random
        self.world = world
        self.over = False
        self.given_up: set[str] = set()
        """The ids whose conclusion the server has refused so often that a worker gives up."""
        self._depth = 0
        self._refusals: dict[str, int] = {}
        self._outages: list[tuple[float, float, str]] = []
        self._fault_rate = random.choice((0.0, 0.0, 0.02, 0.1))
        self._refusal_rate = random.choice((0.0, 0.0, 0.0, 0.03))
        self._delay_rate = random.choice((0.0, 0.0, 0.02, 0.05))
        self._mix_rate = random.choice((0.0, 0.1, 0.4))
        self._midway_rate = random.choice((0.0, 0.0, 0.02, 0.1))
        midway = (self._crash, self._stop, self._freeze)
        kinds = (*midway, self._start, self._outage, self._sabotage)
        chosen = random.sample(kinds, random.randint(0, 4))
        self._midway = [kind for kind in chosen if kind in midway]
        for _ in range(random.choice((1, 2, 4, 6)) if chosen else 0):
            kind = random.choice(chosen)
            world.later(random.uniform(0.0, world.span), functools.partial(kind, None))

    # -- With a call

    def before(self, node: Node | None, name: str) -> Fault | None:
        """Decide what goes wrong with a call that is about to be made; None is the producer's."""
        if self.over:
            return None
        if node is not None:
            if self._often(self._delay_rate):
                self._hang(node, name)
            if name == node.sabotage:
                self._spring(node, name)
        fault = self._drawn_fault(node, name)
        if fault is not None and node is not None:
            self._fail(node, name, fault.value)
        return fault

    def after(self, node: Node) -> None:
        """Let other things happen before the answer to a call arrives."""
        if not self.over:
            if self._often(self._delay_rate):
                self._hang(node, "answer")
            if self._midway and self.random.random() < self._midway_rate:
                self.random.choice(self._midway)(node)
        if self._often(self._mix_rate):
            self._within(lambda: self.world.act(self.random.randint(1, 4)))

    def _often(self, rate: float) -> bool:
        return self._depth < DEEPEST and self.random.random() < rate

    def _within(self, happens: Callable[[], object]) -> None:
        """Let something happen in the middle of a call."""
        self._depth += 1
        try:
            happens()
        finally:
            self._depth -= 1

    def _hang(self, node: Node, name: str) -> None:
        """Let time pass on the way of a call or its answer; everything else goes on."""
        lease = self.world.lease
        length = self.random.choice((0.05, 0.5, lease / 4, lease * 1.2))
        self.world.log(node.name, name, f"hangs for {length:g} s")
        self._within(lambda: self.world.let_pass(self.world.now + length))

    def _fail(self, node: Node, name: str, *details: str) -> None:
        node.failures.append((self.world.now, name))
        self.world.log(node.name, name, *details)

    def _drawn_fault(self, node: Node | None, name: str) -> Fault | None:
        random, now = self.random, self.world.now
        who = "producer" if node is None else node.name
        if any(since <= now < until and whom in ("", who) for since, until, whom in self._outages):
            return Fault.BEFORE
        if random.random() < self._fault_rate:
            return random.choice(tuple(Fault))
        if node is not None and name != "send" and random.random() < self._refusal_rate:
            self._fail(node, name, "refused")
            raise ServerRefused("not now")
        return None

    def refuses(self, node: Node, ids: list[str]) -> bool:
        """Say whether the server refuses to conclude one of these tasks."""
        for id in ids:
            seen = self._refusals.get(id, 0) + 1
            if seen <= self.world.plans[id].refusals:
                self._refusals[id] = seen
                self._fail(node, "settle", id, "refused")
                if seen >= GIVES_UP:
                    self.given_up.add(id)
                return True
        return False

    # -- With a process

    def _choose(self, node: Node | None) -> Node | None:
        """Return the node meant, else any that is at work."""
        alive = [one for one in self.world.live if one.usable]
        if node is None and alive:
            return self.random.choice(alive)
        return node if node in alive else None

    def _start(self, node: Node | None = None) -> None:
        self.world.start()

    def _replace(self) -> None:
        if self.random.random() < 0.7:
            self.world.later(self.random.uniform(0.1, self.world.lease), self.world.start)

    def _crash(self, node: Node | None) -> None:
        if (chosen := self._choose(node)) is not None:
            chosen.crash()
            self._replace()

    def _stop(self, node: Node | None) -> None:
        if (chosen := self._choose(node)) is not None:
            chosen.stop(self.random.choice((0.0, 1.0, self.world.lease * 2)))
            self._replace()

    def _freeze(self, node: Node | None) -> None:
        if (chosen := self._choose(node)) is not None:
            chosen.freeze(self.random.choice((0.3, 0.6, 1.2, 2.5)) * self.world.lease)

    def _sabotage(self, node: Node | None) -> None:
        if (chosen := self._choose(node)) is not None:
            chosen.sabotage = self.random.choice(SABOTAGED)

    def _spring(self, node: Node, name: str) -> None:
        node.sabotage = ""
        node.sabotaged = node.acting
        self.world.log(node.name, name, "dies of a bug")
        raise RuntimeError("a bug")

    # -- With the server

    def _outage(self, node: Node | None) -> None:
        whom = self.random.choice(["", *self.world.nodes])
        length = self.random.choice((0.2, 0.5, 1.5)) * self.world.lease
        self.world.log(whom or "server", "is out of reach", f"for {length:g} s")
        self._outages.append((self.world.now, self.world.now + length, whom))
