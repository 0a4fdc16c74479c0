"""A right broker whose plugin keeps no results.

It stands for servers that are good at queues alone, whose users name another
URL for results. It is the in-memory broker, and ignores what a settlement says
of results.
"""

from __future__ import annotations

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.results import ResultRecord
from taskq.memory.broker import MemoryBroker
from taskq.memory.plugin import MemoryPlugin
from taskq.memory.server import MemoryServer
from taskq.memory.target import MemoryTarget
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url

URL = Url.parse("resultless://")


class ResultlessServer(MemoryServer):
    """A store without a place for results."""

    def keep_result(self, record: ResultRecord) -> None:
        """Ignore it."""


class _Namespaces(MemoryPlugin):
    """The stores, made of another class."""

    def __init__(self, kind: type[MemoryServer]) -> None:
        super().__init__()
        self._kind = kind

    def server(self, url: Url, clock: Clock) -> MemoryServer:
        return self._servers.setdefault(url.namespace, self._kind(clock))


class ResultlessPlugin:
    """A plugin that has no hook for results."""

    def __init__(self, kind: type[MemoryServer] = ResultlessServer) -> None:
        self._namespaces = _Namespaces(kind)

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name="resultless", version="0", schemes=(URL.scheme,))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        return MemoryBroker(self._namespaces.server(url, clock))

    @hookimpl
    def taskq_target(self, url: Url, plugins: Plugins) -> MemoryTarget | None:
        return MemoryTarget(url, plugins, self._namespaces)


def resultless(kind: type[MemoryServer] = ResultlessServer) -> MemoryTarget:
    """Return the target of such a broker."""
    plugins = Plugins()
    plugins.register(ResultlessPlugin(kind))
    target: MemoryTarget = plugins.target(URL)
    return target
