from __future__ import annotations

import json
import time
from typing import Any

import pytest

from taskq import TaskQ
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.wire import outcome
from taskq.wire.failures import describe
from taskq.wire.outcome import Outcome, Status

from .conftest import Run

Shop = tuple[str, TaskQ]


def finish(app: TaskQ, id: str, value: Any) -> None:
    """Store a task's result, as a worker would."""
    codec = app.codecs.default
    failed = isinstance(value, Exception)
    header = Outcome(v=1, task="add", state=Status.FAILURE if failed else Status.SUCCESS)
    payload = (
        outcome.write_failure(header, describe(value, codec), codec)
        if failed
        else outcome.write(header, codec.encode(value))
    )
    app.results.store([ResultRecord(id, 0, header.state, payload, 60.0)])


def test_call_sends_and_prints_the_id(shop: Shop, run: Run) -> None:
    name, app = shop

    result = run("-A", name, "call", "add", "-a", "[1]", "-k", '{"y": 2}', "--queue", "fast")

    assert result.exit_code == 0
    [delivery] = app.broker.reserve(["fast"], limit=5, lease=30)
    assert result.stdout.strip() == delivery.id


def test_call_prints_json(shop: Shop, run: Run) -> None:
    result = run("call", "-A", shop[0], "add", "-a", "[1, 2]", "--task-id", "mine", "--json")

    assert json.loads(result.stdout) == {"id": "mine"}


def test_call_schedules_by_countdown_and_eta(shop: Shop, run: Run) -> None:
    name, app = shop

    assert run("-A", name, "call", "add", "-a", "[1,2]", "--countdown", "60").exit_code == 0
    eta = "2999-01-31T18:00:00+01:00"
    assert run("-A", name, "call", "add", "-a", "[1,2]", "--eta", eta).exit_code == 0

    [stats] = app.broker.stats()
    assert (stats.ready, stats.scheduled) == (0, 2)


def test_call_sets_priority_and_expiry(shop: Shop, run: Run) -> None:
    name, app = shop
    past = "2001-01-01T00:00:00Z"

    sent = run("-A", name, "call", "add", "-a", "[1,2]", "--priority", "9", "--expires", past)

    assert sent.exit_code == 0
    [delivery] = app.broker.reserve(["default"], limit=1, lease=30)
    assert delivery.message.priority == 9
    assert delivery.expired


def test_any_name_is_sent_where_only_the_broker_is_known(run: Run) -> None:
    assert run("-b", "memory://", "call", "whatever").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "-a", "[1, 2"], "not JSON"),
        (["add", "-a", '{"x": 1}'], "must look like [1, 2]"),
        (["add", "-k", "[1]"], 'must look like {"x": 1}'),
        (["add", "-a", "[1]"], "the arguments do not fit task add"),
        (["add", "-a", '["one", 2]'], "argument 'x'"),
        (["add", "-a", "[1, 2]", "--eta", "tomorrow"], "ISO 8601"),
        (["add", "-a", "[1, 2]", "--eta", "2030-01-31T18:00:00"], "has no time zone"),
        (["add", "-a", "[1, 2]", "--expires", "soon"], "ISO 8601"),
        (["add", "-a", "[1, 2]", "--priority", "10"], "from 0 to 9"),
        (["add", "-a", "[1, 2]", "--queue", "a b"], "not a legal name"),
        (["add", "-a", "[1, 2]", "--task-id", "../x"], "not a legal name"),
        (["add", "-a", "[1, 2]", "--timeout", "3"], "--wait"),
        (["ad"], "did you mean 'add'?"),
        (["a\x1b[31m"], "unknown task"),
    ],
)
def test_a_call_that_makes_no_sense_sends_nothing(
    arguments: list[str], words: str, shop: Shop, run: Run
) -> None:
    name, app = shop

    result = run("-A", name, "call", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr
    assert "\x1b" not in result.output
    assert app.broker.stats() == []


def test_wait_gives_up_in_time_and_says_the_state(shop: Shop, run: Run) -> None:
    result = run("-A", shop[0], "call", "add", "-a", "[1,2]", "--wait", "--timeout", "0.05")

    assert result.exit_code == 6
    assert "is PENDING after 0.05 s" in result.stderr


def test_a_result_is_printed(shop: Shop, run: Run) -> None:
    name, app = shop
    finish(app, "one", {"total": 3, "of": ["a", "b"]})

    assert run("-A", name, "result", "one").stdout == "{'total': 3, 'of': ['a', 'b']}\n"
    document = json.loads(run("-A", name, "result", "one", "--json").stdout)
    assert document == {"id": "one", "state": "SUCCESS", "value": {"total": 3, "of": ["a", "b"]}}


def test_a_failure_ends_in_1_and_shows_its_traceback_on_request(shop: Shop, run: Run) -> None:
    name, app = shop
    finish(app, "one", ValueError("bad \x1b[31m\nerror: forged"))

    result = run("-A", name, "result", "one", "--traceback")

    assert result.exit_code == 1
    first = "error: task one failed: ValueError: bad \\x1b[31m\\nerror: forged\n"
    assert result.stderr == first
    assert "ValueError: bad \\x1b[31m" in result.stdout
    document = json.loads(run("-A", name, "result", "one", "--json").stdout)
    assert document["state"] == "FAILURE"
    assert document["error"].startswith("ValueError: bad")


def test_an_unknown_id_ends_in_5(shop: Shop, run: Run) -> None:
    result = run("-A", shop[0], "result", "nobody")

    assert result.exit_code == 5
    assert "no task nobody" in result.stderr


def test_a_result_that_is_not_there_yet_ends_in_6_at_once(shop: Shop, run: Run) -> None:
    name, app = shop
    app.broker.send([Send(Message("one", "default", b"{}"))])
    began = time.monotonic()

    assert run("-A", name, "result", "one").exit_code == 6
    assert time.monotonic() - began < 5


def test_an_id_that_is_no_name_is_refused(shop: Shop, run: Run) -> None:
    assert run("-A", shop[0], "result", "a b").exit_code == 2
