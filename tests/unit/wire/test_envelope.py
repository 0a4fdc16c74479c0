"""The first line and the body."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import DecodeError, EncodingError, NewerEnvelope
from taskq.wire import envelope as wire
from taskq.wire.envelope import HEADER_LIMIT, Envelope

PLAIN: dict[str, Any] = {"v": 1, "id": "a-1", "task": "shop.add", "queue": "high", "created": 17}
names = st.from_regex(r"[A-Za-z0-9_.:\-]{1,128}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf"))
)
envelopes = st.builds(
    Envelope,
    v=st.just(1),
    id=names,
    task=names,
    queue=names,
    created=st.integers(0, 2**60),
    type=texts,
    meta=st.dictionaries(texts, scalars, max_size=3),
    headers=st.dictionaries(texts, scalars, max_size=3),
)


def line(**changes: Any) -> bytes:
    header = {key: value for key, value in {**PLAIN, **changes}.items() if value is not ...}
    return json.dumps(header).encode() + b"\n"


@given(envelope=envelopes, body=st.binary(max_size=50))
def test_what_is_written_is_read_as_it_was(envelope: Envelope, body: bytes) -> None:
    written = wire.write(envelope, body)

    assert wire.read(written) == (envelope, body)
    assert wire.write(*wire.read(written)) == written


def test_a_body_may_hold_newlines_and_be_empty() -> None:
    assert wire.read(line() + b"\n\n[]\n")[1] == b"\n\n[]\n"
    assert wire.read(line())[1] == b""


def test_fields_may_come_in_any_order_and_spacing() -> None:
    header = b'{"queue":"high", "task":"shop.add","id":"\\u0061-1" ,"created":17,"v":1}\n[]'

    assert wire.read(header)[0] == Envelope(**PLAIN)


BAD = {
    "empty": b"",
    "no newline": line()[:-1],
    "only a newline": b"\n",
    "random": bytes(range(256)) * 2,
    "null": b"null\n",
    "list": b"[]\n",
    "number": b"1\n",
    "text": b'"x"\n',
    "truncated": line()[:20] + b"\n",
    "not utf-8": line().replace(b"high", b"hi\xff"),
    "utf-16": json.dumps({**PLAIN, "v": 2}).encode("utf-16") + b"\n",
    "surrogate": line(headers={"a": "\ud800"}),
    "same key twice": line().replace(b'{"v"', b'{"v": 1, "v"'),
    "same header twice": line(headers={"a": 1}).replace(b'"a": 1', b'"a": 1, "a": 1'),
    "newer and the same key twice": b'{"v":2,"v":2}\n',
    "no id": line(id=...),
    "no version": line(v=...),
    "version 0": line(v=0),
    "version -1 with another shape": line(v=-1, id=5),
    "version true": line(v=True),
    "version as text": line(v="2"),
    "version of 5000 digits": line(v=77).replace(b"77", b"7" * 5000),
    "id of another type": line(id=5),
    "created as a fraction": line(created=1.5),
    "nested header": line(headers={"a": []}),
    "nan in a header": line(headers={"a": float("nan")}),
    "1e999 in a header": line(headers={"a": 77}).replace(b"77", b"1e999"),
    "headers as a list": line(headers=[]),
    "300 kB id": line(id="x" * 300_000),
    "line of 64 KiB": line(headers={"a": ""}).replace(b'""', b'"%b"' % (b"x" * HEADER_LIMIT)),
    "64 KiB of blanks": b" " * HEADER_LIMIT + line(),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bytes_that_are_no_envelope_are_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        wire.read(data + b"[[],{}]")

    assert caught.value.code == "undecodable"
    assert not isinstance(caught.value, NewerEnvelope)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["id", "task", "queue"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 129,
        "a b",
        "a\nb",
        "a\r\nFLUSHALL",
        "{x}:*",
        "../..",
        "%s",
        "ü",
        "'; drop",
        "#",
        "a\0",
    ],
)
def test_an_illegal_name_is_undecodable(field: str, name: str) -> None:
    with pytest.raises(DecodeError, match="no legal name"):
        wire.read(line(**{field: name}))


@pytest.mark.parametrize(
    "data",
    [
        b'{"v":1,"id":' + b"[" * 20_000 + b"\n",
        b'{"v":1,"x":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}\n",
        line(x=1).replace(b"1}", b"[" * 65 + b"]" * 65 + b"}"),
        b'{"a":"' + b"x" * 30_000 + b'","b":' + b"[" * 20_000 + b"\n",
    ],
)
def test_a_bomb_in_the_first_line_is_too_deep(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        wire.read(data)

    assert caught.value.code == "too_deep"


def test_size_is_judged_before_anything_else() -> None:
    data = line() + b"x" * 100

    assert wire.read(data, limit=len(data))[1] == b"x" * 100
    with pytest.raises(DecodeError, match=str(len(data))) as caught:
        wire.read(data, limit=len(data) - 1)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": 2, "id": {"new": "shape"}},
        {"v": 10**40},
        {"encoding": "zstd"},
        {"lane": "customer-7"},
        {"unique": "x"},
        {"signature": [1]},
    ],
    ids=str,
)
def test_what_only_a_newer_taskq_knows_is_not_broken(changes: dict[str, Any]) -> None:
    with pytest.raises(NewerEnvelope):
        wire.read(line(**changes))


def test_the_largest_first_line_is_written_and_read_and_one_byte_more_is_refused() -> None:
    room = HEADER_LIMIT - len(wire.write(Envelope(**PLAIN, headers={"a": ""}), b""))
    largest = Envelope(**PLAIN, headers={"a": "x" * room})
    larger = Envelope(**PLAIN, headers={"a": "x" * (room + 1)})

    assert wire.read(wire.write(largest, b"[]"))[0] == largest
    with pytest.raises(EncodingError, match="send them as arguments"):
        wire.write(larger, b"[]")


def test_a_lone_surrogate_in_a_header_is_refused() -> None:
    with pytest.raises(EncodingError, match="Unicode"):
        wire.write(Envelope(**PLAIN, headers={"a": "\ud800"}), b"")


@given(envelope=envelopes, data=st.data())
def test_a_flipped_byte_is_an_envelope_or_a_decode_error(
    envelope: Envelope, data: st.DataObject
) -> None:
    written = bytearray(wire.write(envelope, b"[]"))
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))

    try:
        read, _ = wire.read(bytes(written))
    except DecodeError:
        return
    assert msgspec.json.decode(wire.write(read, b"null").split(b"\n")[0], type=Envelope) == read
