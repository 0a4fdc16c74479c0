"""A TCP proxy that breaks connections on demand, without knowing what they say.

It tells requests from answers by turns: an *exchange* begins with the first
bytes of a client after the server has spoken (or after the connection was
made), and the first bytes of the server after that are its answer. This fits
every server that is asked and answers, pipelines and the statements of a
transaction included; what a server says unasked while an answer is awaited is
taken for the beginning of the answer.

Every client of a test gets a `Port` of its own, so that breaking one leaves the
others alone. A link that broke is gone, and the next connection works.

One thread serves all ports. It keeps nothing unless a receiver is slow, and
then stops reading from the sender: at most `CHUNK` bytes wait for each end of a
link.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Final, Self, TypeAlias

from taskq.errors import ConnectionFailed
from taskq.testing.faults import Fault, Trigger

CHUNK: Final = 1 << 18
"""Bytes."""
BACKLOG: Final = 128
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE
_RESET: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: `close` throws away what was not sent, and resets the connection."""

Address: TypeAlias = tuple[socket.AddressFamily, Any]
Ready: TypeAlias = Callable[[int], None]


class Proxy:
    """Stands in front of one server. Thread-safe; close it, or use it as a context manager.

    Raises:
        ConnectionFailed: the host's name has no address.
    """

    def __init__(self, host: str, port: int) -> None:
        self.addresses: Final = _resolve(host, port)
        # Other threads register and unregister while this one waits for events,
        # which epoll and kqueue allow. The lock is held while sockets change,
        # and never while waiting.
        self.selector: Final = selectors.DefaultSelector()
        self.lock: Final = threading.RLock()
        self.buffer: Final = memoryview(bytearray(CHUNK))
        self._ports: list[Port] = []
        self._closed = False
        self._alarm, self._alarmed = socket.socketpair()
        self.selector.register(self._alarmed, _READ, _ignore)
        self._thread = threading.Thread(target=self._serve, name="taskq-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Port:
        """Listen on one more port of 127.0.0.1."""
        with self.lock:
            if self._closed:
                raise ValueError("the proxy was closed; make a new one")
            port = Port(self)
            self._ports.append(port)
            return port

    def close(self) -> None:
        """Reset every connection, stop listening, end the thread. Idempotent."""
        with self.lock:
            if not self._closed:
                self._closed = True
                self._alarm.send(b"!")
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._closed:
                for key, mask in self.selector.select():
                    with self.lock:
                        key.data(mask)
        finally:
            # Also after a mistake in here: a test that hangs tells nobody why.
            with self.lock:
                self._closed = True
                for port in self._ports:
                    port.close()
                self.selector.close()
                self._alarm.close()
                self._alarmed.close()


class Port:
    """One port of a proxy, and the links made through it. Thread-safe."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy: Final = proxy
        self.trigger: Final = Trigger()
        self.silence: Final = Trigger()
        self.links: Final[set[_Link | _Dial]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.number: Final[int] = self._listener.getsockname()[1]
        """Where to connect on 127.0.0.1."""
        self._closed = False
        proxy.selector.register(self._listener, _READ, self._accept)

    def break_next(self, fault: Fault, *, skip: int = 0) -> None:
        """Break the next exchange of any link, or the `skip`-th after it.

        BEFORE: the request is thrown away and both ends are reset. AFTER: the
        request passes; when the server begins to answer, the answer is thrown
        away and both ends are closed. MIDDLE: the first half of the answer's
        first chunk still passes; an answer of one byte is lost whole.
        """
        self.trigger.break_next(fault, skip=skip)

    def hush_next(self, *, skip: int = 0) -> None:
        """Let nothing pass any more from the answer to the next exchange on.

        Or of the `skip`-th after it. Neither end is told: both stay open until
        `cut` or `close`, as if a cable had been pulled. New links work.
        """
        self.silence.break_next(Fault.AFTER, skip=skip)

    def heal(self) -> None:
        """Disarm whatever was armed and has not happened."""
        with self.proxy.lock:
            self.trigger.heal()
            self.silence.heal()
            for link in self.links:
                link.fault = None

    def cut(self) -> None:
        """Reset every link at once. New ones work."""
        with self.proxy.lock:
            for link in tuple(self.links):
                link.reset()

    def close(self) -> None:
        """Reset every link, and refuse new ones. Idempotent."""
        with self.proxy.lock:
            if not self._closed:
                self._closed = True
                self.proxy.selector.unregister(self._listener)
                self._listener.close()
            self.cut()

    def _accept(self, _: int) -> None:
        # The client may be gone again, and the port closed, since the event.
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            dial = _Dial(self, client)
            self.links.add(dial)
            dial.go_on()


class _Dial:
    """A client whose connection to the server is being made; nothing is read from it yet."""

    def __init__(self, port: Port, client: socket.socket) -> None:
        self.fault: Fault | None = None
        self._port = port
        self._client = client
        self._server: socket.socket | None = None
        self._addresses = iter(port.proxy.addresses)

    def go_on(self) -> None:
        """Try the next address; after the last one fail as the server does."""
        for family, address in self._addresses:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.setblocking(False)
            if server.connect_ex(address) in {0, errno.EINPROGRESS}:
                self._server = server
                self._port.proxy.selector.register(server, _WRITE, self._ready)
                return
            server.close()
        self.reset()

    def reset(self) -> None:
        """Give up: the client sees a connection that was reset."""
        self._port.links.discard(self)
        server = self._take()
        if server is not None:
            server.close()
        _reset(self._client)

    def _ready(self, _: int) -> None:
        server = self._take()
        if server is None:
            return
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            server.close()
            self.go_on()
        else:
            self._port.links.discard(self)
            self._port.links.add(_Link(self._port, self._client, server))

    def _take(self) -> socket.socket | None:
        server, self._server = self._server, None
        if server is not None:
            self._port.proxy.selector.unregister(server)
        return server


class _End:
    """One of a link's two sockets."""

    __slots__ = ("_mask", "_ready", "_selector", "finished", "outgoing", "sock")

    def __init__(self, sock: socket.socket, selector: selectors.BaseSelector, ready: Ready) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.outgoing = b""
        """What it has yet to take."""
        self.finished = False
        """It says nothing more."""
        self._selector = selector
        self._ready = ready
        self._mask = 0

    def watch(self, mask: int) -> None:
        """Wait for these events; for none, the end of the connection goes unnoticed."""
        if mask == self._mask:
            return
        if not self._mask:
            self._selector.register(self.sock, mask, self._ready)
        elif not mask:
            self._selector.unregister(self.sock)
        else:
            self._selector.modify(self.sock, mask, self._ready)
        self._mask = mask

    def send(self, data: memoryview | bytes) -> None:
        """Hand over what the system takes now, and keep the rest."""
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        self.outgoing = bytes(data[taken:])


class _Link:
    """A client's connection and the one to the server that belongs to it.

    Lives in the proxy's thread; others hold the proxy's lock.
    """

    def __init__(self, port: Port, client: socket.socket, server: socket.socket) -> None:
        self.fault: Fault | None = None
        """How the exchange under way will break."""
        self._port = port
        self._buffer = port.proxy.buffer
        self._client = _End(client, port.proxy.selector, self._client_ready)
        self._server = _End(server, port.proxy.selector, self._server_ready)
        self._asking = self._ending = self._closed = False
        self._hushing = self._hushed = False
        self._watch()

    def reset(self) -> None:
        """End it as a cut wire or a killed process does."""
        self._close(_reset)

    def _close(self, close: Callable[[socket.socket], None] = socket.socket.close) -> None:
        if not self._closed:
            self._closed = True
            self._port.links.discard(self)
            for end in (self._client, self._server):
                end.watch(0)
                close(end.sock)

    def _client_ready(self, mask: int) -> None:
        self._ready(self._client, self._server, mask)

    def _server_ready(self, mask: int) -> None:
        self._ready(self._server, self._client, mask)

    def _ready(self, end: _End, peer: _End, mask: int) -> None:
        # An event may be older than what was done for the one before it.
        try:
            if mask & _WRITE and not self._closed:
                end.send(end.outgoing)
            if mask & _READ and not self._closed:
                self._read(end, peer)
            if not self._closed:
                self._watch()
        except OSError:
            if self._hushed:
                # The other end is not to know.
                end.finished, end.outgoing = True, b""
                self._watch()
            else:
                self.reset()

    def _read(self, end: _End, peer: _End) -> None:
        try:
            size = end.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if self._hushed:
            end.finished = not size
        elif not size:
            end.finished = True
            # It has taken all there was, or this end would not have been read.
            peer.sock.shutdown(socket.SHUT_WR)
        elif end is self._server:
            self._answer(size)
        elif self._asking or self._may_ask():
            peer.send(self._buffer[:size])

    def _may_ask(self) -> bool:
        """Begin an exchange; say whether the request may pass."""
        self._asking = True
        self._hushing = self._port.silence.pull() is not None
        self.fault = self._port.trigger.pull()
        if self.fault is Fault.BEFORE:
            self.reset()
        return not self._closed

    def _answer(self, size: int) -> None:
        """Pass on what the server said, as far as it is to arrive."""
        self._asking = False
        if self._hushing:
            self._hushed = True
            return
        if self.fault is not None:
            size = size // 2 if self.fault is Fault.MIDDLE else 0
            self._ending = True
        self._client.send(self._buffer[:size])

    def _watch(self) -> None:
        """Wait for what may come next, which may be nothing."""
        client, server = self._client, self._server
        if (self._ending and not client.outgoing) or (client.finished and server.finished):
            self._close()
            return
        for end, peer in ((client, server), (server, client)):
            # Who is slow keeps the other from being read.
            reading = not (end.finished or peer.outgoing)
            end.watch((_READ if reading else 0) | (_WRITE if end.outgoing else 0))


def _reset(sock: socket.socket) -> None:
    """Close so that the other side sees a reset; what was not sent yet is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectionFailed(f"cannot resolve {host!r}: {error}") from error
    return [(family, address) for family, _, _, _, address in found]


def _ignore(_: int) -> None:
    """Wake up, so that the thread looks whether to go on."""
