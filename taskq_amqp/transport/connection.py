"""One connection to a RabbitMQ server, which a thread of its own reads.

Whoever calls writes to the socket himself, under a lock, and waits for what
the reading thread hears; so a call needs one change of threads, not two. The
same thread keeps the heartbeats of both sides, however long a task runs.

A connection is a generation: it is never mended. What was awaited on one that
is lost fails, and what was delivered through it can be settled no more.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from pika import spec
from pika.frame import ProtocolHeader

from taskq.clock import Seconds
from taskq.errors import BrokerError, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq_amqp.options import Options, describe
from taskq_amqp.transport.channel import Channel, refusal
from taskq_amqp.transport.wire import BEAT, Event, ProtocolBroken, Reader, method

READ_SIZE: Final = 1 << 18
LARGEST_FRAME: Final = 1 << 17
_NO_TIME: Final = 0.000_001


class Connection:
    """An open connection. Thread-safe; of no use in a forked child, which just drops it."""

    def __init__(self, options: Options, purpose: str, deadline: float) -> None:
        self.name = str(options.url)
        self.pid = os.getpid()
        self.error: BrokerError | None = None
        """Why it is closed, if it is."""
        self.blocked = ""
        """Why the server takes no messages now, if it says so."""
        self.properties: dict[str, Any] = {}
        """What the server says of itself."""
        self.frame_max = LARGEST_FRAME
        self._heartbeat: Seconds = options.heartbeat
        self._channels: dict[int, Channel] = {}
        self._reader = Reader()
        self._early: list[tuple[int, Event]] = []
        self._writing = threading.Lock()
        self._socket = options.open_socket(deadline)
        # One object of OpenSSL must not be read and written at the same time.
        self._io = threading.Lock() if isinstance(self._socket, ssl.SSLSocket) else None
        try:
            self._greet(options, purpose, deadline)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._wrote = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"taskq-amqp-{purpose}", daemon=True)
        self._thread.start()

    # -- Life

    def channel(self, deadline: float) -> Channel:
        """Open a channel; raises as `Channel.call`."""
        with self._writing:
            number = next(n for n in itertools.count(1) if n not in self._channels)
            channel = Channel(self, number)
            self._channels[channel.number] = channel
        channel.call(spec.Channel.Open(), deadline=deadline)
        return channel

    def close(self) -> None:
        """End the connection without waiting for the server's goodbye."""
        if self.pid == os.getpid() and self.error is None:
            goodbye = method(0, spec.Connection.Close(200, "", 0, 0))
            with contextlib.suppress(BrokerError):
                # Whoever writes is in the midst of a frame; then the end of the stream will do.
                if self._writing.acquire(timeout=0.1):
                    try:
                        self._send(goodbye, time.monotonic() + 0.1)
                    finally:
                        self._writing.release()
            self._fail(ConnectionFailed(f"the connection to {self.name} was closed"))
        else:
            self._socket.close()

    def abandon(self) -> None:
        """End it without a word, as the death of the process would."""
        if self.pid == os.getpid():
            self._fail(ConnectionFailed(f"the connection to {self.name} was given up"))

    def _greet(self, options: Options, purpose: str, deadline: float) -> None:
        """Shake hands, as the AMQP 0-9-1 specification has it in section 2.2.4."""
        self._plain_send(ProtocolHeader().marshal(), deadline)
        start = self._expect(spec.Connection.Start, deadline)
        self.properties = start.server_properties
        if b"PLAIN" not in start.mechanisms.split():
            raise ServerRefused(f"{self.name} offers no PLAIN logins")
        secret = f"\0{options.username}\0{options.password}"
        about = describe(options, purpose)
        self._plain_send(method(0, spec.Connection.StartOk(about, "PLAIN", secret)), deadline)
        tune = self._expect(spec.Connection.Tune, deadline)
        self.frame_max = min(tune.frame_max or LARGEST_FRAME, LARGEST_FRAME)
        beat = min(options.heartbeat, tune.heartbeat or options.heartbeat)
        self._heartbeat = beat
        agreed = spec.Connection.TuneOk(tune.channel_max, self.frame_max, beat)
        opening = spec.Connection.Open(options.virtual_host)
        self._plain_send(method(0, agreed) + method(0, opening), deadline)
        self._expect(spec.Connection.OpenOk, deadline)

    def _plain_send(self, packed: bytes, deadline: float) -> None:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), _NO_TIME))
            self._socket.sendall(packed)
        except OSError as error:
            raise ConnectionFailed(f"cannot connect to {self.name}: {error}") from error

    def _expect(self, kind: type[Any], deadline: float) -> Any:
        while not self._early:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), _NO_TIME))
                data = self._socket.recv(READ_SIZE)
            except OSError as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                raise ConnectionFailed(f"cannot connect to {self.name}: {reason}") from error
            if not data:
                raise ConnectionFailed(
                    f"cannot connect to {self.name}: it closed the connection while greeting"
                )
            if data.startswith(b"AMQP"):
                raise ServerRefused(f"{self.name} speaks another version of AMQP than 0-9-1")
            try:
                self._early += self._reader.feed(data)
            except ProtocolBroken as error:
                raise ServerRefused(f"{self.name} does not talk like a RabbitMQ server") from error
        _, event = self._early.pop(0)
        if isinstance(event, spec.Connection.Close):
            raise refusal(event, what=f"{self.name} refused the connection")
        if not isinstance(event, kind):
            raise ServerRefused(f"{self.name} does not talk like a RabbitMQ server")
        return event

    # -- Writing

    @contextlib.contextmanager
    def writing(self, deadline: float) -> Iterator[Callable[[bytes], None]]:
        """Lend the right to write; what is written meanwhile stays together."""
        if not self._writing.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise ConnectionFailed(f"{self.name} takes nothing in time")
        try:
            yield lambda packed: self._send(packed, deadline)
        finally:
            self._writing.release()

    def _send(self, packed: bytes, deadline: float) -> None:
        """Write; what is written in part is of no use, and ends the connection."""
        view = memoryview(packed)
        sent = 0
        while sent < len(view):
            if self.error is not None:
                raise _unsent(self.error, sent)
            try:
                sent += self._transmit(view[sent:])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if not self._writable(deadline):
                    error = OutcomeUnknown(f"{self.name} takes nothing in time")
                    if sent:
                        self._fail(error)
                    raise _unsent(error, sent) from None
            except OSError as error:
                lost = OutcomeUnknown(f"lost {self.name}: {error}")
                self._fail(lost)
                raise _unsent(lost, sent) from error
        self._wrote = time.monotonic()

    def _transmit(self, part: memoryview) -> int:
        if self._io is None:
            return self._socket.send(part)
        with self._io:
            return self._socket.send(part)

    def _writable(self, deadline: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(max(deadline - time.monotonic(), 0.0) * 1000))

    # -- Reading

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        pause = self._heartbeat * 1000 / 4
        heard = time.monotonic()
        try:
            for channel, event in self._early:
                self._take(channel, event)
            while self.error is None:
                if poll.poll(pause):
                    data = self._receive()
                    if data is not None:
                        heard = time.monotonic()
                        for channel, event in self._reader.feed(data):
                            self._take(channel, event)
                self._keep_alive(heard)
        except OSError as error:
            self._fail(OutcomeUnknown(f"lost {self.name}: {error}"))
        except BrokerError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(OutcomeUnknown(f"lost {self.name}: {error!r}"))
            raise
        finally:
            self._socket.close()

    def _receive(self) -> bytes | None:
        """Return what has come; None if nothing has."""
        try:
            if self._io is None:
                data = self._socket.recv(READ_SIZE)
            else:
                with self._io:
                    data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if not data:
            raise OutcomeUnknown(f"{self.name} closed the connection")
        return data

    def _keep_alive(self, heard: float) -> None:
        now = time.monotonic()
        if now - heard > 2 * self._heartbeat:
            raise OutcomeUnknown(f"lost {self.name}: no sign of it for {now - heard:.0f} s")
        if now - self._wrote > self._heartbeat / 2 and self._writing.acquire(blocking=False):
            # If somebody writes, that is a sign of life too.
            try:
                self._send(BEAT, now)
            except ConnectionFailed:
                pass
            finally:
                self._writing.release()

    def _take(self, number: int, event: Event) -> None:
        if number:
            channel = self._channels.get(number)
            if channel is not None:
                channel.take(event)
                if isinstance(event, spec.Channel.Close):
                    self._part(channel)
        elif isinstance(event, spec.Connection.Close):
            with contextlib.suppress(BrokerError), self.writing(time.monotonic() + 0.1) as write:
                write(method(0, spec.Connection.CloseOk()))
            raise refusal(event, what=f"{self.name} closed the connection")
        elif isinstance(event, spec.Connection.Blocked):
            self.blocked = event.reason or "an alarm"
        elif isinstance(event, spec.Connection.Unblocked):
            self.blocked = ""

    def forget(self, channel: Channel) -> None:
        """Let the number of a closed channel be used again."""
        self._channels.pop(channel.number, None)

    def _part(self, channel: Channel) -> None:
        """Say goodbye to a channel that the server has closed."""
        with contextlib.suppress(BrokerError), self.writing(time.monotonic() + 0.1) as write:
            write(method(channel.number, spec.Channel.CloseOk()))
        self.forget(channel)

    def _fail(self, error: BrokerError) -> None:
        """Take in that the connection is lost."""
        if self.error is None:
            self.error = error
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            for channel in list(self._channels.values()):
                channel.fail(error)


def _unsent(error: BrokerError, sent: int) -> BrokerError:
    """Return what a failure to write means: nothing happened, if nothing was written."""
    return OutcomeUnknown(str(error)) if sent else ConnectionFailed(str(error))
