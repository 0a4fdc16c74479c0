"""The formats of arguments and values: JSON by default, MessagePack by choice.

The set is closed, and pickle is not in it: a reader never runs code that a
message names. Sizes and depths are checked before anything is parsed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, Protocol

import msgspec

from taskq.errors import DecodeError, EncodingError, UnknownOption
from taskq.wire.tagged import DEPTH_LIMIT, Types, lift, lower

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
DEFAULT_LIMIT: Final = 1024 * 1024
"""Largest envelope or result, in bytes."""

_BRACKETS: Final = re.compile(
    rb"""
    [^"\[\]{}]*+ (?: "(?:[^"\\]++|\\.?)*+"?+ [^"\[\]{}]*+ )*+
    (?: ([\[{]++) | ([\]}]++) | \Z )
    """,
    re.DOTALL | re.VERBOSE,
)
"""The next brackets outside of strings, or the end. It matches everywhere and
gives nothing back, so that no byte of a hostile text is looked at twice."""


class Codec(Protocol):
    """Turns values into bytes and back. Thread-safe."""

    content_type: str

    def encode(self, value: Any) -> bytes:
        """Return `value` as bytes.

        Raises:
            EncodingError: it holds something that does not travel.
        """
        ...

    def decode(self, data: bytes) -> Any:
        """Return the value.

        Raises:
            DecodeError: the bytes are malformed or nested too deeply.
        """
        ...


class JsonCodec:
    """JSON (RFC 8259) in UTF-8, without NaN and without duplicate keys."""

    content_type = JSON

    def __init__(self, types: Types) -> None:
        self._types = types
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, value: Any) -> bytes:
        try:
            return self._encode(lower(value))
        except UnicodeEncodeError:
            raise EncodingError(
                "a string holds a lone surrogate; it is not valid Unicode"
            ) from None

    def decode(self, data: bytes) -> Any:
        check_depth(data)
        try:
            value = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DecodeError(f"not JSON: {str(error)[:200]}") from None
        if b":" not in data:
            return value
        if self._encode(value) != data:
            # Not as we would have written it: from another program, perhaps with duplicate keys.
            value = strict_json(data)
        return lift(value, self._types) if b'"$' in data or b"\\u0024" in data else value


class MsgpackCodec:
    """MessagePack in its shortest form, without extension types and duplicate keys.

    Writers are free in how long they write a number or a length, and no reader
    of ours counts keys; one form per value leaves nothing to disagree on.
    """

    content_type = MSGPACK

    def __init__(self, types: Types) -> None:
        self._types = types
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode

    def encode(self, value: Any) -> bytes:
        try:
            return self._encode(lower(value, keep_bytes=True, keep_big=False))
        except UnicodeEncodeError:
            raise EncodingError(
                "a string holds a lone surrogate; it is not valid Unicode"
            ) from None

    def decode(self, data: bytes) -> Any:
        try:
            value = self._decode(data)
            shortest = self._encode(value) == data
        except RecursionError:
            raise DecodeError(f"nested deeper than {DEPTH_LIMIT} levels", code="too_deep") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            raise DecodeError(f"not MessagePack: {str(error)[:200]}") from None
        lifted = lift(value, self._types)
        if not shortest:
            raise DecodeError("MessagePack with a key twice, or not in its shortest form")
        return lifted


class Codecs:
    """The codecs one application uses, sharing its registered types."""

    def __init__(self, default: str = "json", types: Types | None = None) -> None:
        self.types = types or Types()
        short: dict[str, Codec] = {
            "json": JsonCodec(self.types),
            "msgpack": MsgpackCodec(self.types),
        }
        if default not in short:
            raise UnknownOption(default, short, what="serializer")
        self.default = short[default]
        self._by_content_type = {codec.content_type: codec for codec in short.values()}

    def of(self, content_type: str) -> Codec:
        """Return the codec for a content type.

        Raises:
            DecodeError: it is not one of ours.
        """
        codec = self._by_content_type.get(content_type)
        if codec is None:
            raise DecodeError(f"content type {content_type[:60]!a} is not accepted")
        return codec


def check_depth(data: bytes) -> None:
    """Refuse JSON that is nested too deeply, without parsing it.

    Counting brackets settles nearly every case at the speed of memchr; only a
    text with many of them is looked at more closely.

    Raises:
        DecodeError: with code `too_deep`.
    """
    if len(data) <= DEPTH_LIMIT or data.count(b"[") + data.count(b"{") <= DEPTH_LIMIT:
        return
    depth = 0
    for found in _BRACKETS.finditer(data):
        opening, closing = found.span(1), found.span(2)
        depth += opening[1] - opening[0] - (closing[1] - closing[0])
        if depth > DEPTH_LIMIT:
            raise DecodeError(f"nested deeper than {DEPTH_LIMIT} levels", code="too_deep")


def strict_json(data: bytes) -> Any:
    """Parse JSON and refuse duplicate keys, which readers of it disagree on.

    Call `check_depth` first.

    Raises:
        DecodeError: malformed, or a key stands twice in one object.
    """
    try:
        # As text: from bytes, json would guess at other encodings than UTF-8.
        return json.loads(
            data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {str(error)[:200]}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DecodeError("a JSON object has the same key twice")
    return found


def _no_constant(text: str) -> Any:
    raise DecodeError(f"{text} is not JSON")
