"""How the conformance kit opens, breaks and empties one kind of backend.

`UrlTarget` does everything that can be done through the contract. A backend's
`target.py` subclasses it and adds what only it can know: how to count what is
left in a namespace, and how to wipe it.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, Protocol, TypeAlias, TypeVar

from taskq.clock import Clock, Seconds, Timestamp, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.results import Results
from taskq.errors import BrokerError, ImproperlyConfigured
from taskq.ids import new_id
from taskq.plugins import Plugins
from taskq.testing.faults import Breakable, Fault
from taskq.testing.proxy import Port, Proxy
from taskq.url import Url

RESTART_LIMIT: Final[Seconds] = 30.0
"""How long a restart may take: the command, and as long again until the server answers."""
_LOOK: Final[Seconds] = 0.02
PREFIX: Final = "kit-"
"""How the names of the kit's namespaces begin."""

Restart: TypeAlias = Callable[[], object] | str | Sequence[str]
"""Restarts the server with its data: a function, or a command (split as a shell would,
if it is one string). It ends when the old server is gone, at the earliest."""

Client = TypeVar("Client", Broker, Results)


class Target(Protocol):
    """One backend, as the kit sees it. Used by one thread at a time."""

    url: Url
    """Of the present example: it names a namespace of its own."""

    @property
    def given(self) -> Url:
        """The URL that the target was made of."""
        ...

    @property
    def server(self) -> str:
        """The server's name and version, for the report. Empty unless stated."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        ...

    @property
    def allowed_denials(self) -> frozenset[str]:
        """The capabilities the backend is known to lack. Empty unless stated."""
        ...

    @property
    def faults(self) -> frozenset[Fault]:
        """The ways in which `break_next` can break. Empty unless stated."""
        ...

    @property
    def restarts(self) -> bool:
        """Whether `restart` works."""
        ...

    def begin(self, *, breakable: bool = False) -> VirtualClock:
        """Start an example in a new, empty namespace; return the clock that moves it.

        Only the clients of a `breakable` example can be broken.
        """
        ...

    def open(self, *, skew: Seconds = 0.0) -> Broker:
        """Open one more independent client of the present namespace.

        Its own clock is ahead of the others' by `skew` seconds.
        """
        ...

    def unreachable(self) -> Broker | None:
        """Open a client whose server does not answer; None if there is no way to cut."""
        ...

    def open_results(self) -> Results:
        """Open one more client of the results that share the broker's store.

        Raises:
            UnknownScheme: the backend keeps none.
        """
        ...

    def crash(self, broker: Broker) -> None:
        """Let a client die without saying goodbye: no release, no close.

        Return when the server has noticed, if it takes notice of connections.
        """
        ...

    def break_next(self, client: Broker | Results, fault: Fault, *, skip: int = 0) -> None:
        """Break the client's next exchange with the server, or the `skip`-th after it.

        Raises:
            ValueError: `faults` does not name this one, or the client's example
                was not begun as breakable.
        """
        ...

    def heal(self) -> None:
        """Disarm whatever was armed, for any client, and has not happened."""
        ...

    def calm(self) -> None:
        """Return when the server has noticed which connections were broken.

        It may hear of it later than the client, and only then give back what was held.
        """
        ...

    def restart(self) -> None:
        """Restart the server with its data; return when it answers again.

        Connections of the clients are lost; the clients are not.

        Raises:
            ImproperlyConfigured: it does not work, or the server does not come back.
        """
        ...

    def footprint(self) -> list[str]:
        """Name what is in the namespace, less the documented fixed objects.

        It has to find what is there, or law L27 is never put to the test. May
        be called after `end`, of the namespace that was removed.
        """
        ...

    def end(self) -> None:
        """Close every client of the example and remove its namespace. May be called twice."""
        ...


class SkewedClock:
    """The clock of a machine that is set wrong; what a server says the time is stays right."""

    def __init__(self, right: Clock, skew: Seconds) -> None:
        self._right = right
        self._skew = skew

    @property
    def offset(self) -> Seconds:
        return self._right.offset

    def now(self) -> Timestamp:
        return self._right.now() + self._skew


class UrlTarget:
    """A target made of a URL and an installed plugin. Subclass it for the rest.

    Where the URL names a host and a port (see `address`), the clients of a
    breakable example reach the server through a proxy, which can break their
    connections. The way through it costs 20 to 40 µs per exchange.

    `restart` is how to restart the server with its data; without it `restarts`
    is False. It may be set later, as `restart_by`.
    """

    allowed_denials: frozenset[str] = frozenset()
    processes: bool = False
    """Whether other processes reach the same store by `url`. Many clients at once are
    then spread over several processes."""

    def __init__(
        self, url: str | Url, plugins: Plugins | None = None, *, restart: Restart | None = None
    ) -> None:
        self.given = self.url = Url.parse(url)
        self.plugins = plugins or Plugins()
        self.clock = VirtualClock()
        self.client_clock: Clock = self.clock
        """The clock of the clients that are made now."""
        self.breakable = False
        """Whether clients opened now can be broken."""
        self.restart_by = restart
        self._proxy: Proxy | None = None
        self._brokers: list[Broker] = []
        self._results: list[Results] = []
        self._ways: dict[int, Breakable] = {}

    @property
    def server(self) -> str:
        return ""

    @cached_property
    def capabilities(self) -> Capabilities:
        broker = self.new_broker(self.url)
        try:
            return broker.capabilities
        finally:
            broker.close()

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server listens, if a proxy may stand in front of it.

        Override it where the URL may leave the port out. Return None for a
        connection over TLS: a certificate names the server and not the proxy,
        so that no client which checks it would get through.
        """
        if not self.url.host or self.url.port is None:
            return None
        return self.url.host, self.url.port

    @property
    def faults(self) -> frozenset[Fault]:
        """All of them where there is an `address`, else none. Override it to break otherwise."""
        return frozenset(Fault) if self.address else frozenset()

    @property
    def restarts(self) -> bool:
        return self.restart_by is not None

    def begin(self, *, breakable: bool = False) -> VirtualClock:
        self.url = self.url.replace(namespace=f"{PREFIX}{new_id()}")
        self.clock = self.client_clock = self.new_clock()
        self.breakable = breakable
        if breakable and self.address is not None:
            self._proxy = Proxy(*self.address)
        return self.clock

    def new_clock(self) -> VirtualClock:
        """Make the clock of an example. Override where real time can be stopped."""
        return VirtualClock()

    def new_broker(self, url: Url) -> Broker:
        """Make a client; it is for `open` to keep it. Override to make another kind."""
        return self.plugins.open_broker(url, clock=self.client_clock)

    def new_results(self, url: Url) -> Results:
        """Make a client of the results; see `new_broker`."""
        return self.plugins.open_results(url, clock=self.clock)

    def open(self, *, skew: Seconds = 0.0) -> Broker:
        self.client_clock = SkewedClock(self.clock, skew) if skew else self.clock
        broker = self._connected(self.new_broker)
        self.client_clock = self.clock
        self._brokers.append(broker)
        return broker

    def open_results(self) -> Results:
        results = self._connected(self.new_results)
        self._results.append(results)
        return results

    def unreachable(self) -> Broker | None:
        """Open a client of a port where nobody listens; None if the URL has no host."""
        if not self.url.host:
            return None
        return self.new_broker(self.url.replace(host="127.0.0.1", port=1))

    def may_break(self, client: Broker | Results, way: Breakable) -> None:
        """Note by what `break_next` can break a client. For `new_broker` and `new_results`."""
        self._ways[id(client)] = way

    def crash(self, broker: Broker) -> None:
        """Forget the client, and cut its connections where a proxy can.

        Override it to cut them everywhere.
        """
        self._brokers.remove(broker)
        way = self._ways.pop(id(broker), None)
        if isinstance(way, Port):
            way.close()
            # What is cut off can say nothing to the server, and is free to tidy up here.
            with contextlib.suppress(BrokerError):
                broker.close()

    def break_next(self, client: Broker | Results, fault: Fault, *, skip: int = 0) -> None:
        way = self._ways.get(id(client))
        if fault not in self.faults:
            known = ", ".join(sorted(self.faults)) or "none"
            raise ValueError(f"{self.url.scheme}:// has no fault {fault}; it has: {known}")
        if way is None:
            raise ValueError(
                f"{client!r} cannot be broken; call begin(breakable=True), "
                "and open it after that with open() or open_results()"
            )
        way.break_next(fault, skip=skip)

    def heal(self) -> None:
        for way in self._ways.values():
            way.heal()

    def calm(self) -> None:
        """Return at once: leases do not depend on connections. Override it if they do."""

    def restart(self) -> None:
        if self.restart_by is None:
            raise ValueError(
                f"nobody said how to restart {self.url}; give the target restart= "
                "a command or a function"
            )
        if callable(self.restart_by):
            self.restart_by()
        else:
            _run(self.restart_by)
        self._await_server()

    def _await_server(self) -> None:
        deadline = time.monotonic() + RESTART_LIMIT
        pause = threading.Event()
        while True:
            client = self.new_broker(self.url)
            try:
                client.check()
            except BrokerError as error:
                if time.monotonic() >= deadline:
                    raise ImproperlyConfigured(
                        f"{self.url} did not answer within {RESTART_LIMIT:g} s after its "
                        f"restart; see its log: {error}"
                    ) from error
            else:
                return
            finally:
                client.close()
            pause.wait(_LOOK)

    def footprint(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} must say how to count what is left")

    def wipe(self) -> None:
        """Remove the namespace from the server."""
        raise NotImplementedError(f"{type(self).__name__} must say how to wipe a namespace")

    def put_away(self) -> None:
        """Remove the namespace of an example. Override it to use it again for another one."""
        self.wipe()

    def end(self) -> None:
        clients: list[Broker | Results] = [*self._brokers, *self._results]
        with contextlib.ExitStack() as last_first:
            last_first.callback(self.put_away)
            if self._proxy is not None:
                last_first.callback(self._proxy.close)
            for client in clients:
                last_first.callback(client.close)
        self._brokers.clear()
        self._results.clear()
        self._ways.clear()
        self._proxy = None
        self.breakable = False

    def _connected(self, make: Callable[[Url], Client]) -> Client:
        """Make a client whose connections go the way of the example."""
        if self._proxy is None:
            return make(self.url)
        port = self._proxy.open()
        client = make(self.url.replace(host="127.0.0.1", port=port.number))
        self.may_break(client, port)
        return client


def _run(command: str | Sequence[str]) -> None:
    """Carry out a restart's command.

    Raises:
        ImproperlyConfigured: it cannot be read or started, fails, or takes too long.
    """
    shown = command if isinstance(command, str) else shlex.join(command)
    # A pipe would be held open by a server that the command has left behind.
    with tempfile.TemporaryFile() as output:
        try:
            ended = subprocess.run(
                shlex.split(shown) or [""],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=RESTART_LIMIT,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise ImproperlyConfigured(f"the restart command {shown!r} failed: {error}") from error
        if ended.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise ImproperlyConfigured(
                f"the restart command {shown!r} ended with {ended.returncode}: {said}"
            )
