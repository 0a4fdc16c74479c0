"""The envelope: one line of JSON about the task, then the body's bytes.

The body stays opaque until the code that runs the task decodes it; the line is
all that routing needs. Specified in ``docs/reference/wire.md``.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from taskq.errors import DecodeError, EncodingError, NewerEnvelope
from taskq.names import are_names
from taskq.wire.codecs import DEFAULT_LIMIT, JSON, check_depth, strict_json

VERSION: Final = 1
HEADER_LIMIT: Final = 64 * 1024
"""Largest first line, in bytes, its end included."""

Scalar: TypeAlias = str | int | float | bool | None
"""What a header's value may be."""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the sender says of a task. `body` is not part of the first line."""

    v: int
    id: str
    task: str
    queue: str
    created: int
    """Microseconds since the epoch by the sender's clock. Informative."""
    type: str = JSON
    """Content type of the body."""
    encoding: str = ""
    """How the body is compressed; "" is not at all."""
    meta: dict[str, Scalar] = {}
    """The system's: root, parent, trace context."""
    headers: dict[str, Scalar] = {}
    """The user's."""


_KNOWN: Final = frozenset(Envelope.__struct_fields__)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Envelope).decode


def write(envelope: Envelope, body: bytes) -> bytes:
    """Return the bytes that travel.

    Raises:
        EncodingError: the first line is too long, or holds a lone surrogate.
    """
    try:
        line = _encode(envelope)
    except UnicodeEncodeError:
        raise EncodingError("a header holds a lone surrogate; it is not valid Unicode") from None
    if len(line) >= HEADER_LIMIT:
        raise EncodingError(
            f"the headers make a first line of {len(line)} bytes, over the limit of "
            f"{HEADER_LIMIT}; send them as arguments instead"
        )
    return b"%b\n%b" % (line, body)


def read(data: bytes, *, limit: int = DEFAULT_LIMIT) -> tuple[Envelope, bytes]:
    """Return the envelope and the body.

    Raises:
        DecodeError: these are not the bytes of an envelope, or too many.
        NewerEnvelope: it uses what this version of taskq does not know.
    """
    if len(data) > limit:
        raise DecodeError(f"{len(data)} bytes, over the limit of {limit}", code="too_large")
    end = data.find(b"\n", 0, HEADER_LIMIT)
    if end < 0:
        raise DecodeError("not an envelope: no first line")
    line = data[:end]
    try:
        envelope = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _explain(line)
        raise DecodeError("not an envelope: a field is missing or of the wrong type") from None
    if envelope.v != VERSION:
        raise _other_version(envelope.v)
    if envelope.encoding:
        raise NewerEnvelope(f"body is encoded as {envelope.encoding[:40]!a}: upgrade the worker")
    if _encode(envelope) != line:
        # Not as we would have written it; then it must at least not contradict itself.
        strict_json(line)
    if not are_names(envelope.id, envelope.task, envelope.queue):
        raise DecodeError("not an envelope: id, task or queue is no legal name")
    return envelope, data[end + 1 :]


def _explain(line: bytes) -> None:
    """Raise `NewerEnvelope` if the line is sound but beyond this version."""
    check_depth(line)
    header: Any = strict_json(line)
    if not isinstance(header, dict):
        raise DecodeError("not an envelope: the first line is no JSON object")
    version = header.get("v")
    if isinstance(version, int) and not isinstance(version, bool):
        if version != VERSION:
            raise _other_version(version)
        unknown = sorted(header.keys() - _KNOWN)
        if unknown:
            raise NewerEnvelope(f"uses {unknown[0][:40]!a}, which this version does not know")


def _other_version(version: int) -> DecodeError:
    if version < VERSION:
        return DecodeError(f"envelope version {str(version)[:40]} does not exist")
    shown = str(version)[:40]
    return NewerEnvelope(
        f"envelope version {shown}; this taskq reads {VERSION}: upgrade the worker"
    )
