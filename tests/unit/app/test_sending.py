"""From `delay` to the message."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskq import AsyncResult, EnqueueError, Request, Signature, TaskQ
from taskq.app.request import enter, leave
from taskq.clock import VirtualClock
from taskq.errors import (
    AlreadyRegistered,
    Closed,
    EncodingError,
    ImproperlyConfigured,
    InvalidName,
    UnknownOption,
)
from taskq.wire.codecs import MSGPACK
from taskq.wire.envelope import read
from tests.unit.app.conftest import Make, claim, opened, sent
from tests.unit.wire.values import Colour, Point
from tests.waiting import until

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


async def aadd(x: int, y: int) -> int:
    return x + y


# Defining


def test_a_task_is_still_a_function(app: TaskQ) -> None:
    task = app.task(add)

    assert task(1, 2) == 3
    assert (task.name, task.__name__, task.__doc__) == (
        f"{__name__}.add",
        "add",
        "Add two numbers.",
    )
    assert task.__wrapped__ is add
    assert repr(task) == f"<Task {__name__}.add>"
    assert claim(app) == []


def test_a_coroutine_function_is_called_as_one(app: TaskQ) -> None:
    assert asyncio.run(app.task(aadd)(1, 2)) == 3  # type: ignore[arg-type]


def test_a_bound_task_gets_itself_and_knows_that_it_was_called_directly(app: TaskQ) -> None:
    @app.task(bind=True, name="bound")
    def bound(self: Any, x: int) -> tuple[Any, bool, int]:
        return self, self.request.called_directly, x

    assert bound(7) == (bound, True, 7)
    assert bound.request.called_directly is False


@pytest.mark.parametrize(
    ("option", "text"),
    [("que", "did you mean 'queue'"), ("max_retry", "did you mean 'max_retries'")],
)
def test_an_unknown_option_suggests_the_right_one(app: TaskQ, option: str, text: str) -> None:
    with pytest.raises(UnknownOption, match=text):
        app.task(**{option: 1})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("option", "text"),
    [("que", "did you mean 'queue'"), ("countdwon", "did you mean 'countdown'")],
)
def test_an_unknown_call_option_suggests_the_right_one_and_nothing_is_sent(
    app: TaskQ, option: str, text: str
) -> None:
    task: Any = app.task(add)
    send_task: Any = app.send_task
    sends: list[Callable[[], object]] = [
        lambda: task.apply_async((1,), **{option: 1}),
        lambda: asyncio.run(task.aapply_async((1,), **{option: 1})),
        lambda: send_task("t", **{option: 1}),
        lambda: task.s(1).set(**{option: 1}).delay(),
        lambda: app.bulk([task.s(1), task.s(1).set(**{option: 1})]),
    ]
    for send in sends:
        with pytest.raises(UnknownOption, match=text):
            send()

    assert claim(app) == []


def test_an_empty_name_is_no_name(app: TaskQ) -> None:
    with pytest.raises(InvalidName):
        app.task(name="")(add)


def test_a_bound_coroutine_called_directly_knows_it(app: TaskQ) -> None:
    @app.task(bind=True, name="bound")
    async def bound(self: Any) -> bool:
        await asyncio.sleep(0)
        return bool(self.request.called_directly)

    assert asyncio.run(bound())  # type: ignore[arg-type]


def test_a_name_is_used_once(app: TaskQ) -> None:
    app.task(add)

    with pytest.raises(AlreadyRegistered, match="registered twice"):
        app.task(add)


def test_what_workers_cannot_find_needs_a_name(app: TaskQ) -> None:
    def local() -> None: ...

    with pytest.raises(InvalidName, match=r"local function.*name="):
        app.task(local)
    with pytest.raises(InvalidName, match=r"lambda.*name="):
        app.task(lambda: None)
    with pytest.raises(InvalidName):
        app.task(name="a b")(local)
    assert app.task(name="mine")(local).name == "mine"


# What is sent


def test_delay_sends_the_arguments_as_they_are(app: TaskQ) -> None:
    before = time.time()

    result = app.task(add).delay(1, y=2)

    header, args, kwargs = sent(app)
    assert isinstance(result, AsyncResult)
    assert (header.v, header.id, header.task) == (1, result.id, f"{__name__}.add")
    assert (args, kwargs) == ([1], {"y": 2})
    assert before - 1 < header.created / 1e6 < time.time() + 1
    assert (header.meta, header.headers) == ({}, {})


@pytest.mark.parametrize("args", [("x",), (), (1, 2, 3), (None,)])
def test_arguments_that_do_not_fit_are_refused_where_they_are_given(app: TaskQ, args: Any) -> None:
    with pytest.raises(TypeError):
        app.task(add).delay(*args)

    assert claim(app) == []


@pytest.mark.parametrize("args", [5, "ab", {"x": 1}, {1, 2}, iter([1])], ids=repr)
def test_args_is_a_list_or_a_tuple(app: TaskQ, args: Any) -> None:
    app.task(name="two")(lambda a, b: None)

    for name in ("two", "elsewhere"):
        with pytest.raises(TypeError, match="args must be a list or tuple"):
            app.send_task(name, args)


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), "\ud800", {1: 2}], ids=ascii)
def test_what_does_not_travel_is_refused_and_nothing_is_sent(app: TaskQ, value: Any) -> None:
    with pytest.raises(EncodingError):
        app.send_task("t", [value])

    assert claim(app) == []


def test_a_message_over_the_limit_is_refused_with_its_size(make: Make) -> None:
    app = make(message_limit=2000)

    app.send_task("t", ["x" * 1000])
    with pytest.raises(EncodingError, match=r"over message_limit.*send a reference"):
        app.send_task("t", ["x" * 2000])

    assert len(claim(app)) == 1


def test_the_format_is_the_settings(make: Make) -> None:
    app = make(task_serializer="msgpack")
    app.send_task("t", [b"\xff"])

    header, args, _ = sent(app)

    assert (header.type, args) == (MSGPACK, [b"\xff"])


def test_types_in_annotations_are_rebuilt_and_others_after_they_are_registered(app: TaskQ) -> None:
    class Size(enum.Enum):
        S = 1

    def paint(at: Point, colours: list[Colour]) -> None: ...

    app.task(name="paint")(paint)
    app.register_type(Size)
    app.send_task("paint", [Point(1), [Colour.RED]])
    app.send_task("t", [Size.S])

    values = [opened(app, delivery)[1] for delivery in claim(app)]
    assert values == [[Point(1), [Colour.RED]], [Size.S]]


def test_headers_travel_and_only_scalars_do(app: TaskQ) -> None:
    headers = {"a": "ä", "n": 2**70, "f": 0.5, "b": True, "none": None}
    app.send_task("t", headers=headers)

    assert sent(app)[0].headers == headers
    for wrong in ({"a": []}, {1: "a"}, {"a": b""}, {"a": Colour.RED}, {"a": float("nan")},
                  {"a": "\ud800"}, {"a": 10**5000}, {"a": "x" * 70_000}):  # fmt: skip
        with pytest.raises(EncodingError):
            app.send_task("t", headers=wrong)  # type: ignore[arg-type]
    assert claim(app) == []


def test_an_id_is_the_callers_if_it_is_legal(app: TaskQ) -> None:
    assert app.send_task("t", task_id="order-7").id == "order-7"
    with pytest.raises(InvalidName, match="task id"):
        app.send_task("t", task_id="order 7")
    with pytest.raises(InvalidName, match="task"):
        app.send_task("a b")


def test_a_child_names_its_parent_and_its_root(app: TaskQ) -> None:
    for root, expected in ((None, "p"), ("r", "r")):
        token = enter(Request(id="p", task="t", root_id=root))
        try:
            app.send_task("t")
        finally:
            leave(token)
        assert sent(app)[0].meta == {"root": expected, "parent": "p"}


def test_a_call_may_want_no_result(app: TaskQ) -> None:
    result = app.send_task("t", ignore_result=True)

    assert result.ignored
    assert sent(app)[0].meta == {"ignore_result": True}


# When


@pytest.mark.parametrize(
    ("options", "wait"),
    [
        ({"countdown": 60}, 60),
        ({"countdown": dt.timedelta(minutes=1)}, 60),
        ({"countdown": -5}, 0),
        ({"countdown": 0}, 0),
    ],
)
def test_a_countdown_is_by_the_brokers_clock(
    app: TaskQ, clock: VirtualClock, options: Any, wait: int
) -> None:
    app.send_task("t", **options)

    if wait:
        clock.advance(wait - 1)
        assert claim(app) == []
        clock.advance(1)
    assert len(claim(app)) == 1


def test_an_eta_is_an_instant(app: TaskQ, clock: VirtualClock) -> None:
    app.send_task("t", eta=dt.datetime.fromtimestamp(clock.now() + 60, dt.UTC))

    assert claim(app) == []
    clock.advance(61)
    assert len(claim(app)) == 1


@pytest.mark.parametrize("expires", [60, dt.timedelta(minutes=1), "instant"])
def test_what_expires_is_delivered_as_expired(
    app: TaskQ, clock: VirtualClock, expires: Any
) -> None:
    if expires == "instant":
        expires = dt.datetime.fromtimestamp(clock.now() + 60, dt.UTC)
    app.send_task("t", expires=expires)

    clock.advance(61)

    assert [delivery.expired for delivery in claim(app)] == [True]


def test_the_calls_expiry_goes_before_the_tasks(app: TaskQ, clock: VirtualClock) -> None:
    app.task(name="t", expires=10)(print)
    app.send_task("t")
    app.send_task("t", expires=60)

    clock.advance(30)

    assert [delivery.expired for delivery in claim(app)] == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": "soon"},
        {"countdown": float("inf")},
        {"eta": 5},
        {"eta": NOW.replace(tzinfo=None)},
        {"expires": NOW.replace(tzinfo=None)},
        {"expires": "soon"},
        {"countdown": 1, "eta": NOW},
    ],
    ids=str,
)
def test_a_wrong_time_is_refused(app: TaskQ, options: Any) -> None:
    with pytest.raises(ImproperlyConfigured):
        app.send_task("t", **options)

    assert app.broker.stats() == []


# Signatures and bulks


def test_a_signature_is_a_call_that_has_not_been_made(app: TaskQ) -> None:
    task = app.task(
        add,
    )
    signature = task.s(1, y=2).set(queue="high").set(priority=9)
    assert app.broker.stats() == []

    result = signature.delay()

    [delivery] = claim(app, "high")
    assert (delivery.id, delivery.message.priority) == (result.id, 9)
    assert task.s(1).options == {}
    assert isinstance(signature, Signature)


def test_a_bulk_sends_all_in_one_step_and_in_order(app: TaskQ) -> None:
    task = app.task(add)

    results = app.bulk([task.s(n) for n in range(5)])

    deliveries = claim(app)
    assert [delivery.id for delivery in deliveries] == [result.id for result in results]
    assert [opened(app, delivery)[1] for delivery in deliveries] == [[n] for n in range(5)]
    assert app.bulk([]) == []


def test_a_bulk_with_one_wrong_call_sends_nothing(app: TaskQ) -> None:
    task = app.task(add)

    with pytest.raises(TypeError):
        app.bulk([task.s(1), task.s("x"), task.s(2)])  # type: ignore[arg-type]

    assert claim(app) == []


# Applications


def test_closing_closes_and_the_next_use_opens_again(app: TaskQ) -> None:
    broker = app.broker

    app.close()
    app.close()

    with pytest.raises(Closed):
        broker.stats()
    assert app.broker.stats() == []


def test_an_enqueue_error_names_the_ids(app: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskq.errors import ServerRefused

    def refuse(*_: Any, **__: Any) -> None:
        raise ServerRefused("no room")

    monkeypatch.setattr(app.broker, "send", refuse)

    with pytest.raises(EnqueueError, match="no room") as caught:
        app.send_task("t", task_id="a")
    assert caught.value.unsent == ("a",)


def test_an_application_has_a_legal_name() -> None:
    with pytest.raises(InvalidName, match="application"):
        TaskQ("my shop")


def test_a_child_of_a_fork_sends_by_the_same_application(app: TaskQ) -> None:
    app.send_task("t")

    def in_child() -> None:
        assert app.send_task("t").id

    assert status_of(in_child) == 0


def test_a_fork_in_the_middle_of_opening_leaves_the_child_a_free_lock(app: TaskQ) -> None:
    lock = app._lock()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)

    def in_child() -> None:
        assert app.send_task("t").id

    try:
        assert status_of(in_child) == 0
    finally:
        release.set()
        holder.join()


def status_of(work: Callable[[], None]) -> int:
    """Run `work` in a fork of this process; return how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    try:
        _, status = until(lambda: _ended(child), "the child ends", timeout=5)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _ended(child: int) -> tuple[int, int] | None:
    pid, status = os.waitpid(child, os.WNOHANG)
    return (pid, status) if pid else None


def test_a_bulk_of_tasks_or_results_says_what_it_takes(app: TaskQ) -> None:
    task = app.task(name="t")(lambda: None)

    for wrong in (task, task.delay()):
        with pytest.raises(TypeError, match=r"bulk takes calls .* such as task\.s"):
            app.bulk([wrong])  # type: ignore[list-item]


def test_keyword_arguments_that_are_no_dictionary_are_refused(app: TaskQ) -> None:
    with pytest.raises(TypeError, match="kwargs must be a dictionary"):
        app.send_task("t", [], ["x"])  # type: ignore[arg-type]


def test_what_a_task_sends_by_await_has_it_as_parent(app: TaskQ) -> None:
    request = Request(id="parent", task="p")

    async def send() -> None:
        token = enter(request)
        try:
            await app.asend_task("one")
            await app.abulk([app.task(name="two")(lambda: None).s()])
        finally:
            leave(token)

    asyncio.run(send())

    deliveries = app.broker.reserve(["default"], limit=5, lease=10)
    metas = [read(delivery.message.envelope)[0].meta for delivery in deliveries]
    assert metas == [{"root": "parent", "parent": "parent"}] * 2
