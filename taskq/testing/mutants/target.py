"""The in-memory backend with one of its classes replaced by a broken one."""

from __future__ import annotations

from typing import Final

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.memory.broker import MemoryBroker
from taskq.memory.plugin import MemoryPlugin
from taskq.memory.results import MemoryResults
from taskq.memory.server import MemoryServer
from taskq.memory.target import MemoryTarget
from taskq.plugins import Plugins
from taskq.testing.faults import FaultyBroker, FaultyResults
from taskq.url import Url


class MutantTarget(MemoryTarget):
    """The in-memory backend with one class of it replaced by a broken one.

    Its server can be restarted, which does nothing, unless the broken one has
    a method `restarted`.
    """

    def __init__(self, broken: type) -> None:
        self._parts: Final = _Parts(broken)
        super().__init__(Url.parse("memory://"), Plugins(), self._parts)
        self.restart_by = self._restart

    def new_broker(self, url: Url) -> Broker:
        broker = self._parts.broker(url, self.client_clock)
        if not self.breakable:
            return broker
        faulty: FaultyBroker = self._parts.pick(FaultyBroker)(broker)
        self.may_break(faulty, faulty)
        return faulty

    def new_results(self, url: Url) -> Results:
        results = self._parts.results(url, self.clock)
        if not self.breakable:
            return results
        faulty: FaultyResults = self._parts.pick(FaultyResults)(results)
        self.may_break(faulty, faulty)
        return faulty

    def _restart(self) -> None:
        restarted = getattr(self._parts.server(self.url, self.clock), "restarted", None)
        if restarted is not None:
            restarted()


class _Parts(MemoryPlugin):
    """Makes the parts of the backend, one of them broken."""

    def __init__(self, broken: type) -> None:
        super().__init__()
        self._broken = broken

    def pick(self, kind: type) -> type:
        """Return the broken class if it is of this kind, else the right one."""
        return self._broken if issubclass(self._broken, kind) else kind

    def server(self, url: Url, clock: Clock) -> MemoryServer:
        found = self._servers.get(url.namespace)
        if found is None:
            found = self._servers[url.namespace] = self.pick(MemoryServer)(clock)
        return found

    def broker(self, url: Url, clock: Clock) -> Broker:
        broker: Broker = self.pick(MemoryBroker)(self.server(url, clock))
        return broker

    def results(self, url: Url, clock: Clock) -> Results:
        results: Results = self.pick(MemoryResults)(self.server(url, clock))
        return results
