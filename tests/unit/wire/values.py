"""Values of the closed set of types, for Hypothesis."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
from typing import Any

from hypothesis import strategies as st

from taskq.wire.tagged import Types


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Counted:
    """Has a field that its constructor does not take."""

    items: list[Any]
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = len(self.items)


class Refusal(Exception):
    """Nothing built in: what a reader's own class may raise."""


@dataclasses.dataclass
class Picky:
    x: int

    def __post_init__(self) -> None:
        raise Refusal(self.x)


def known_types() -> Types:
    types = Types()
    for cls in (Colour, Rights, Point, Counted, Picky):
        types.register(cls)
    return types


LARGEST = 10**4300 - 1

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["\0", "\u2028\u2029", "$date", "$", '"\\"[{', "\ufeff", "\x1b[0m", "💥"]
)
integers = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, LARGEST, -LARGEST])
)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1e16])
offsets = st.integers(-86_399, 86_399).map(lambda s: dt.timezone(dt.timedelta(seconds=s)))
scalars = (
    st.none()
    | st.booleans()
    | integers
    | floats
    | texts
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=offsets)
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.sampled_from(Colour)
)
keys = texts | st.sampled_from(["$dict", "$date", "$dataclass", "$int", "$bytes"])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$dict", "$x", "$"]), inner, min_size=1, max_size=1)
        | st.builds(Point, inner, inner)
        | st.builds(Counted, st.lists(inner, max_size=3))
    )


values = st.recursive(scalars, _containers, max_leaves=12)


def same(left: Any, right: Any) -> bool:
    """Say whether two values are equal, in type and in the sign of a zero too."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, Point):
        return same([left.x, left.y], [right.x, right.y])
    if isinstance(left, Counted):
        return same([left.items, left.total], [right.items, right.total])
    if isinstance(left, dt.datetime):
        return bool(left == right) and left.utcoffset() == right.utcoffset()
    if isinstance(left, float | decimal.Decimal):
        return repr(left) == repr(right)
    return bool(left == right)
