from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.app.arguments import Arguments
from tests.unit.wire.values import Point

SECRET = "s3cr3t"


def arguments(function: Any, *, bound: bool = False) -> Arguments:
    return Arguments(function, bound=bound)


class Opaque:
    pass


class Shade(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    colour: Shade
    items: list[Point] = dataclasses.field(default_factory=list)


def everything(
    a: int,
    b: str = "b",
    *rest: int,
    when: dt.date | None = None,
    opaque: Opaque | None = None,
    level: Literal["low", "high"] = "low",
    colour: Shade | None = None,
    order: Order | None = None,
    **more: Any,
) -> list[int] | None: ...


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "'a'"),
    (("1",), {}, "'a'"),
    ((1.5,), {}, "'a'"),
    ((None,), {}, "'a'"),
    ((1, SECRET.encode()), {}, "'b'"),
    ((1,), {"b": 5}, "'b'"),
    ((1, "b"), {"a": SECRET}, "'a'"),
    ((1,), {"when": SECRET}, "'when'"),
    ((1,), {"level": SECRET}, "'level'"),
    ((1,), {"colour": SECRET}, "'colour'"),
    ((1,), {"order": {"id": SECRET}}, "'order'"),
    ((1,), {"order": {"id": str(uuid.uuid4()), "colour": SECRET}}, "'order'"),
]


@pytest.mark.parametrize(("args", "kwargs", "name"), WRONG)
def test_what_does_not_fit_names_the_parameter_and_never_the_value(
    args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> None:
    with pytest.raises(TypeError, match=name) as caught:
        arguments(everything).convert(args, kwargs)

    assert SECRET not in str(caught.value)


def test_too_many_and_unknown_arguments_are_refused() -> None:
    def add(x: int, y: int = 0) -> None: ...

    for args, kwargs in [((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1}), ((1,), {1: 2})]:
        with pytest.raises(TypeError):
            arguments(add).convert(args, kwargs)  # type: ignore[arg-type]


def test_values_become_what_the_annotations_say() -> None:
    def book(day: dt.date, id: uuid.UUID, colour: Shade, at: Point, share: float) -> None: ...

    id = uuid.uuid4()
    converted, _ = arguments(book).convert(("2026-11-21", str(id), "red", {"x": 1, "y": 2}, 1), {})

    assert list(converted) == [dt.date(2026, 11, 21), id, Shade.RED, Point(1, 2), 1.0]
    assert type(converted[4]) is float


def test_a_dictionary_becomes_a_dataclass_with_what_is_in_it() -> None:
    id = uuid.uuid4()

    _, kwargs = arguments(everything).convert(
        (1,), {"order": {"id": str(id), "colour": "red", "items": [{"x": 1}]}}
    )

    assert kwargs == {"order": Order(id, Shade.RED, [Point(1)])}


def test_instances_pass_as_they_are() -> None:
    order, opaque = Order(uuid.uuid4(), Shade.RED), Opaque()

    _, kwargs = arguments(everything).convert(
        (1,), {"order": order, "opaque": opaque, "extra": {1}}
    )

    assert kwargs["order"] is order
    assert kwargs["opaque"] is opaque
    assert kwargs["extra"] == {1}


def test_the_first_parameter_of_a_bound_task_is_not_the_callers() -> None:
    def add(self: Any, x: int) -> None: ...

    assert list(arguments(add, bound=True).convert((1,), {})[0]) == [1]
    with pytest.raises(TypeError):
        arguments(add, bound=True).convert((None, 1), {})


def test_a_function_without_parameters_takes_none() -> None:
    def nothing() -> None: ...

    assert list(arguments(nothing).convert((), {})[0]) == []
    with pytest.raises(TypeError):
        arguments(nothing).convert((1,), {})


def test_an_annotation_that_cannot_be_resolved_is_not_checked() -> None:
    def odd(x: Missing, y: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert arguments(odd).convert((1, "y"), {}) == ((1, "y"), {})


@given(args=st.lists(st.integers() | st.text(), max_size=4))
def test_the_short_way_and_the_long_way_agree(args: list[Any]) -> None:
    def short(x: int, y: str, z: int) -> None: ...

    def long(x: int, y: str, z: int, *, _w: None = None) -> None: ...

    def outcome(function: Any) -> Any:
        try:
            return list(arguments(function).convert(args, {})[0])
        except TypeError as error:
            return str(error)

    assert outcome(short) == outcome(long)


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (dt.date, "2026-11-21", dt.date(2026, 11, 21)),
        (Shade, "red", Shade.RED),
        (int, "no number", "no number"),
        (int | None, None, None),
        (Opaque, 5, 5),
        (list[Point], [{"x": 1}], [Point(1)]),
    ],
)
def test_a_result_is_converted_where_it_can_be(hint: Any, value: Any, expected: Any) -> None:
    def produce() -> Any: ...

    produce.__annotations__["return"] = hint

    assert arguments(produce).convert_return(value) == expected


def test_the_classes_in_annotations_are_found_however_deep() -> None:
    assert set(arguments(everything).values()) == {Shade, Order, Point}
    assert all(
        issubclass(cls, enum.Enum) or cls in {Order, Point}
        for cls in arguments(everything).values()
    )
