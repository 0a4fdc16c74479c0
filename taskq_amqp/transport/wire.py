"""AMQP 0-9-1 on the wire: the frames that come by the thousand.

Publishing, deliveries, confirms and acks are packed and read here, which
costs a fifth of what a general codec takes; every other method goes through
pika's. Layouts are those of the AMQP 0-9-1 specification, section 4.2.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias

import msgspec
from pika import spec
from pika.frame import Method as MethodFrame

from taskq.errors import BrokerError

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = 0xCE
OVERHEAD: Final = 8
"""Bytes of a frame that are not its payload."""
BEAT: Final = struct.pack(">BHIB", HEARTBEAT, 0, 0, END)

_FRAME: Final = struct.Struct(">BHI")
_KEY: Final = struct.Struct(">I")
_TAG: Final = struct.Struct(">QB")
_SIZE: Final = struct.Struct(">Q")
_PUBLISH: Final = struct.Struct(">HHH")
_CONTENT: Final = struct.Struct(">HHQHB")
_ACK: Final = struct.Struct(">BHIHHQBB")
_OFFSET: Final = b"\x0fx-stream-offsetl"
_LONG: Final = struct.Struct(">q")
_DECLARE: Final = struct.pack(">HHH", 50, 10, 0)

_BASIC: Final = 60
_DELIVER: Final = spec.Basic.Deliver.INDEX
_RETURN: Final = spec.Basic.Return.INDEX
_GOT: Final = spec.Basic.GetOk.INDEX
_CONFIRM: Final = spec.Basic.Ack.INDEX
_REFUSE: Final = spec.Basic.Nack.INDEX
_DELIVERY_MODE: Final = 1 << 12
_PERSISTENT: Final = 2


class ProtocolBroken(BrokerError):
    """The server, or whatever listens there, does not talk AMQP 0-9-1."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """A message that was pushed to a consumer."""

    consumer: bytes
    tag: int
    redelivered: bool
    properties: bytes
    """As they came."""
    body: bytes


class Got(msgspec.Struct, frozen=True, gc=False):
    """A message that was asked for."""

    tag: int
    redelivered: bool
    body: bytes


class Returned(msgspec.Struct, frozen=True, gc=False):
    """A message that no queue was there for."""

    code: int
    reason: str
    key: str
    body: bytes


class Confirmed(msgspec.Struct, frozen=True, gc=False):
    """What the server says of published messages: it has them, or refuses them."""

    tag: int
    multiple: bool
    accepted: bool


Event: TypeAlias = Any
"""What arrives on a channel: one of these, or a method of `pika.spec`."""


def method(channel: int, what: Any) -> bytes:
    """Return any method as a frame."""
    packed: bytes = MethodFrame(channel, what).marshal()
    return packed


def passive(channel: int, queue: str) -> bytes:
    """Return the question how many messages a queue holds; it has to be there."""
    name = queue.encode()
    payload = b"%b%c%b\x01\x00\x00\x00\x00" % (_DECLARE, len(name), name)
    return b"%b%b\xce" % (_FRAME.pack(METHOD, channel, len(payload)), payload)


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Return the acknowledgement of a delivery, or of all up to it."""
    return _ACK.pack(METHOD, channel, 13, _BASIC, 80, tag, multiple, END)


def address(channel: int, exchange: str, key: str) -> bytes:
    """Return the frame that says where the content behind it goes; it has to arrive somewhere."""
    to, by = exchange.encode(), key.encode()
    payload = b"".join(
        (_PUBLISH.pack(_BASIC, 40, 0), bytes([len(to)]), to, bytes([len(by)]), by, b"\x01")
    )
    return b"%b%b\xce" % (_FRAME.pack(METHOD, channel, len(payload)), payload)


def content(channel: int, body: bytes, frame_max: int) -> bytes:
    """Return a persistent message's header and body."""
    header = b"%b%b\xce" % (
        _FRAME.pack(HEADER, channel, _CONTENT.size),
        _CONTENT.pack(_BASIC, 0, len(body), _DELIVERY_MODE, _PERSISTENT),
    )
    if not body:
        return header
    most = frame_max - OVERHEAD
    if len(body) <= most:
        return b"%b%b%b\xce" % (header, _FRAME.pack(BODY, channel, len(body)), body)
    parts = [header]
    for first in range(0, len(body), most):
        part = body[first : first + most]
        parts.append(b"%b%b\xce" % (_FRAME.pack(BODY, channel, len(part)), part))
    return b"".join(parts)


def offset_of(properties: bytes) -> int:
    """Return where in its stream a delivered message is.

    Raises:
        ProtocolBroken: the server does not say.
    """
    at = properties.find(_OFFSET)
    if at < 0:
        raise ProtocolBroken("a message without its place in the stream")
    offset: int = _LONG.unpack_from(properties, at + len(_OFFSET))[0]
    return offset


class Reader:
    """Turns what arrives into events. Not thread-safe."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[int, _Content] = {}

    def feed(self, data: bytes) -> list[tuple[int, Event]]:
        """Return what is complete, each with the number of its channel.

        Raises:
            ProtocolBroken: it is no AMQP.
        """
        buffer = self._rest + data if self._rest else data
        events: list[tuple[int, Event]] = []
        at, size = 0, len(buffer)
        while size - at >= OVERHEAD:
            kind, channel, length = _FRAME.unpack_from(buffer, at)
            start = at + 7
            end = start + length
            if end >= size:
                if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                    raise ProtocolBroken
                break
            if buffer[end] != END:
                raise ProtocolBroken
            event = self._frame(kind, channel, buffer, start, end)
            if event is not None:
                events.append((channel, event))
            at = end + 1
        self._rest = buffer[at:]
        return events

    def _frame(self, kind: int, channel: int, buffer: bytes, start: int, end: int) -> Event | None:
        if kind == METHOD:
            (key,) = _KEY.unpack_from(buffer, start)
            if key == _DELIVER:
                self._open[channel] = _delivery(buffer, start + 4)
                return None
            if key in (_CONFIRM, _REFUSE):
                tag, flags = _TAG.unpack_from(buffer, start + 4)
                return Confirmed(tag, bool(flags & 1), key == _CONFIRM)
            return self._method(channel, key, buffer[start:end])
        if kind == HEARTBEAT:
            return None
        open_ = self._open.get(channel)
        if open_ is None:
            raise ProtocolBroken
        if kind == HEADER:
            (open_.left,) = _SIZE.unpack_from(buffer, start + 4)
            open_.properties = buffer[start + 12 : end]
        else:
            open_.parts.append(buffer[start:end])
            open_.left -= end - start
        if open_.left:
            return None
        del self._open[channel]
        return open_.event()

    def _method(self, channel: int, key: int, payload: bytes) -> Event | None:
        try:
            found = spec.methods[key]()
            found.decode(payload, 4)
        except Exception as error:
            raise ProtocolBroken from error
        if key in (_RETURN, _GOT):
            self._open[channel] = _Content(answer=found)
            return None
        return found


class _Content:
    """A message whose frames are still coming."""

    __slots__ = ("answer", "consumer", "left", "parts", "properties", "redelivered", "tag")

    def __init__(
        self, consumer: bytes = b"", tag: int = 0, redelivered: bool = False, answer: Any = None
    ) -> None:
        self.consumer = consumer
        self.tag = tag
        self.redelivered = redelivered
        self.answer = answer
        self.left = 1
        self.properties = b""
        self.parts: list[bytes] = []

    def event(self) -> Event:
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        what = self.answer
        if what is None:
            return Delivered(self.consumer, self.tag, self.redelivered, self.properties, body)
        if isinstance(what, spec.Basic.GetOk):
            return Got(what.delivery_tag, what.redelivered, body)
        return Returned(what.reply_code, what.reply_text, what.routing_key, body)


def _delivery(buffer: bytes, at: int) -> _Content:
    after = at + 1 + buffer[at]
    tag, redelivered = _TAG.unpack_from(buffer, after)
    return _Content(buffer[at + 1 : after], tag, bool(redelivered))
