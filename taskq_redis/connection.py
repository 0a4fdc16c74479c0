"""One connection to a Redis server, with deadlines and interruptions.

A request that was not handed to the system whole cannot have been carried out;
one whose answer does not come may have been. The two are different errors.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import hiredis

from taskq.clock import Seconds
from taskq.errors import ConnectionFailed, OutcomeUnknown

Argument: TypeAlias = str | bytes | int
READ_SIZE: Final = 1 << 16
STOP_CHECK: Final[Seconds] = 0.05
"""How often a read that may be interrupted looks up. Half of what L24 allows."""


class ReplyError(Exception):
    """The server's answer was an error."""


class Interrupted(Exception):
    """The wait was ended from another thread; the connection was dropped."""


class Interrupt:
    """A signal that ends waits, now and later. Thread-safe; never cleared."""

    def __init__(self) -> None:
        self.is_set = False
        self._watched: dict[socket.socket, int] = {}

    def set(self) -> None:
        self.is_set = True
        for alarm, pid in tuple(self._watched.items()):
            # After a fork the parent's waits are still listed in the child.
            if pid == os.getpid():
                with contextlib.suppress(OSError):
                    alarm.send(b"!")

    @contextlib.contextmanager
    def watch(self) -> Iterator[socket.socket]:
        """Yield a socket that becomes readable when the signal is set."""
        alarm, watched = socket.socketpair()
        with alarm, watched:
            self._watched[alarm] = os.getpid()
            try:
                if self.is_set:
                    alarm.send(b"!")
                yield watched
            finally:
                del self._watched[alarm]


class Link:
    """One open connection. Used by one thread at a time."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.pid = os.getpid()
        self._sock = sock
        self._name = name
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.closed = False

    def request(self, packed: bytes, deadline: float, interrupt: Interrupt | None = None) -> Any:
        """Send one packed command and return its answer, which may be a `ReplyError`.

        `deadline` is on the monotonic clock. On any error the link is closed.

        Raises:
            ConnectionFailed: the request did not leave; nothing happened.
            OutcomeUnknown: it left, and no answer came.
            Interrupted: `interrupt` was set while the answer was awaited.
        """
        self.write(packed, deadline)
        return self.read(deadline, interrupt)

    def write(self, packed: bytes, deadline: float) -> None:
        """Send one packed command; see `request`."""
        try:
            self._sock.settimeout(_left(deadline))
            self._sock.sendall(packed)
        except OSError as error:
            self.close()
            raise ConnectionFailed(f"cannot send to {self._name}: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise

    def read(self, deadline: float, interrupt: Interrupt | None = None) -> Any:
        """Return the next answer; see `request`."""
        try:
            reply = self._reader.gets()
            while reply is False:
                self._feed(deadline, interrupt)
                reply = self._reader.gets()
        except hiredis.ProtocolError as error:
            self.close()
            raise OutcomeUnknown(f"{self._name} does not talk like a Redis server") from error
        except BaseException:
            self.close()
            raise
        return reply

    def _feed(self, deadline: float, interrupt: Interrupt | None) -> None:
        while True:
            left = _left(deadline)
            self._sock.settimeout(left if interrupt is None else min(left, STOP_CHECK))
            try:
                data = self._sock.recv(READ_SIZE)
            except TimeoutError as error:
                if interrupt is not None and interrupt.is_set:
                    raise Interrupted from None
                if time.monotonic() < deadline:
                    continue
                raise OutcomeUnknown(f"{self._name} did not answer in time") from error
            except OSError as error:
                raise OutcomeUnknown(f"lost {self._name}: {_reason(error)}") from error
            if not data:
                raise OutcomeUnknown(f"{self._name} closed the connection before it answered")
            self._reader.feed(data)
            return

    def await_data(self, seconds: Seconds, alarm: socket.socket) -> bool:
        """Wait until an answer begins to arrive; say whether it does.

        Raises:
            Interrupted: `alarm` became readable; the link is closed.
        """
        if self._reader.has_data() or self._pending():
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(alarm, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(seconds, 0.0) * 1000)}
        if alarm.fileno() in ready:
            self.close()
            raise Interrupted
        return bool(ready)

    def is_stale(self) -> bool:
        """Say whether the server has ended this idle connection, or said something unasked."""
        return bool(self._poll.poll(0)) or self._pending() > 0

    def close(self) -> None:
        """Close the socket without a word, which is right in a forked child too."""
        self.closed = True
        self._sock.close()

    def _pending(self) -> int:
        # TLS may hold decrypted bytes that poll() cannot see.
        pending = getattr(self._sock, "pending", None)
        return pending() if pending is not None else 0


def pack(*command: Argument) -> bytes:
    """Return a command as it goes over the wire."""
    # Its stub asks for a tuple of one, which is not what it takes.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


def _left(deadline: float) -> float:
    # 0 would mean "do not block", and so an error that is not a timeout.
    return max(deadline - time.monotonic(), 0.000_001)


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)
