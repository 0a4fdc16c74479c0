from __future__ import annotations

from typing import Any

import pytest

from taskq import TaskQ
from taskq.app.routing import Route, Router
from taskq.errors import ImproperlyConfigured, InvalidName, UnknownOption
from tests.unit.app.conftest import Make, claim


def test_exact_names_go_before_patterns_and_patterns_go_in_their_order() -> None:
    router = Router(
        {"mail.*": "mail", "*": {"priority": 1}, "mail.urgent": {"queue": "high", "priority": 9}}
    )

    assert router.route("mail.urgent") == Route("high", 9)
    assert router.route("mail.send") == Route("mail", None)
    assert router.route("other") == Route(None, 1)
    assert Router({"mail.*": "mail"}).route("MAIL.send") == Route()


@pytest.mark.parametrize(
    ("routes", "error", "text"),
    [
        ({"a": {"que": "x"}}, UnknownOption, "did you mean 'queue'"),
        ({"a": "b c"}, InvalidName, "queue"),
        ({"a": {"queue": 5}}, ImproperlyConfigured, "route of 'a'"),
        ({"a": {"priority": 10}}, ImproperlyConfigured, "0 to 9"),
        ({"a": {"priority": "5"}}, ImproperlyConfigured, "0 to 9"),
        ({"a": {"priority": True}}, ImproperlyConfigured, "0 to 9"),
    ],
)
def test_a_wrong_route_is_refused(routes: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Router(routes)


def test_the_call_goes_before_the_route_the_route_before_the_task_the_task_before_the_default(
    make: Make,
) -> None:
    app = make(task_default_queue="d", task_default_priority=1)
    app.task(name="own", queue="o", priority=3)(print)
    app.task(name="none")(print)

    def place(name: str, **options: Any) -> tuple[str, int]:
        app.send_task(name, **options)
        [delivery] = claim(app, "d", "o", "r", "c")
        return delivery.message.queue, delivery.message.priority

    assert place("none") == ("d", 1)
    assert place("own") == ("o", 3)
    app.conf.task_routes = {"own": {"queue": "r", "priority": 5}}
    assert place("own") == ("r", 5)
    assert place("own", queue="c", priority=0) == ("c", 0)


@pytest.mark.parametrize("priority", [10, -1, 1.5, "high", True])
def test_a_wrong_priority_is_refused_and_nothing_is_sent(app: TaskQ, priority: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="9 is the most urgent"):
        app.send_task("t", priority=priority)

    assert claim(app) == []


@pytest.mark.parametrize("queue", ["", "a b", "a\r\nFLUSHALL", "x" * 129, 5])
def test_a_wrong_queue_is_refused_and_nothing_is_sent(app: TaskQ, queue: Any) -> None:
    with pytest.raises(InvalidName):
        app.send_task("t", queue=queue)

    assert app.broker.stats() == []


def test_routes_changed_in_place_count_from_the_next_task_on(make: Make) -> None:
    app = make(task_routes={"t": {"queue": "a"}})

    def place() -> str:
        app.send_task("t")
        [delivery] = claim(app, "default", "a", "b", "c")
        return delivery.message.queue

    assert place() == "a"
    app.conf.task_routes["t"]["queue"] = "b"  # type: ignore[index]
    assert place() == "b"
    app.conf.task_routes["t"] = "c"
    assert place() == "c"
    app.conf.task_routes["t"] = 5  # type: ignore[assignment]
    with pytest.raises(ImproperlyConfigured, match="task_routes"):
        place()
