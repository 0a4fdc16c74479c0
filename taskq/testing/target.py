"""How the conformance kit opens, breaks and empties one kind of backend.

`UrlTarget` does everything that can be done through the contract. A backend's
`target.py` subclasses it and adds what only it can know: how to count what is
left in a namespace, and how to wipe it.
"""

from __future__ import annotations

from typing import Protocol

from taskq.clock import VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.results import Results
from taskq.ids import new_id
from taskq.plugins import Plugins
from taskq.url import Url


class Target(Protocol):
    """One backend, as the kit sees it. Used by one thread at a time."""

    url: Url

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        ...

    @property
    def allowed_denials(self) -> frozenset[str]:
        """The capabilities the backend is known to lack. Empty unless stated."""
        ...

    def begin(self) -> VirtualClock:
        """Start an example in a new, empty namespace; return the clock that moves it."""
        ...

    def open(self) -> Broker:
        """Open one more independent client of the present namespace."""
        ...

    def unreachable(self) -> Broker | None:
        """Open a client whose server does not answer; None if there is no way to cut."""
        ...

    def open_results(self) -> Results:
        """Open one more client of the results that share the broker's store."""
        ...

    def crash(self, broker: Broker) -> None:
        """Let a client die without saying goodbye: no release, no close."""
        ...

    def footprint(self) -> list[str]:
        """Name what is left in the namespace, less the documented fixed objects."""
        ...

    def end(self) -> None:
        """Close every client of the example and remove its namespace."""
        ...


class UrlTarget:
    """A target made of a URL and an installed plugin. Subclass it for the rest."""

    allowed_denials: frozenset[str] = frozenset()

    def __init__(self, url: str | Url, plugins: Plugins | None = None) -> None:
        self.url = Url.parse(url)
        self.plugins = plugins or Plugins()
        self.clock = VirtualClock()
        self._brokers: list[Broker] = []
        self._results: list[Results] = []

    @property
    def capabilities(self) -> Capabilities:
        broker = self.plugins.open_broker(self.url)
        try:
            return broker.capabilities
        finally:
            broker.close()

    def begin(self) -> VirtualClock:
        self.url = self.url.replace(namespace=f"kit-{new_id()}")
        self.clock = self.new_clock()
        return self.clock

    def new_clock(self) -> VirtualClock:
        """Make the clock of an example. Override where real time can be stopped."""
        return VirtualClock()

    def open(self) -> Broker:
        broker = self.plugins.open_broker(self.url, clock=self.clock)
        self._brokers.append(broker)
        return broker

    def unreachable(self) -> Broker | None:
        """Open a client of a port where nobody listens; None if the URL has no host."""
        if not self.url.host:
            return None
        return self.plugins.open_broker(
            self.url.replace(host="127.0.0.1", port=1), clock=self.clock
        )

    def open_results(self) -> Results:
        results = self.plugins.open_results(self.url, clock=self.clock)
        self._results.append(results)
        return results

    def crash(self, broker: Broker) -> None:
        """Forget the client. Override to cut its connections too."""
        self._brokers.remove(broker)

    def footprint(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} must say how to count what is left")

    def wipe(self) -> None:
        """Remove the namespace from the server."""
        raise NotImplementedError(f"{type(self).__name__} must say how to wipe a namespace")

    def end(self) -> None:
        clients: list[Broker | Results] = [*self._brokers, *self._results]
        for client in clients:
            client.close()
        self._brokers.clear()
        self._results.clear()
        self.wipe()
