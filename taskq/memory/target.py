"""How the conformance kit opens, breaks and empties the in-memory backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskq.clock import VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.plugins import Plugins
from taskq.testing.faults import Fault, FaultyBroker, FaultyResults
from taskq.testing.target import UrlTarget
from taskq.url import Url

if TYPE_CHECKING:
    from taskq.memory.plugin import MemoryPlugin


class MemoryTarget(UrlTarget):
    """Frozen time, one store per example, connections that break only in the imagination."""

    def __init__(self, url: Url, plugins: Plugins, plugin: MemoryPlugin) -> None:
        super().__init__(url, plugins)
        self._plugin = plugin

    @property
    def faults(self) -> frozenset[Fault]:
        return frozenset(Fault)

    def new_clock(self) -> VirtualClock:
        return VirtualClock(frozen=True)

    def new_broker(self, url: Url) -> Broker:
        broker = super().new_broker(url)
        if not self.breakable:
            return broker
        faulty = FaultyBroker(broker)
        self.may_break(faulty, faulty)
        return faulty

    def new_results(self, url: Url) -> Results:
        results = super().new_results(url)
        if not self.breakable:
            return results
        faulty = FaultyResults(results)
        self.may_break(faulty, faulty)
        return faulty

    def footprint(self) -> list[str]:
        server = self._plugin.server(self.url, self.clock)
        return [*server.messages, *server.results, *server.workers]

    def wipe(self) -> None:
        self._plugin.drop(self.url.namespace)
