"""The payload of a result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import DecodeError
from taskq.wire import outcome as wire
from taskq.wire.codecs import JSON, MSGPACK, Codecs
from taskq.wire.failures import Failure
from taskq.wire.outcome import Outcome, Status
from tests.unit.wire.values import known_types, same, values

CODECS = Codecs(types=known_types())
PLAIN: dict[str, Any] = {"v": 1, "task": "shop.add", "state": "SUCCESS"}


def line(**changes: Any) -> bytes:
    header = {key: value for key, value in {**PLAIN, **changes}.items() if value is not ...}
    return json.dumps(header).encode() + b"\n"


@given(value=values, kind=st.sampled_from([JSON, MSGPACK]))
def test_a_value_is_read_as_it_was_written(value: Any, kind: str) -> None:
    sent = Outcome(v=1, task="shop.add", state=Status.SUCCESS, retries=2, worker="w", type=kind)
    payload = wire.write(sent, CODECS.of(kind).encode(value))

    outcome, data = wire.read(payload)

    assert outcome == sent
    assert same(wire.read_value(outcome, data, CODECS), value)


@given(name=st.text(max_size=9), args=st.none() | st.lists(values, max_size=2))
def test_a_failure_is_read_as_it_was_written(name: str, args: list[Any] | None) -> None:
    sent = Failure(name="builtins.ValueError", text="boom", traceback="", args=args)
    payload = wire.write_failure(Outcome(v=1, task="t", state=Status.FAILURE), sent, CODECS.default)

    read = wire.read_failure(*wire.read(payload), CODECS)

    assert same([read.name, read.text, read.args], [sent.name, sent.text, sent.args])


BAD = {
    "empty": b"",
    "no newline": line()[:-1],
    "null": b"null\n",
    "list": b"[]\n",
    "not utf-8": b"\xff\n",
    "same key twice": line().replace(b'{"v"', b'{"v": 1, "v"'),
    "unknown state": line(state="PERHAPS"),
    "version 2": line(v=2),
    "version true": line(v=True),
    "version of 5000 digits": line(v=77).replace(b"77", b"7" * 5000),
    "no task": line(task=...),
    "line of 64 KiB": line(worker="x" * 70_000),
    "newline far away": b"{" * 5_000_000 + b"\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bytes_that_are_no_result_are_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        wire.read(data)

    assert caught.value.code == "undecodable"
    assert len(str(caught.value)) < 300


def test_a_bomb_in_the_first_line_is_too_deep() -> None:
    for bomb in (b"[" * 20_000, b"[" * 65 + b"]" * 65 + b"}"):
        with pytest.raises(DecodeError) as caught:
            wire.read(line(x=77).replace(b"77}", bomb))
        assert caught.value.code == "too_deep"


def test_a_field_of_a_later_release_is_passed_over() -> None:
    assert wire.read(line(cost={"cpu": 1.5}))[0] == Outcome(
        v=1, task="shop.add", state=Status.SUCCESS
    )


@pytest.mark.parametrize("data", [b"null", b"[]", b"{}", b'{"name":1,"text":"","traceback":""}'])
def test_what_is_no_failure_is_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a failure"):
        wire.read_failure(Outcome(v=1, task="t", state=Status.FAILURE), data, CODECS)


def test_a_value_of_an_unknown_content_type_is_refused() -> None:
    outcome, data = wire.read(line(type="application/x-python-serialize") + b"cos\nsystem\n")

    with pytest.raises(DecodeError, match="not accepted"):
        wire.read_value(outcome, data, CODECS)
