from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from taskq import TaskQ
from taskq.errors import ImproperlyConfigured, InvalidName, NotSupported, UnknownOption
from taskq.worker.options import WorkerOptions, worker_options
from taskq.worker.worker import Worker

BAD: list[tuple[str, Any]] = [
    ("concurrency", 0),
    ("concurrency", -1),
    ("concurrency", 1.5),
    ("prefetch", 0),
    ("prefetch_max", 0),
    ("visibility_timeout", 0.1),
    ("visibility_timeout", float("inf")),
    ("visibility_timeout", float("nan")),
    ("heartbeat_interval", 0),
    ("schedule_poll_interval", -1),
    ("reaper_interval", "often"),
    ("shutdown_grace", -0.1),
    ("queues", "default"),
    ("pool", 3),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        worker_options({name: value})


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_worker_does_not_start_with_a_value_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        Worker(TaskQ("x", broker="memory://"), WorkerOptions(**{name: value}))


def test_an_unknown_option_suggests_the_right_one() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'concurrency'"):
        worker_options({"concurency": 3})


@pytest.mark.parametrize(
    "values",
    [
        {"pool": "processes"},
        {"pool": "solo", "concurrency": 2},
    ],
)
def test_what_a_pool_cannot_do_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(NotSupported):
        worker_options(values).resolved("default")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"queue_order": "random"}, ImproperlyConfigured),
        ({"prefetch": 5, "prefetch_max": 4}, ImproperlyConfigured),
        ({"queues": ["a b"]}, InvalidName),
        ({"name": "a b"}, InvalidName),
    ],
)
def test_values_that_do_not_fit_together_are_refused(
    values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        worker_options(values).resolved("default")


def test_what_is_left_open_is_filled_in() -> None:
    options = WorkerOptions().resolved("main")

    assert options.queues == ("main",)
    assert options.concurrency == 10
    assert options.name == f"{socket.gethostname()}.{os.getpid()}"
    assert WorkerOptions(pool="solo").resolved("main").concurrency == 1


def test_queues_named_twice_count_once() -> None:
    assert WorkerOptions(queues=("b", "a", "b")).resolved("main").queues == ("b", "a")


def test_host_and_process_stand_in_a_name_where_asked() -> None:
    options = WorkerOptions(name="mail:%h:%p").resolved("main")

    assert options.name == f"mail:{socket.gethostname()}:{os.getpid()}"
