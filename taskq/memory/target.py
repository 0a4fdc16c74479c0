"""How the conformance kit opens and empties the in-memory backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskq.clock import VirtualClock
from taskq.plugins import Plugins
from taskq.testing.target import UrlTarget
from taskq.url import Url

if TYPE_CHECKING:
    from taskq.memory.plugin import MemoryPlugin


class MemoryTarget(UrlTarget):
    """Frozen time, one store per example."""

    def __init__(self, url: Url, plugins: Plugins, plugin: MemoryPlugin) -> None:
        super().__init__(url, plugins)
        self._plugin = plugin

    def new_clock(self) -> VirtualClock:
        return VirtualClock(frozen=True)

    def footprint(self) -> list[str]:
        server = self._plugin.server(self.url, self.clock)
        return [*server.messages, *server.results, *server.workers]

    def wipe(self) -> None:
        self._plugin.drop(self.url.namespace)
