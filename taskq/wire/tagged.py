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
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from taskq.errors import DecodeError, EncodingError
from taskq.names import import_name

DEPTH_LIMIT: Final = 64
"""Objects and arrays inside one another, as they are written: tags count."""
DIGIT_LIMIT: Final = 4300
"""Decimal digits of an integer; CPython's own limit (CVE-2020-10735)."""

_PLAIN: Final = frozenset({str, bool, type(None)})
_TRAVELS: Final = _PLAIN | {int, float, bytes}
_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1
_MARK: Final = "$"
_BASES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (list, list),
    (tuple, list),
    (dict, dict),
)
"""The plain types, and how to read a subclass as one without its own methods."""


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


def lower(value: Any, *, keep_bytes: bool = False, keep_big: bool = True) -> Any:
    """Return `value` in terms of JSON's types.

    `keep_bytes` leaves bytes alone, for formats that have them; `keep_big`
    leaves integers beyond 64 bits alone, for formats that have those.

    Raises:
        EncodingError: there is something else in it; says what to do.
    """
    return _lower(value, keep_bytes, keep_big, 0)


def _lower(value: Any, keep_bytes: bool, keep_big: bool, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if (kind is list or kind is tuple or kind is dict) and depth < DEPTH_LIMIT and not value:
        return value
    if kind is list or kind is tuple:
        inside = _enter(depth)
        lowered = []
        for item in value:
            # The commonest values, without a call for each.
            if (kind := type(item)) in _PLAIN or (kind is int and _LEAST <= item <= _MOST):
                lowered.append(item)
            else:
                lowered.append(_lower(item, keep_bytes, keep_big, inside))
        return lowered
    if kind is dict:
        return _lower_dict(value, keep_bytes, keep_big, depth)
    if kind is int:
        return value if _LEAST <= value <= _MOST else _lower_big(value, keep_big, depth)
    if kind is float:
        if math.isfinite(value):
            return value
        raise EncodingError("NaN and infinities do not travel; send None or a string instead")
    return _lower_other(value, keep_bytes, keep_big, depth)


def _enter(depth: int, levels: int = 1) -> int:
    """Return the depth inside `levels` more objects or arrays."""
    if depth + levels > DEPTH_LIMIT:
        raise EncodingError(
            f"nested deeper than {DEPTH_LIMIT} levels, or refers to itself; send it flatter"
        )
    return depth + levels


def _lower_big(value: int, keep_big: bool, depth: int) -> Any:
    if abs(value) >= 10**DIGIT_LIMIT:
        raise EncodingError(
            f"an integer has more than {DIGIT_LIMIT} digits; send it as bytes or a string"
        )
    # Common parsers count the sign of a number as one of its digits.
    if keep_big and value > -(10 ** (DIGIT_LIMIT - 1)):
        return value
    _enter(depth)
    return {"$int": str(value)}


def _lower_dict(value: dict[Any, Any], keep_bytes: bool, keep_big: bool, depth: int) -> Any:
    for key in value:
        if type(key) is not str:
            raise EncodingError(
                f"a dictionary has a key of type {type(key).__name__}; keys must be strings"
            )
    wrapped = len(value) == 1 and next(iter(value)).startswith(_MARK)
    inside = _enter(depth, 2 if wrapped else 1)
    lowered = {}
    for key, item in value.items():
        if (kind := type(item)) in _PLAIN or (kind is int and _LEAST <= item <= _MOST):
            lowered[key] = item
        else:
            lowered[key] = _lower(item, keep_bytes, keep_big, inside)
    return {"$dict": lowered} if wrapped else lowered


def _lower_other(value: Any, keep_bytes: bool, keep_big: bool, depth: int) -> Any:
    match value:
        case enum.Enum():
            return _lower_enum(value, depth)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inside = _enter(depth, 3)
            fields = {
                field.name: _lower(getattr(value, field.name), keep_bytes, keep_big, inside)
                for field in dataclasses.fields(value)
            }
            return {"$dataclass": [type_name(type(value)), fields]}
        case bytes() if keep_bytes:
            return bytes(value)
        case dt.timedelta():
            _enter(depth, 2)
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    for plain, convert in _BASES:
        if isinstance(value, plain):
            return _lower(convert(value), keep_bytes, keep_big, depth)
    _enter(depth)
    return _lower_text(value)


def _lower_enum(value: enum.Enum, depth: int) -> Any:
    cls = type(value)
    if value.name not in cls.__members__:
        raise EncodingError(f"a combination of {cls.__qualname__} has no name; send its value")
    _enter(depth, 2)
    return {"$enum": [type_name(cls), value.name]}


def _lower_text(value: Any) -> Any:
    match value:
        case dt.datetime():
            if (offset := value.utcoffset()) is not None and offset.microseconds:
                raise EncodingError("a time zone's offset must be whole seconds; convert it to UTC")
            return {"$datetime": value.isoformat()}
        case dt.date():
            return {"$date": value.isoformat()}
        case decimal.Decimal() if value.is_finite():
            return {"$decimal": str(value)}
        case decimal.Decimal():
            raise EncodingError("NaN and infinities do not travel; send None or a string instead")
        case uuid.UUID():
            return {"$uuid": str(value)}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
    raise EncodingError(
        f"a value of type {type(value).__qualname__} does not travel; send JSON's types, datetime, "
        "date, timedelta, Decimal, UUID, bytes, an Enum or a dataclass"
    )


def lift(value: Any, types: Types, depth: int = 0) -> Any:
    """Return what `lower` was given; tuples come back as lists.

    Raises:
        DecodeError: a tag, a class or a kind of value is not known, or the
            nesting is too deep.
    """
    kind = type(value)
    if kind is list:
        _check_depth(depth)
        return [item if type(item) in _PLAIN else lift(item, types, depth + 1) for item in value]
    if kind is dict:
        if len(value) == 1:
            tag, inner = next(iter(value.items()))
            if type(tag) is str and tag.startswith(_MARK):
                _check_depth(depth)
                return _lift_tag(tag, inner, types, depth + 1)
        return _lift_dict(value, types, depth)
    if kind is float and not math.isfinite(value):
        raise DecodeError("NaN and infinities are not accepted")
    if kind not in _TRAVELS:
        raise DecodeError("an extension type is not accepted")
    return value


def _check_depth(depth: int) -> None:
    if depth >= DEPTH_LIMIT:
        raise DecodeError(f"nested deeper than {DEPTH_LIMIT} levels", code="too_deep")


def _lift_dict(value: Any, types: Types, depth: int) -> dict[str, Any]:
    _check_depth(depth)
    if type(value) is not dict:
        raise DecodeError("a tagged dictionary is none")
    if not all(type(key) is str for key in value):
        raise DecodeError("a dictionary has a key that is no string")
    return {key: lift(item, types, depth + 1) for key, item in value.items()}


def _lift_tag(tag: str, inner: Any, types: Types, depth: int) -> Any:
    try:
        if tag in _TEXTS:
            pattern, convert = _TEXTS[tag]
            if pattern.fullmatch(inner) is None:
                raise ValueError(tag)
            return convert(inner)
        return _STRUCTURES[tag](inner, types, depth)
    except DecodeError:
        raise
    except KeyError:
        raise DecodeError(f"unknown tag or member {tag[:40]!a}") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise DecodeError(f"a {tag[:40]!a} is malformed: {type(error).__name__}") from None


def _lift_enum(inner: Any, types: Types, depth: int) -> enum.Enum:
    _check_depth(depth)
    name, member = inner
    cls = types.find(name)
    if not issubclass(cls, enum.Enum):
        raise DecodeError(f"{cls.__qualname__} is not an enum")
    return cls[member]


def _lift_dataclass(inner: Any, types: Types, depth: int) -> Any:
    _check_depth(depth)
    name, fields = inner
    cls = types.find(name)
    if not dataclasses.is_dataclass(cls):
        raise DecodeError(f"{cls.__qualname__} is not a dataclass")
    lifted = _lift_dict(fields, types, depth + 1)
    made = {field.name: field.init for field in dataclasses.fields(cls)}
    if not lifted.keys() <= made.keys():
        raise DecodeError(f"{cls.__qualname__} has no field of a name that was sent")
    try:
        return cls(**{key: item for key, item in lifted.items() if made[key]})
    except Exception as error:
        raise DecodeError(
            f"{cls.__qualname__} refused what was sent: {type(error).__qualname__}"
        ) from error


def _lift_timedelta(inner: Any, _types: Types, depth: int) -> dt.timedelta:
    _check_depth(depth)
    days, seconds, microseconds = inner
    if not type(days) is type(seconds) is type(microseconds) is int:
        raise TypeError("whole numbers only")
    return dt.timedelta(days, seconds, microseconds)


_TEXTS: Final[dict[str, tuple[re.Pattern[str], Callable[[str], Any]]]] = {
    "$datetime": (
        re.compile(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?"
            r"(Z|[+-]\d\d:\d\d(:\d\d)?)?",
            re.ASCII,
        ),
        dt.datetime.fromisoformat,
    ),
    "$date": (re.compile(r"\d{4}-\d\d-\d\d", re.ASCII), dt.date.fromisoformat),
    "$decimal": (
        re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII),
        decimal.Decimal,
    ),
    "$uuid": (re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), uuid.UUID),
    "$bytes": (
        re.compile(r"[A-Za-z0-9+/]*={0,2}"),
        lambda text: base64.b64decode(text, validate=True),
    ),
    "$int": (re.compile(rf"-?[0-9]{{1,{DIGIT_LIMIT}}}"), int),
}
"""How the text of a tag must look. Converters accept more, and not the same
in every language or version."""

_STRUCTURES: Final[dict[str, Callable[[Any, Types, int], Any]]] = {
    "$dict": _lift_dict,
    "$enum": _lift_enum,
    "$dataclass": _lift_dataclass,
    "$timedelta": _lift_timedelta,
}
