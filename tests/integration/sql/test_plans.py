"""What a sentence reads depends on what it was asked for, not on what the tables hold.

The crowd is a tenth of the full one unless TASKQ_CHAOS=full.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from taskq_sql import moves
from taskq_sql.dialects import Parameters
from taskq_sql.reach import Reach
from taskq_sql.statements import Statements
from tests.ahead import Answers, begin
from tests.integration.sql.crowd import FAR, NOW, Crowd, Meter, Reading, crowded

FULL = os.environ.get("TASKQ_CHAOS") == "full"
CROWD = Crowd(1_000_000, 100_000) if FULL else Crowd(100_000, 10_000)
MANY = 100
"""The limit, or the number of ids, that each sentence is given."""
ASIDE = 40
"""Seeks a sentence may need whatever it is asked for."""


class Bound(enum.Enum):
    """What the rows that a sentence reads are in proportion to."""

    NOTHING = enum.auto()
    """It reads none of taskq's tables, or a fixed number of rows."""
    LIMIT = enum.auto()
    IDS = enum.auto()
    WORKERS = enum.auto()
    """Those that are listed."""
    NAMESPACE = enum.auto()
    """All of its messages. On demand only, never by a worker."""


BOUNDS = {
    "begin": Bound.NOTHING,
    "has_schema": Bound.NOTHING,
    "select_schema": Bound.NOTHING,
    "select_identity": Bound.NOTHING,
    "send": Bound.IDS,
    "select_concluded": Bound.IDS,
    "unsend": Bound.IDS,
    "outlook": Bound.NOTHING,
    "select_ready": Bound.LIMIT,
    "select_next": Bound.LIMIT,
    "lease": Bound.IDS,
    "select_lost": Bound.LIMIT,
    "select_due": Bound.LIMIT,
    "promote": Bound.IDS,
    "move": Bound.IDS,
    "select_held": Bound.IDS,
    "delete_held": Bound.IDS,
    "extend": Bound.IDS,
    "delete": Bound.IDS,
    "next_queue": Bound.NOTHING,
    "count": Bound.NAMESPACE,
    "oldest_ready": Bound.NOTHING,
    "locate": Bound.IDS,
    "select_dead": Bound.LIMIT,
    "select_dead_ids": Bound.IDS,
    "select_old_dead": Bound.LIMIT,
    "select_waiting": Bound.LIMIT,
    "requeue": Bound.IDS,
    "beat": Bound.NOTHING,
    "unlist": Bound.NOTHING,
    "forget_workers": Bound.WORKERS,
    "select_workers": Bound.WORKERS,
    "store": Bound.IDS,
    "fetch": Bound.IDS,
    "select_expired": Bound.LIMIT,
    "forget": Bound.IDS,
    "notify": Bound.NOTHING,
    "post": Bound.IDS,
    "look_outbox": Bound.NOTHING,
    "bound_turn": Bound.NOTHING,
    "take_turn": Bound.NOTHING,
    "select_posted": Bound.LIMIT,
    "delete_posted": Bound.IDS,
    "set_aside": Bound.NOTHING,
    "count_posted": Bound.NAMESPACE,
    "select_refused": Bound.LIMIT,
    "repost": Bound.IDS,
}
BOUNDED = sorted(name for name, bound in BOUNDS.items() if bound is not Bound.NAMESPACE)


class Ids(NamedTuple):
    """Messages and results that the sentences are asked for."""

    seqs: list[int]
    leased: list[str]
    dead: list[str]
    results: list[str]


@pytest.fixture(scope="module")
def meters(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Answers[str, Meter]]:
    """Fill all databases at once: that is the servers' work, and takes each one processor."""
    folder = tmp_path_factory.mktemp("crowd")
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def fill(kind: str) -> Meter:
            return stack.enter_context(crowded(kind, CROWD, folder))

        yield begin(pool, request, "meter", fill)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def meter(request: pytest.FixtureRequest, meters: Answers[str, Meter]) -> Meter:
    return meters[request.param].result()


@pytest.fixture(scope="module")
def ids(meter: Meter) -> Ids:
    leased, dead = meter.ids(2, MANY), meter.ids(3, MANY)
    assert len(leased) == len(dead) == MANY
    results = [f"r{2 * number}" for number in range(1, MANY + 1)]
    return Ids(
        [seq for seq, _ in leased], [id for _, id in leased], [id for _, id in dead], results
    )


def parameters(meter: Meter, name: str, ids: Ids) -> Parameters:
    """Return what a sentence is asked: the worst there is, everything being due and over."""
    asked: Parameters = {
        "namespace": "n0",
        "queue": "" if name == "next_queue" else "q1",
        "limit": MANY,
        "window": MANY,
        "now": FAR,
        "before": FAR,
        "sent": NOW,
        "token": "lease",
        "until": FAR,
        "state": 1,
        "channel": "taskq",
        "seq": 7,
        "refused": "it is too large",
        "died": NOW + 7,
        "id": "m",
        "worker": "w",
        "incarnation": "i",
        "expires": FAR,
        "beat": b"{}",
    }
    if name in {"select_concluded", "fetch", "forget"}:
        values: list[object] = [*ids.results]
    elif name in {"unsend", "select_held", "delete_held", "locate"}:
        values = [*ids.leased]
    elif name == "select_dead_ids":
        values = [*ids.dead]
    else:
        values = [*ids.seqs]
    spans = Reach(0.0, 0, dict.fromkeys(range(10), NOW)).spans()
    return {**asked, **spans, "array": meter.dialect.array(values)}


def given(name: str, ids: Ids) -> list[Parameters] | None:
    """Return the rows a sentence is given; half of those that are sent exist already."""
    match name:
        case "send":
            new = [f"new{number}" for number in range(MANY // 2)]
            return [
                {
                    **dict.fromkeys(("state", "level", "priority"), 1),
                    "id": id,
                    "queue": "q1",
                    "at": NOW,
                    "head": 0,
                    "max_deliveries": 5,
                    "expires": None,
                    "envelope": b"{}",
                }
                for id in [*ids.leased[: MANY // 2], *new]
            ]
        case "post":
            values = {"queue": "q1", "priority": 5, "max_deliveries": 5, "due": NOW}
            values |= {"expires": None, "envelope": b"{}"}
            return [{"id": id, **values} for id in ids.leased]
        case "move":
            return [moves.lost(seq, 5, 1, 5, NOW) for seq in ids.seqs]
        case "store":
            values = {"run": 1, "state": "SUCCESS", "ttl": 1, "expires": FAR, "payload": b"{}"}
            return [{"id": id, **values} for id in ids.results]
    return None


def budget(meter: Meter, name: str) -> float:
    asked = {Bound.NOTHING: 0, Bound.WORKERS: 20}.get(BOUNDS[name], MANY)
    return meter.unit * (3 * asked + ASIDE)


def test_every_sentence_has_a_bound() -> None:
    assert BOUNDS.keys() == {field.name for field in dataclasses.fields(Statements)}


def test_a_sentence_reads_at_most_three_rows_for_each_it_is_asked_for(
    meter: Meter, ids: Ids
) -> None:
    excessive: dict[tuple[str, str], Reading] = {}
    for kind in meter.kinds:
        meter.learn(kind)
        for name in BOUNDED:
            reading = meter.read(name, parameters(meter, name, ids), given(name, ids))
            if reading.rows > budget(meter, name):
                excessive[kind, name] = reading

    assert excessive == {}


def test_the_meter_notices_a_sentence_that_reads_what_it_was_not_asked_for(
    meter: Meter, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = "SELECT seq FROM taskq_message WHERE sent = 1"
    spoken = dataclasses.replace(meter.dialect.statements, locate=scan)
    monkeypatch.setattr(meter.dialect, "statements", spoken)

    reading = meter.read("locate", parameters(meter, "locate", ids), None)

    assert reading.rows > budget(meter, "locate")


# Rows as short as the crowd's are read as quickly from the table itself, if they are many.
@pytest.mark.skipif(FULL, reason="the full crowd has too many rows that are too short")
def test_the_counts_are_read_from_the_index_alone(meter: Meter, ids: Ids) -> None:
    meter.learn("fresh")

    plan = meter.read("count", parameters(meter, "count", ids), None).plan

    assert "taskq_message_place" in plan
    assert any(word in plan for word in ("Index Only Scan", "COVERING INDEX", "using_index"))
