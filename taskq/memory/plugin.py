"""The hooks of the in-memory backend, and the namespaces it keeps.

They belong to the plugin object, hence to one application: two applications
in one process with the same URL do not share messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskq.clock import Clock
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url

if TYPE_CHECKING:
    from taskq.contract.broker import Broker
    from taskq.contract.results import Results
    from taskq.contract.transaction import Transactions
    from taskq.memory.server import MemoryServer
    from taskq.testing.target import Target


class MemoryPlugin:
    """`memory://`, one store per namespace."""

    def __init__(self) -> None:
        self._servers: dict[str, MemoryServer] = {}

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name="memory", version="built in", schemes=("memory",))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        if url.scheme != "memory":
            return None
        from taskq.memory.broker import MemoryBroker

        return MemoryBroker(self.server(url, clock))

    @hookimpl
    def taskq_open_results(self, url: Url, clock: Clock) -> Results | None:
        if url.scheme != "memory":
            return None
        from taskq.memory.results import MemoryResults

        return MemoryResults(self.server(url, clock))

    @hookimpl
    def taskq_open_transactions(self, url: Url, clock: Clock) -> Transactions | None:
        if url.scheme != "memory":
            return None
        from taskq.memory.broker import MemoryBroker
        from taskq.memory.transactions import MemoryTransactions

        return MemoryTransactions(MemoryBroker(self.server(url, clock)))

    @hookimpl
    def taskq_target(self, url: Url, plugins: Plugins) -> Target | None:
        if url.scheme != "memory":
            return None
        from taskq.memory.target import MemoryTarget

        return MemoryTarget(url, plugins, self)

    def server(self, url: Url, clock: Clock) -> MemoryServer:
        """Return the namespace's store, making it if it is new."""
        from taskq.memory.server import MemoryServer

        url.options()
        return self._servers.setdefault(url.namespace, MemoryServer(clock))

    def drop(self, namespace: str) -> None:
        """Forget a namespace."""
        self._servers.pop(namespace, None)
