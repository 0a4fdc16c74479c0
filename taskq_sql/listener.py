"""Wake-ups from other processes, where the database can give them. A hint and no more.

A transaction that makes something claimable is followed by a notification
(`Statements.notify`), and whoever waits for work in that namespace looks at
once. Nothing depends on it: who waits looks every 250 ms in any case, so that a
notification that is lost, or a connection that has died unnoticed, costs that
much. Hence no error in here reaches a caller.

    waits idle                connected                silence of 30 s
    ──────────▶ connecting ─────────────▶ listening ──────────────────▶ asking itself
                 ▲      │ an error            │ an error        no echo │     │ echo
                 │      ▼                     ▼                         │     ▼
                 └── pausing, 1 to 30 s ◀─────┴─────────────────────────┘  listening

The notification is a transaction of its own. PostgreSQL lets one transaction
that notifies commit at a time, in the whole server, and the lock would be held
while the disk flushes; a transaction that only notifies flushes nothing. One
that follows another within `ECHO` is left out: who was woken looks again then.
"""

from __future__ import annotations

import hashlib
import logging
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final, Protocol

from taskq.clock import Seconds
from taskq_sql.moves import nonce

log = logging.getLogger(__name__)

ECHO: Final[Seconds] = 0.01
"""A process notifies no more often; who is woken looks again after as long."""
_SILENCE: Final[Seconds] = 30.0
"""Without any notification for so long, the listener asks itself for one."""
_PATIENCE: Final[Seconds] = 10.0
"""How long it waits for that one."""
_FIRST_PAUSE: Final[Seconds] = 1.0
_LONGEST_PAUSE: Final[Seconds] = 30.0


class Deaf(Exception):
    """The connection brings no notifications, or none any more."""


class Ear(Protocol):
    """A connection that notifications come by. For one thread. All it does may raise `Deaf`."""

    def fileno(self) -> int: ...

    def listen(self, channel: str) -> None:
        """Hear of this channel from now on."""
        ...

    def notify(self, channel: str) -> None: ...

    def heard(self) -> set[str]:
        """Return the channels that were notified since the last call; it does not wait."""
        ...

    def close(self) -> None: ...


def channel_of(tables: str, namespace: str) -> str:
    """Return the name of the channel of a namespace: short, and of letters and digits."""
    named = f"{tables} {namespace}".encode()
    return f"taskq_{hashlib.blake2b(named, digest_size=8).hexdigest()}"


class Listener:
    """What rings for all clients of one database in one process. Thread-safe.

    Its thread and connection are there from the first time that a client waits
    for work until the last of those clients is closed.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._wanted: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._poke: socket.socket | None = None
        self.heard = 0
        """How often notifications have come."""
        self._woken = float("-inf")
        self.deaf = 0
        """How often it began to connect, for want of a connection that brings any."""
        self.listening = threading.Event()
        """Set while a connection brings notifications."""

    def join(self, client: object, channel: str, connect: Callable[[], Ear]) -> None:
        """Hear of a channel for as long as the client exists, or until it leaves."""
        if client in self._wanted:
            return
        with self._lock:
            self._wanted[client] = channel
            if self._thread is None:
                self._poke, poked = socket.socketpair()
                self._poke.setblocking(False)
                self._thread = threading.Thread(
                    target=self._run, args=(connect, poked), name="taskq-listener", daemon=True
                )
                self._thread.start()
            self._wake()

    def leave(self, client: object) -> None:
        """Hear nothing for this client any more."""
        with self._lock:
            if self._wanted.pop(client, None) is not None:
                self._wake()

    def echoes(self) -> bool:
        """Say whether a notification came so lately that others may have been left out."""
        return time.monotonic() - self._woken < ECHO

    def _wake(self) -> None:
        # Where there is no room it will wake anyway.
        with suppress(BlockingIOError):
            if self._poke is not None:
                self._poke.send(b".")

    def _channels(self) -> set[str]:
        """Return what clients want to hear; if it is nothing, this thread is over."""
        with self._lock:
            channels = set(self._wanted.values())
            if not channels and self._poke is not None:
                self._poke.close()
                self._thread = self._poke = None
            return channels

    def _run(self, connect: Callable[[], Ear], poked: socket.socket) -> None:
        pause = _FIRST_PAUSE
        told = False
        with poked:
            while self._channels():
                self.deaf += 1
                started = time.monotonic()
                try:
                    with closing(connect()) as ear:
                        self._listen(ear, poked)
                except Deaf as error:
                    # Once for an outage, however often it tries.
                    again = told and not self.listening.is_set()
                    level = logging.DEBUG if again else logging.INFO
                    log.log(level, "no wake-ups from the database, polling goes on: %s", error)
                    told = True
                else:
                    return
                finally:
                    self.listening.clear()
                if time.monotonic() - started > _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
                self._rest(pause, poked)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _rest(self, pause: Seconds, poked: socket.socket) -> None:
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0 and self._wanted:
            _await(poked, left)

    def _listen(self, ear: Ear, poked: socket.socket) -> None:
        own = f"taskq_{nonce()}"
        ear.listen(own)
        known: set[str] = set()
        asked: float | None = None
        silent_since = float("-inf")
        while channels := self._channels():
            for channel in channels - known:
                ear.listen(channel)
                known.add(channel)
                # What came before this was not heard of.
                self._ring()
            now = time.monotonic()
            if asked is None and now - silent_since >= _SILENCE:
                ear.notify(own)
                asked = now
            elif asked is not None and now - asked >= _PATIENCE:
                raise Deaf("its own notification did not come back; is it a transaction pooler?")
            wait = _SILENCE - (now - silent_since) if asked is None else asked + _PATIENCE - now
            heard = ear.heard()
            if not heard:
                _await(poked, wait, ear)
                heard = ear.heard()
            if heard:
                asked, silent_since = None, time.monotonic()
                self.listening.set()
            if heard - {own}:
                self.heard += 1
                self._woken = time.monotonic()
                self._ring()


def _await(poked: socket.socket, timeout: Seconds, ear: Ear | None = None) -> None:
    """Wait until the ear has something, or a client has come or gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(poked, selectors.EVENT_READ)
        if ear is not None:
            selector.register(ear, selectors.EVENT_READ)
        for key, _ in selector.select(max(0.0, timeout)):
            if key.fileobj is poked:
                poked.recv(4096)
