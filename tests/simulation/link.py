"""The way from a worker to the server: everything is seen, and much of it goes wrong.

The clients are nested: `Link` is what a worker holds and sees what arrives
there; inside it `FaultyBroker` breaks connections; inside that `Eyewitness`
sees what the server really does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from taskq.clock import Clock, Seconds
from taskq.contract.delivery import Delivery, Extension
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Settlement
from taskq.errors import ServerRefused
from taskq.memory.broker import MemoryBroker
from taskq.memory.results import MemoryResults
from taskq.memory.server import Entry, MemoryServer
from taskq.plugins import PluginInfo, hookimpl
from taskq.testing.faults import Fault, FaultyBroker, FaultyResults
from taskq.url import Url

if TYPE_CHECKING:
    from .node import Node
    from .referee import Referee
    from .world import World

Answer = TypeVar("Answer")


class Gone(BaseException):
    """The process that makes this call has died meanwhile."""


class Server(MemoryServer):
    """The memory server; it tells of messages that come, and of leases that end."""

    def __init__(self, clock: Clock, referee: Referee) -> None:
        super().__init__(clock)
        self._referee = referee

    def accept(self, item: Send) -> bool:
        new = super().accept(item)
        if new:
            self._referee.accepted(item.message.id)
        return new

    def lose(self, entry: Entry) -> None:
        self._referee.lost(entry)
        super().lose(entry)


class Eyewitness(MemoryBroker):
    """A client of the server that tells the referee what the server did.

    What happens elsewhere between two moments of a call happens here.
    """

    def __init__(self, server: Server, world: World, node: Node | None) -> None:
        super().__init__(server)
        self._world = world
        self._node = node

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        super().send(items, timeout=timeout)
        if self._node is not None:
            self._world.trouble.after(self._node)

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        assert wait == 0.0, "a stepped worker never waits"
        deliveries = super().reserve(queues, limit=limit, lease=lease)
        if self._node is not None:
            self._world.referee.claimed(self._node, deliveries, lease)
            self._world.trouble.after(self._node)
        return deliveries

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        lost = super().settle(settlements)
        if self._node is not None:
            self._world.referee.settled(self._node, settlements, lost)
            self._world.trouble.after(self._node)
        return lost

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        extension = super().extend(deliveries, lease=lease)
        if self._node is not None:
            self._world.referee.extended(self._node, deliveries, extension.lost)
            self._world.trouble.after(self._node)
        return extension


class Link(FaultyBroker):
    """A worker's client: it breaks as the world wants, and ends with the worker's process."""

    def __init__(self, world: World, node: Node) -> None:
        super().__init__(Eyewitness(world.server, world, node), self._plan)
        self._world = world
        self._node = node

    def _plan(self, name: str) -> Fault | None:
        if self._node.crashed:
            raise Gone
        return self._world.trouble.before(self._node, name)

    def _alive(self, answer: Answer) -> Answer:
        if self._node.crashed:
            raise Gone
        return answer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        self._alive(super().send(items, timeout=timeout))

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        deliveries = super().reserve(queues, limit=limit, lease=lease, wait=wait)
        if not self._node.crashed:
            self._world.referee.arrived(self._node, deliveries)
        return self._alive(deliveries)

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        self._world.referee.settling(settlements)
        if self._world.trouble.refuses(
            self._node, [settlement.delivery.id for settlement in settlements]
        ):
            raise ServerRefused("this message is not to be concluded")
        return self._alive(super().settle(settlements))

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        extension = super().extend(deliveries, lease=lease)
        if self._node.acting == "leases" and not self._node.crashed:
            self._world.referee.told(self._node, deliveries, extension.lost)
        return self._alive(extension)


class ResultsLink(FaultyResults):
    """A worker's client of a result store of its own."""

    def __init__(self, world: World, node: Node) -> None:
        super().__init__(MemoryResults(world.store), self._plan)
        self._world = world
        self._node = node

    def _plan(self, name: str) -> Fault | None:
        if self._node.crashed:
            raise Gone
        return self._world.trouble.before(self._node, name)

    def store(self, records: Sequence[ResultRecord], /) -> None:
        super().store(records)
        self._world.trouble.after(self._node)


class WorldPlugin:
    """`world://<node>`: the clients of one worker; `results://<node>`: results stored apart."""

    def __init__(self, world: World) -> None:
        self._world = world

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name="world", version="0", schemes=("world", "results"))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Any:
        if url.scheme != "world":
            return None
        if url.host == "producer":
            witness = Eyewitness(self._world.server, self._world, None)
            return FaultyBroker(witness, lambda name: self._world.trouble.before(None, name))
        return Link(self._world, self._world.nodes[url.host])

    @hookimpl
    def taskq_open_results(self, url: Url, clock: Clock) -> Any:
        if url.scheme not in ("world", "results"):
            return None
        return ResultsLink(self._world, self._world.nodes[url.host])
