"""How the kit opens, breaks and restarts the relaxed broker."""

from __future__ import annotations

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.memory.plugin import MemoryPlugin
from taskq.memory.results import MemoryResults
from taskq.memory.target import MemoryTarget
from taskq.plugins import Plugins
from taskq.testing.faults import FaultyResults
from taskq.url import Url
from tests.contract.relaxed import RelaxedBroker
from tests.contract.relaxed_server import RelaxedServer


class _Namespaces(MemoryPlugin):
    """The stores, made of another class."""

    def server(self, url: Url, clock: Clock) -> RelaxedServer:
        found = self._servers.setdefault(url.namespace, RelaxedServer(clock))
        assert isinstance(found, RelaxedServer)
        return found


class RelaxedTarget(MemoryTarget):
    """Opens and cuts relaxed brokers; it may deny all there is to deny."""

    allowed_denials = frozenset(RelaxedBroker.capabilities.__struct_fields__)

    def __init__(self, broker: type[RelaxedBroker] = RelaxedBroker) -> None:
        self._namespaces = _Namespaces()
        self._kind = broker
        super().__init__(Url.parse("memory://"), Plugins(), self._namespaces)
        self.restart_by = self._end_connections
        # In the report it is a backend of its own.
        self.given = Url.parse("relaxed://")

    def new_broker(self, url: Url) -> Broker:
        broker = self._kind(self._namespaces.server(url, self.clock), self.client_clock)
        if self.breakable:
            self.may_break(broker, broker)
        return broker

    def new_results(self, url: Url) -> Results:
        results = MemoryResults(self._namespaces.server(url, self.clock))
        if not self.breakable:
            return results
        faulty = FaultyResults(results)
        self.may_break(faulty, faulty)
        return faulty

    def crash(self, broker: Broker) -> None:
        super().crash(broker)
        assert isinstance(broker, RelaxedBroker)
        broker.cut()

    def _end_connections(self) -> None:
        self._namespaces.server(self.url, self.clock).restarted()
