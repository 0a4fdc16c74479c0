"""A server that takes lines, for the proxy to stand in front of."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from taskq.testing.proxy import Port, Proxy


class LineServer:
    """Answers each line with `answer(line)`, by default with the line itself.

    It notes in `heard` how each line began, and in `ends` how connections ended:
    "closed" or "reset".
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self.greeting = b""
        self.answer: Callable[[bytes], bytes] = lambda line: line
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """End every connection, and wait for the threads."""
        # Closing alone does not wake a thread that waits in accept or recv.
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as lines:
                sock.sendall(self.greeting)
                for line in lines:
                    self.heard.append(line[:64])
                    sock.sendall(self.answer(line))
        except OSError:
            self.ends.append("reset")
        else:
            self.ends.append("closed")


class LineClient:
    """A connection through a port of the proxy. Every wait in it ends after 10 seconds."""

    def __init__(self, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", number), timeout=10)

    def ask(self, line: bytes) -> bytes:
        """Return the answer to one line, whole, or as much of it as comes."""
        self.sock.sendall(line)
        return self.read()

    def read(self) -> bytes:
        """Return what comes up to the end of a line, or of the connection."""
        found = b""
        while not found.endswith(b"\n") and (more := self.sock.recv(1 << 16)):
            found += more
        return found


@pytest.fixture
def server() -> Iterator[LineServer]:
    server = LineServer()
    yield server
    server.close()


@pytest.fixture
def proxy(server: LineServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def port(proxy: Proxy) -> Port:
    return proxy.open()


@pytest.fixture
def connect() -> Iterator[Callable[[Port], LineClient]]:
    """Open connections that end with the test."""
    clients: list[LineClient] = []

    def opener(port: Port) -> LineClient:
        clients.append(LineClient(port.number))
        return clients[-1]

    yield opener
    for client in clients:
        client.sock.close()
