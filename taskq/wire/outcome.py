"""The payload of a result: one line of JSON about the run, then the value's bytes."""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from taskq.errors import DecodeError
from taskq.wire.codecs import JSON, Codec, Codecs, check_depth, strict_json
from taskq.wire.envelope import HEADER_LIMIT
from taskq.wire.failures import Failure

VERSION: Final = 1


class Status(enum.StrEnum):
    """The states of a result, in Celery's words."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


READY_STATES: Final = frozenset({Status.SUCCESS, Status.FAILURE, Status.REVOKED})


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the worker says of a run. The value is not part of the first line."""

    v: int
    task: str
    state: Status
    retries: int = 0
    worker: str = ""
    done: int = 0
    """Microseconds since the epoch by the worker's clock. Informative."""
    type: str = JSON


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Outcome).decode


def write(outcome: Outcome, value: bytes) -> bytes:
    """Return the payload of a result that is a value."""
    return b"%b\n%b" % (_encode(outcome), value)


def write_failure(outcome: Outcome, failure: Failure, codec: Codec) -> bytes:
    """Return the payload of a result that is an exception."""
    return write(outcome, codec.encode(msgspec.structs.asdict(failure)))


def read(payload: bytes) -> tuple[Outcome, bytes]:
    """Return the first line and the value's bytes.

    Raises:
        DecodeError: these are not the bytes of a result.
    """
    end = payload.find(b"\n", 0, HEADER_LIMIT)
    if end < 0:
        raise DecodeError("not a result: no first line")
    line = payload[:end]
    try:
        outcome = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        check_depth(line)
        raise DecodeError(f"not a result: {str(error)[:200]}") from None
    if _encode(outcome) != line:
        # Not as we would have written it; then it must at least not contradict itself.
        check_depth(line)
        strict_json(line)
    if outcome.v != VERSION:
        raise DecodeError(
            f"result version {str(outcome.v)[:40]}; this taskq reads {VERSION}: upgrade it"
        )
    return outcome, payload[end + 1 :]


def read_value(outcome: Outcome, data: bytes, codecs: Codecs) -> Any:
    """Return the value of a result in state SUCCESS."""
    return codecs.of(outcome.type).decode(data)


def read_failure(outcome: Outcome, data: bytes, codecs: Codecs) -> Failure:
    """Return the exception of a result in any other state."""
    try:
        return msgspec.convert(codecs.of(outcome.type).decode(data), Failure)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"not a failure: {str(error)[:200]}") from None
