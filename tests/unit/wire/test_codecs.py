"""The two formats, and what they refuse."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import json
import sys
import tracemalloc
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskq.errors import DecodeError, EncodingError, UnknownOption
from taskq.wire.codecs import JSON, MSGPACK, Codec, Codecs, check_depth
from taskq.wire.tagged import DEPTH_LIMIT, Types
from tests.unit.wire.values import (
    LARGEST,
    Colour,
    Picky,
    Point,
    Rights,
    known_types,
    same,
    values,
)

CODECS = Codecs(types=known_types())
BOTH = pytest.mark.parametrize("codec", [CODECS.of(JSON), CODECS.of(MSGPACK)], ids=["json", "mp"])
NAMED = "tests.unit.wire.values"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# Round trips


@BOTH
@given(value=values)
@example(value=LARGEST)
@example(value=-LARGEST)
@example(value=[-0.0, "\0", "\u2028", {"$date": "\ufeff"}])
@example(value=dt.datetime(1880, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1172))))
@example(value={"$dict": {"$dict": {"$bytes": b"\n"}}})
def test_what_is_written_is_read_as_it_was(codec: Codec, value: Any) -> None:
    written = codec.encode(value)

    assert same(codec.decode(written), value)


@BOTH
@given(value=values)
def test_the_same_value_is_written_the_same_way_twice(codec: Codec, value: Any) -> None:
    written = codec.encode(value)

    assert codec.encode(codec.decode(written)) == written


@BOTH
def test_tuples_and_subclasses_of_plain_types_come_back_as_the_plain_type(codec: Codec) -> None:
    class Loud(str):
        def __str__(self) -> str:
            raise RuntimeError("never asked")

    class Odd(int):
        def __int__(self) -> int:
            raise RuntimeError("never asked")

    pair = namedtuple("pair", "a b")  # noqa: PYI024 - what users have
    value = (pair(1, 2), OrderedDict(a=1), Loud("x"), Odd(3))

    assert codec.decode(codec.encode(value)) == [[1, 2], {"a": 1}, "x", 3]


@BOTH
def test_a_zone_comes_back_as_its_offset(codec: Codec) -> None:
    sent = dt.datetime(1880, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam"))

    assert codec.decode(codec.encode(sent)).utcoffset() == sent.utcoffset()


@BOTH
def test_64_levels_travel_and_65_do_not(codec: Codec) -> None:
    deepest = nested(DEPTH_LIMIT)

    assert codec.decode(codec.encode(deepest)) == deepest
    with pytest.raises(EncodingError, match="nested deeper than 64"):
        codec.encode([deepest])


@BOTH
@given(levels=st.integers(50, 70), leaf=st.sampled_from([{"$x": []}, Point(1), Colour.RED, 1]))
def test_what_the_sender_accepts_is_never_too_deep_for_the_reader(
    codec: Codec, levels: int, leaf: Any
) -> None:
    value = leaf
    for level in range(levels):
        value = {"$x": value} if level % 3 else [value]

    try:
        written = codec.encode(value)
    except EncodingError:
        return
    assert same(codec.decode(written), value)


@BOTH
@pytest.mark.parametrize(
    "leaf", [dt.date(2026, 1, 1), dt.timedelta(1), Colour.RED, Point(1), 2**80]
)
def test_a_tag_counts_as_the_levels_it_is_written_in(codec: Codec, leaf: Any) -> None:
    deepest = None
    for levels in range(58, 66):
        value: Any = leaf
        for _ in range(levels):
            value = [value]
        try:
            written = codec.encode(value)
        except EncodingError:
            break
        deepest = codec.decode(written)

    assert deepest is not None


# What a sender refuses


CYCLE: list[Any] = []
CYCLE.append([CYCLE, CYCLE])

REFUSED = {
    "nan": (float("nan"), "None or a string"),
    "infinity": ([float("-inf")], "None or a string"),
    "decimal nan": (decimal.Decimal("sNaN"), "None or a string"),
    "lone surrogate": (["\ud800"], "Unicode"),
    "lone surrogate in a key": ({"\udfff": 1}, "Unicode"),
    "set": ({1, 2}, "JSON's types"),
    "object": (object(), "JSON's types"),
    "class": (Point, "JSON's types"),
    "bytearray": (bytearray(b"x"), "JSON's types"),
    "time": (dt.time(1), "JSON's types"),
    "complex": (1j, "JSON's types"),
    "integer key": ({1: 2}, "keys must be strings"),
    "key of a subclass": ({enum.StrEnum("E", "A").A: 1}, "keys must be strings"),
    "cycle": (CYCLE, "refers to itself"),
    "4301 digits": (10**4300, "bytes or a string"),
    "minus 4301 digits": ([-(10**4300)], "bytes or a string"),
    "100,000 digits": (1 << 350_000, "bytes or a string"),
    "fraction of an offset": (
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))),
        "convert it to UTC",
    ),
    "combined flags": (Rights.READ | Rights.WRITE, "send its value"),
    "no flags": (Rights(0), "send its value"),
}


@BOTH
@pytest.mark.parametrize(("value", "cure"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_travel_is_refused_with_a_cure(codec: Codec, value: Any, cure: str) -> None:
    with pytest.raises(EncodingError) as caught:
        codec.encode(value)

    assert cure in str(caught.value)


@given(st.text(st.characters(categories=["Cs"]), min_size=1))
def test_no_lone_surrogate_is_ever_sent(text: str) -> None:
    for codec in (CODECS.of(JSON), CODECS.of(MSGPACK)):
        with pytest.raises(EncodingError):
            codec.encode({"a": text})


# What a reader refuses

DEEP = 20_000
BAD_JSON = {
    "empty": b"",
    "truncated": b"[[1,",
    "random": bytes(range(256)),
    "not utf-8": b'"\xff"',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-32 without a mark": '{"a":1}'.encode("utf-32-le"),
    "byte order mark": b"\xef\xbb\xbf[]",
    "nan": b"[NaN]",
    "infinity": b"-Infinity",
    "1e999": b"1e999",
    "1e999 in an object": b'{"a": 1e999}',
    "duplicate keys": b'{"a":1,"a":1}',
    "duplicate keys inside": b'[[],{"b":{"a":1,"c":2,"a":1}}]',
    "duplicate keys by escape": b'{"a":1,"\\u0061":1}',
    "surrogate": b'"\\ud800"',
    "surrogate in bytes": b'"\xed\xa0\x80"',
    "4301 digits": b"[" + b"9" * 4301 + b"]",
    "100,000 digits": b'{"a":' + b"1" * 100_000 + b"}",
    "two values": b"[] []",
    "single quotes": b"{'a':1}",
    "control character": b'"\n"',
    "null byte": b"[]\0",
    "unknown tag": b'{"$pickle":"gASVAA=="}',
    "escaped tag": b'{"\\u0024object":1}',
    "int of 4301 digits": b'{"$int":"' + b"1" * 4301 + b'"}',
    "int that is a number": b'{"$int":1.5}',
    "int with blanks": b'{"$int":" 1_0 "}',
    "int in other digits": '{"$int":"\u0661"}'.encode(),
    "decimal nan": b'{"$decimal":"sNaN"}',
    "decimal infinity": b'{"$decimal":"Infinity"}',
    "decimal as a number": b'{"$decimal":1.5}',
    "decimal as a list": b'{"$decimal":[0,[1,2],3]}',
    "decimal with an absurd exponent": b'{"$decimal":"1e' + b"9" * 50 + b'"}',
    "datetime as a number": b'{"$datetime":5}',
    "datetime as a date": b'{"$datetime":"2026-01-01"}',
    "datetime out of range": b'{"$datetime":"2026-02-30T00:00:00"}',
    "date as a week": b'{"$date":"2026-W01-1"}',
    "date of a date": b'{"$date":{"$date":"2026-01-01"}}',
    "timedelta too large": b'{"$timedelta":[99999999999999,0,0]}',
    "timedelta of floats": b'{"$timedelta":[1e308,0,0]}',
    "timedelta of booleans": b'{"$timedelta":[true,0,0]}',
    "timedelta of two": b'{"$timedelta":[1,2]}',
    "uuid in braces": b'{"$uuid":"{12345678123456781234567812345678}"}',
    "uuid as a number": b'{"$uuid":5}',
    "bytes not base64": b'{"$bytes":"a"}',
    "bytes with blanks": b'{"$bytes":"YQ ="}',
    "bytes as a list": b'{"$bytes":[1]}',
    "dict of nothing": b'{"$dict":null}',
    "dict of a list": b'{"$dict":[]}',
    "enum of nothing": b'{"$enum":null}',
    "enum of a list": b'{"$enum":[["a"],"b"]}',
    "enum that is none": b'{"$enum":["%b.Point","x"]}' % NAMED.encode(),
    "enum without the member": b'{"$enum":["%b.Colour","GREEN"]}' % NAMED.encode(),
    "enum with an unhashable member": b'{"$enum":["%b.Colour",[]]}' % NAMED.encode(),
    "dataclass that is none": b'{"$dataclass":["%b.Colour",{"value":"red"}]}' % NAMED.encode(),
    "dataclass with too few": b'{"$dataclass":["%b.Point",{}]}' % NAMED.encode(),
    "dataclass with too many": b'{"$dataclass":["%b.Point",{"x":1,"z":2}]}' % NAMED.encode(),
    "dataclass with a list": b'{"$dataclass":["%b.Point",[1,2]]}' % NAMED.encode(),
    "dataclass that raises": b'{"$dataclass":["%b.Picky",{"x":1}]}' % NAMED.encode(),
    "dataclass unknown": b'{"$dataclass":["os.system",{"x":1}]}',
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        CODECS.of(JSON).decode(data)

    assert caught.value.code == "undecodable"
    assert len(str(caught.value)) < 300


BAD_MSGPACK = {
    "empty": b"",
    "truncated": b"\x92\x01",
    "unused code": b"\xc1",
    "not utf-8": b"\xa1\xff",
    "surrogate": b"\xa3\xed\xa0\x80",
    "two values": b"\x01\x02",
    "nan": b"\xcb\x7f\xf8" + bytes(6),
    "infinity": b"\x91\xcb\x7f\xf0" + bytes(6),
    "extension": msgspec.msgpack.encode([msgspec.msgpack.Ext(5, b"x")]),
    "timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "timestamp out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "extension in an object": msgspec.msgpack.encode({"$x": msgspec.msgpack.Ext(5, b"x")}),
    "duplicate keys": b"\x82\xa1a\x01\xa1a\x01",
    "duplicate keys inside": b"\x91\x81\xa1x\x82\xa1a\x01\xa1a\x01",
    "number longer than needed": b"\xcc\x01",
    "integer key": b"\x81\x01\x02",
    "nil key": b"\x81\xc0\x02",
    "bytes key": b"\x81\xc4\x01a\x02",
    "list key": b"\x81\x91\x01\x02",
    "map key": b"\x81\x80\x02",
    "integer key in $dict": msgspec.msgpack.encode({"$dict": {1: 2}}),
    "4 billion items": b"\xdd\xff\xff\xff\xff",
    "4 billion pairs": b"\xdf\xff\xff\xff\xff",
    "4 GB of text": b"\xdb\xff\xff\xff\xff",
    "unknown tag": msgspec.msgpack.encode({"$pickle": b"x"}),
}


@pytest.mark.parametrize("data", BAD_MSGPACK.values(), ids=BAD_MSGPACK)
def test_bad_msgpack_is_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        CODECS.of(MSGPACK).decode(data)

    assert caught.value.code == "undecodable"
    assert len(str(caught.value)) < 300


TOO_DEEP_JSON = {
    "open": b"[" * DEEP,
    "closed": b"[" * DEEP + b"]" * DEEP,
    "65": b"[" * 65 + b"]" * 65,
    "objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "behind a long string": b'["' + b"x" * 100_000 + b'",' + b"[" * DEEP + b"]" * (DEEP + 1),
    "behind escapes": b'["' + b'a\\"[]' * 10_000 + b'\\\\",' + b"[" * DEEP + b"]" * (DEEP + 1),
    "behind brackets in a string": b'["' + b"]" * 1000 + b'",' + b"[" * 65 + b"]" * 66,
    "behind closed ones": b"[" + b"[]," * 1000 + b"[" * 64 + b"]" * 65,
}


@pytest.mark.parametrize("data", TOO_DEEP_JSON.values(), ids=TOO_DEEP_JSON)
def test_json_too_deep_is_refused_before_it_is_parsed(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        CODECS.of(JSON).decode(data)

    assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * DEEP + b"\x01",
        b"\x81\xa1a" * DEEP + b"\x01",
        b"\x91" * 64 + b"\x90",
        b"\x91" * 900,
    ],
)
def test_msgpack_too_deep_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        CODECS.of(MSGPACK).decode(data + b"\x01" * (data == b"\x91" * 900))

    assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    "data",
    [b"[]" * 65 + b'"' + b'\\"' * 500_000, b"[]" * 65 + b'"' * 300_000, b"[]" * 50_000],
    ids=["one string", "many strings", "brackets"],
)
def test_a_megabyte_of_quotes_is_looked_at_once(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            CODECS.of(JSON).decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * len(data)


@given(st.text(alphabet='[]{}",\\ab:1', max_size=300).map(str.encode))
def test_the_depth_of_sound_json_is_counted_exactly(data: bytes) -> None:
    try:
        value = json.loads(data)
    except ValueError:
        return

    check_depth(data)
    wrapped = b"[" * 63 + data + b"]" * 63
    if isinstance(value, list | dict) and any(
        isinstance(item, list | dict) for item in (value.values() if type(value) is dict else value)
    ):
        with pytest.raises(DecodeError):
            check_depth(wrapped)


@BOTH
@given(data=st.binary(max_size=60))
def test_random_bytes_are_a_value_or_a_decode_error(codec: Codec, data: bytes) -> None:
    try:
        value = codec.decode(data)
    except DecodeError:
        return

    assert same(codec.decode(codec.encode(value)), value)


@BOTH
@given(value=values, data=st.data())
def test_a_flipped_byte_is_a_value_or_a_decode_error(
    codec: Codec, value: Any, data: st.DataObject
) -> None:
    written = bytearray(codec.encode([value]))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] = data.draw(st.integers(0, 255))

    with contextlib.suppress(DecodeError):
        codec.decode(bytes(written))


def test_json_of_another_program_is_read() -> None:
    read = CODECS.of(JSON).decode

    assert read(b' [ 1.50 , {"b" : "\\u00e4\\/", "a" : -0.0} ] ') == [1.5, {"b": "ä/", "a": 0.0}]
    assert read(b'{"\\u0024date": "2026-11-21"}') == dt.date(2026, 11, 21)
    assert read(b'{"$datetime":"2026-11-21T10:00:00.5Z"}').microsecond == 500_000
    assert read(b'{"$date": 1, "b": 2}') == {"$date": 1, "b": 2}


# Classes


def test_a_class_that_was_not_registered_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary_codec.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    for tag in ("$enum", "$dataclass"):
        for name in ("canary_codec.Song", "canary_codec", "tests.unit.wire.values.Rights.READ"):
            with pytest.raises(DecodeError, match="register_type"):
                CODECS.default.decode(json.dumps({tag: [name, {}]}).encode())
    assert "canary_codec" not in sys.modules


def test_only_enums_and_dataclasses_are_registered() -> None:
    with pytest.raises(EncodingError, match="neither an enum nor a dataclass"):
        Types().register(dict)


def test_what_a_class_raises_is_the_cause_of_the_decode_error() -> None:
    data = CODECS.default.encode([1]).replace(
        b"[1]", b'{"$dataclass":["%b.Picky",{"x":77}]}' % NAMED.encode()
    )

    with pytest.raises(DecodeError, match="Picky refused") as caught:
        CODECS.default.decode(data)
    assert type(caught.value.__cause__).__name__ == "Refusal"
    assert "77" not in str(caught.value)
    assert Picky in list(known_types())


# Choosing


def test_an_unknown_format_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'json'"):
        Codecs("jsn")


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "", "é" * 500]
)
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(DecodeError, match="not accepted") as caught:
        CODECS.of(content_type)

    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 500
