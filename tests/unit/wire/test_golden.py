"""Messages and results as every released version wrote them: readable for ever.

A golden file is never changed. A new version of the format gets files of its own.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from pathlib import Path
from typing import Any

import pytest

from taskq.wire import envelope, outcome
from taskq.wire.codecs import Codecs
from taskq.wire.outcome import Status
from tests.unit.wire.values import Colour, Point, known_types, same

GOLDEN = Path(__file__).parent / "golden"
ENVELOPES = sorted(GOLDEN.glob("v*/*.envelope"))
RESULTS = sorted(GOLDEN.glob("v*/*.result"))
CODECS = Codecs(types=known_types())
ID = "018f2c6e-7a10-7c3a-9d2b-0f4e5a6b7c8d"

TYPES: dict[str, Any] = {
    "none": None,
    "true": True,
    "int": -7,
    "big": 2**64,
    "huge": 10**30,
    "float": 0.1,
    "minus_zero": -0.0,
    "large": 1e300,
    "text": 'ä " \\ / \u2028 \0 \x7f 💥',
    "empty": [{}, [], ""],
    "datetime": dt.datetime(2026, 11, 21, 10, 30, 0, 250_000, dt.UTC),
    "naive": dt.datetime(2026, 11, 21, 10, 30),  # noqa: DTZ001 - it travels as it is
    "offset": dt.datetime(
        2026, 11, 21, 10, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))
    ),
    "date": dt.date(2026, 11, 21),
    "timedelta": dt.timedelta(days=-1, seconds=5, microseconds=7),
    "decimal": decimal.Decimal("-1.50"),
    "uuid": uuid.UUID(ID),
    "bytes": b"\x00\xffabc",
    "enum": Colour.RED,
    "dataclass": Point(1, Point("a", None)),
    "dollar": {"$date": "not a date"},
    "dollars": {"$a": 1, "$b": 2},
}


def test_there_are_golden_files() -> None:
    assert len(ENVELOPES) >= 5
    assert len(RESULTS) >= 7


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.stem)
def test_an_envelope_is_read_and_written_identically(path: Path) -> None:
    data = path.read_bytes()

    header, body = envelope.read(data)
    codec = CODECS.of(header.type)
    args, kwargs = codec.decode(body)

    assert envelope.write(header, codec.encode((tuple(args), kwargs))) == data
    assert (header.v, header.id, header.task) == (1, ID, "shop.tasks.add")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_read_and_written_identically(path: Path) -> None:
    payload = path.read_bytes()

    header, data = outcome.read(payload)
    codec = CODECS.of(header.type)
    if header.state is Status.SUCCESS:
        again = outcome.write(header, codec.encode(outcome.read_value(header, data, CODECS)))
    else:
        failure = outcome.read_failure(header, data, CODECS)
        again = outcome.write_failure(header, failure, codec)

    assert again == payload


@pytest.mark.parametrize("name", ["types", "msgpack"])
def test_every_type_means_what_it_meant(name: str) -> None:
    header, body = envelope.read((GOLDEN / "v1" / f"{name}.envelope").read_bytes())

    [[value], kwargs] = CODECS.of(header.type).decode(body)

    assert same(value, TYPES)
    assert kwargs == {}


def test_headers_and_meta_mean_what_they_meant() -> None:
    header, body = envelope.read((GOLDEN / "v1" / "headers.envelope").read_bytes())

    assert header.meta == {"root": ID, "parent": ID, "ignore_result": True}
    assert header.headers == {"tenant": "ä/7", "n": 3, "share": 0.5, "flag": False, "none": None}
    assert body == b'[["x"],{}]'


def test_a_failure_means_what_it_meant() -> None:
    payload = (GOLDEN / "v1" / "failure.result").read_bytes()

    failure = outcome.read_failure(*outcome.read(payload), CODECS)

    assert (failure.name, failure.args) == ("builtins.ValueError", ["no such item: 7"])
    assert failure.traceback.startswith("Traceback")
