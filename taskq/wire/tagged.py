"""The types that travel although JSON has no word for them: a closed set.

datetime, date, timedelta, Decimal, UUID, bytes, Enum and dataclass become an
object with one key, such as ``{"$date": "2026-11-21"}``. A dictionary of the
user's that looks like that is wrapped in ``{"$dict": …}``. Enums and
dataclasses carry their class's name, and are rebuilt only if that class was
registered by the reader's own code: no name in a message is ever imported.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from taskq.errors import DecodeError, EncodingError
from taskq.names import import_name

DEPTH_LIMIT: Final = 64
BIT_LIMIT: Final = 14_284
"""4,300 decimal digits, CPython's own limit (CVE-2020-10735)."""
_PLAIN: Final = frozenset({str, bool, type(None)})
_MARK: Final = "$"
_BASES: Final = (str, int, float, list, tuple, dict)


def type_name(cls: type) -> str:
    """Return the name a class travels under: module and qualified name."""
    return f"{import_name(cls.__module__)}.{cls.__qualname__}"


class Types:
    """The enums and dataclasses this process knows by name.

    Registering is meant for start-up and is not thread-safe; reading is.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, type] = {}

    def __iter__(self) -> Iterator[type]:
        return iter(self._by_name.values())

    def register(self, cls: type) -> None:
        """Let values of an enum or dataclass be rebuilt.

        Raises:
            EncodingError: it is neither.
        """
        if not (issubclass(cls, enum.Enum) or dataclasses.is_dataclass(cls)):
            raise EncodingError(f"{cls.__qualname__} is neither an enum nor a dataclass")
        self._by_name[type_name(cls)] = cls

    def find(self, name: object) -> type:
        """Return the class of that name.

        Raises:
            DecodeError: none was registered.
        """
        cls = self._by_name.get(name) if isinstance(name, str) else None
        if cls is None:
            shown = ascii(str(name)[:80])
            raise DecodeError(f"type {shown} is not known here; register it: app.register_type(…)")
        return cls


def lower(value: Any, *, keep_bytes: bool = False, keep_big: bool = True, depth: int = 0) -> Any:
    """Return `value` in terms of JSON's types.

    `keep_bytes` leaves bytes alone, for formats that have them; `keep_big`
    leaves integers beyond 64 bits alone, for formats that have those.

    Raises:
        EncodingError: there is something else in it; says what to do.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return _lower_int(value, keep_big)
    if kind is float:
        if math.isfinite(value):
            return value
        raise EncodingError("NaN and infinities do not travel; send None or a string instead")
    if depth >= DEPTH_LIMIT:
        raise EncodingError(f"nested deeper than {DEPTH_LIMIT} levels, or refers to itself")
    if kind is list or kind is tuple:
        return [lower(v, keep_bytes=keep_bytes, keep_big=keep_big, depth=depth + 1) for v in value]
    if kind is dict:
        return _lower_dict(value, keep_bytes, keep_big, depth)
    return _lower_other(value, keep_bytes, keep_big, depth)


def _lower_int(value: int, keep_big: bool) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    if value.bit_length() > BIT_LIMIT:
        raise EncodingError("an integer has more than 4300 digits; send it as bytes or a string")
    return value if keep_big else {"$int": str(value)}


def _lower_dict(value: dict[Any, Any], keep_bytes: bool, keep_big: bool, depth: int) -> Any:
    lowered = {}
    for key, item in value.items():
        if type(key) is not str:
            raise EncodingError(
                f"a dictionary has a key of type {type(key).__name__}; keys must be strings"
            )
        lowered[key] = lower(item, keep_bytes=keep_bytes, keep_big=keep_big, depth=depth + 1)
    if len(lowered) == 1 and next(iter(lowered)).startswith(_MARK):
        return {"$dict": lowered}
    return lowered


def _lower_other(value: Any, keep_bytes: bool, keep_big: bool, depth: int) -> Any:
    def deeper(inner: Any) -> Any:
        return lower(inner, keep_bytes=keep_bytes, keep_big=keep_big, depth=depth + 1)

    match value:
        case enum.Enum():
            return {"$enum": [type_name(type(value)), value.name]}
        case dt.datetime():
            return {"$datetime": value.isoformat()}
        case dt.date():
            return {"$date": value.isoformat()}
        case dt.timedelta():
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        case decimal.Decimal():
            return {"$decimal": str(value)}
        case uuid.UUID():
            return {"$uuid": str(value)}
        case bytes():
            return bytes(value) if keep_bytes else {"$bytes": base64.b64encode(value).decode()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: deeper(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"$dataclass": [type_name(type(value)), fields]}
        case str() | int() | float() | list() | tuple() | dict():
            return _lower_subclass(value, deeper)
    raise EncodingError(
        f"a value of type {type(value).__qualname__} does not travel; send JSON's types, datetime, "
        "date, timedelta, Decimal, UUID, bytes, an Enum or a dataclass"
    )


def _lower_subclass(value: Any, deeper: Callable[[Any], Any]) -> Any:
    """Treat a subclass of a plain type as that type, as JSON does."""
    plain: Callable[[Any], Any] = next(cls for cls in _BASES if isinstance(value, cls))
    return deeper(plain(value))


def lift(value: Any, types: Types, depth: int = 0) -> Any:
    """Return what `lower` was given; tuples come back as lists.

    Raises:
        DecodeError: a tag or a class is not known, or the nesting is too deep.
    """
    if depth > DEPTH_LIMIT:
        raise DecodeError(f"nested deeper than {DEPTH_LIMIT} levels", code="too_deep")
    if type(value) is list:
        return [lift(item, types, depth + 1) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        tag, inner = next(iter(value.items()))
        if isinstance(tag, str) and tag.startswith(_MARK):
            return _lift_tag(tag, inner, types, depth)
    if not all(type(key) is str for key in value):
        raise DecodeError("a dictionary has a key that is no string")
    return {key: lift(item, types, depth + 1) for key, item in value.items()}


def _lift_tag(tag: str, inner: Any, types: Types, depth: int) -> Any:
    try:
        if tag == "$dict":
            return {key: lift(item, types, depth + 1) for key, item in inner.items()}
        if tag == "$dataclass":
            return _lift_dataclass(inner, types, depth)
        if tag == "$enum":
            name, member = inner
            return _enum_class(types.find(name))[member]
        return _READERS[tag](inner)
    except DecodeError:
        raise
    except KeyError:
        raise DecodeError(f"unknown tag or member {tag[:40]!a}") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DecodeError(f"a {tag[:40]!a} is malformed: {type(error).__name__}") from None


def _lift_dataclass(inner: Any, types: Types, depth: int) -> Any:
    name, fields = inner
    cls = types.find(name)
    lifted = {key: lift(item, types, depth + 1) for key, item in fields.items()}
    made = {f.name: f.init for f in dataclasses.fields(cls)}
    if not lifted.keys() <= made.keys():
        raise DecodeError(f"{cls.__qualname__} has no field of a name that was sent")
    return cls(**{key: item for key, item in lifted.items() if made[key]})


def _enum_class(cls: type) -> type[enum.Enum]:
    if not issubclass(cls, enum.Enum):
        raise DecodeError(f"{cls.__qualname__} is not an enum")
    return cls


def _read_timedelta(inner: Any) -> dt.timedelta:
    days, seconds, microseconds = inner
    return dt.timedelta(days, seconds, microseconds)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$datetime": lambda text: msgspec.convert(text, dt.datetime),
    "$date": dt.date.fromisoformat,
    "$timedelta": _read_timedelta,
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$int": int,
}
