"""The in-memory backend with one of its classes replaced by a broken one."""

from __future__ import annotations

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.memory.broker import MemoryBroker
from taskq.memory.plugin import MemoryPlugin
from taskq.memory.results import MemoryResults
from taskq.memory.server import MemoryServer
from taskq.memory.target import MemoryTarget
from taskq.plugins import Plugins
from taskq.url import Url


class MutantTarget(MemoryTarget):
    """The in-memory backend with one class of it replaced by a broken one."""

    def __init__(self, broken: type) -> None:
        self._plugin_of_mutant = _MutantPlugin(broken)
        super().__init__(Url.parse("memory://"), Plugins(), self._plugin_of_mutant)

    def open(self) -> Broker:
        broker = self._plugin_of_mutant.broker(self.url, self.clock)
        self._brokers.append(broker)
        return broker

    def open_results(self) -> Results:
        results = self._plugin_of_mutant.results(self.url, self.clock)
        self._results.append(results)
        return results


class _MutantPlugin(MemoryPlugin):
    def __init__(self, broken: type) -> None:
        super().__init__()
        self._broken = broken

    def _pick(self, kind: type) -> type:
        return self._broken if issubclass(self._broken, kind) else kind

    def server(self, url: Url, clock: Clock) -> MemoryServer:
        found = self._servers.get(url.namespace)
        if found is None:
            found = self._servers[url.namespace] = self._pick(MemoryServer)(clock)
        return found

    def broker(self, url: Url, clock: Clock) -> Broker:
        broker: Broker = self._pick(MemoryBroker)(self.server(url, clock))
        return broker

    def results(self, url: Url, clock: Clock) -> Results:
        results: Results = self._pick(MemoryResults)(self.server(url, clock))
        return results
