"""What a sandbox tells of what was sent."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from taskq import Signature
from taskq.testing.sandbox import Sandbox

from .conftest import Shop


def test_what_was_sent_equals_the_calls_that_send_it(shop: Shop, box: Sandbox) -> None:
    shop.add.delay(1, y=2)
    shop.note.apply_async(("x",), countdown=dt.timedelta(minutes=1), headers={"h": 1})
    shop.app.send_task("other", [1])

    assert box.sent() == [
        shop.add.s(1, y=2),
        shop.note.s("x").set(countdown=60, headers={"h": 1}, queue="notes"),
        Signature(shop.app, "other", [1], {}, {}),
    ]
    assert box.sent(shop.add) == [shop.add.s(1, y=2)]
    assert box.sent("note") == [shop.note.s("x").set(countdown=60, headers={"h": 1})]
    assert [one.task for one in box.sent()] == ["add", "note", "other"]


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "q"},
        {"priority": 6},
        {"countdown": 1},
        {"eta": dt.datetime(2030, 1, 1, tzinfo=dt.UTC)},
        {"expires": 1},
        {"expires": dt.datetime(2030, 1, 1, tzinfo=dt.UTC)},
        {"headers": {"a": 1}},
        {"ignore_result": True},
        {"task_id": "x"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_call_that_differs_in_an_option_is_not_equal(
    shop: Shop, box: Sandbox, options: Any
) -> None:
    shop.add.delay(1)
    (bare,) = box.sent()
    shop.add.apply_async((1,), **options)
    other = box.sent()[1]

    assert bare == shop.add.s(1)
    assert other == shop.add.s(1).set(**options)
    assert bare != shop.add.s(1).set(**options)
    assert (other == shop.add.s(1)) is (options == {"task_id": "x"})


def test_other_arguments_and_another_task_are_not_equal(shop: Shop, box: Sandbox) -> None:
    shop.add.delay(1, 2)

    (one,) = box.sent()
    assert one != shop.add.s(1, 3)
    assert one != shop.add.s(1)
    assert one != shop.flaky.s(1)
    assert one != "add"
    assert box.sent() == [one]
    assert len({*box.sent(), *box.sent()}) == 1


def test_a_wrong_expectation_is_an_error_of_its_own(shop: Shop, box: Sandbox) -> None:
    shop.add.delay(1)
    wrong: Any = shop.add

    with pytest.raises(TypeError, match="'x'"):
        assert box.sent() == [wrong.s("one")]


def test_what_was_sent_tells_where_it_goes_and_when(shop: Shop, box: Sandbox) -> None:
    result = shop.note.apply_async(("x",), countdown=60, priority=9, headers={"h": 1})

    (one,) = box.sent()
    assert (one.id, one.task, one.args, dict(one.kwargs)) == (result.id, "note", ("x",), {})
    assert (one.queue, one.priority, one.headers) == ("notes", 9, {"h": 1})
    assert one.at == box.now
    assert one.due - one.at == dt.timedelta(minutes=1)
    assert repr(one) == "<sent note('x') to notes, priority 9, in 60 s>"


def test_an_expected_call_reads_like_one(shop: Shop) -> None:
    assert repr(shop.add.s(1, y=2)) == "<call add(1, y=2)>"
    assert repr(shop.add.s(1).set(countdown=60)) == "<call add(1), countdown=60>"


def test_what_a_task_sends_is_told_too_and_what_was_refused_is_not(
    shop: Shop, box: Sandbox
) -> None:
    @shop.app.task(name="twice")
    def twice() -> None:
        shop.add.apply_async((1,), task_id="one")
        shop.add.apply_async((2,), task_id="one")

    twice.delay()
    box.run()

    assert box.sent(shop.add) == [shop.add.s(1)]


def test_arguments_are_told_as_the_task_gets_them(shop: Shop, box: Sandbox) -> None:
    @shop.app.task(name="when")
    def when(day: dt.date, loose: Any) -> None: ...

    when.delay(dt.date(2030, 1, 1), (1, 2))

    assert box.sent()[0].args == (dt.date(2030, 1, 1), [1, 2])
    assert box.sent() == [when.s(dt.date(2030, 1, 1), (1, 2))]
