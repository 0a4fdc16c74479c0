"""How records are written into streams, and what is known of a stretch of one."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import spec
from pika.compat import long
from uuid_utils import UUID, uuid4

from taskq.clock import MICROSECONDS
from taskq.contract.results import ResultRecord
from taskq.errors import DecodeError
from taskq.ids import new_id
from taskq_amqp.results.streams import (
    PARCEL_BYTES,
    PARCEL_RECORDS,
    SHARDS,
    Entry,
    born,
    forgotten,
    joined,
    later,
    mark,
    pack,
    parcels,
    shard_of,
    stored,
    stream_of,
    token_of,
    unpack,
    verdict,
)
from taskq_amqp.results.tail import ALWAYS, MARGIN, NEVER, WEIGHT, Block, Index, Tail
from taskq_amqp.transport.wire import ProtocolBroken, offset_of


def entry(
    id: str = "m", run: int = 0, *, at: int = 0, ttl: int = 100, payload: bytes = b""
) -> Entry:
    return Entry(id, run, "SUCCESS", at, ttl, payload)


# -- The layout, which others have written and will read


def test_an_id_stays_in_its_stream_for_ever() -> None:
    assert SHARDS == 8
    assert [shard_of(id) for id in ("m", "0", "018f", "report:2024")] == [0, 1, 4, 4]
    assert stream_of("shop", 5) == "tq1/shop/results/5"


def test_records_are_written_as_they_always_were() -> None:
    kept = stored(ResultRecord("m", 3, "SUCCESS", b"\x00p", 1.5), 1_700_000_000_000_000)

    packed = pack([kept, forgotten("n", 7)])

    assert packed == bytes.fromhex(
        "01 92 96 a1 6d 03 a7 53 55 43 43 45 53 53 cf 00 06 0a 24 18 1e 40 00 ce 00 16 e3 60"
        "c4 02 00 70 96 a1 6e 00 a0 07 00 c4 00"
    )
    assert unpack(packed) == [kept, forgotten("n", 7)]


def test_fields_that_a_newer_version_adds_are_passed_over() -> None:
    one = pack([entry()])
    more = one.replace(b"\x96", b"\x97", 1) + b"\xc0"

    assert unpack(more) == unpack(one)


@pytest.mark.parametrize("body", [b"", b"\x02\x90", b"\x01", b"\x01\x91\x01", b"hello", mark(b"x")])
def test_what_is_not_ours_or_newer_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(body)


def test_a_mark_is_told_from_records() -> None:
    assert token_of(mark(b"t")) == b"t"
    assert token_of(pack([entry()])) is None
    assert token_of(b"") is None


@pytest.mark.parametrize("offset", [0, 1, 2**31, 2**40])
def test_a_delivery_tells_its_place(offset: int) -> None:
    headers = {"x-other": "text", "x-stream-offset": long(offset)}
    properties = spec.BasicProperties(headers=headers, delivery_mode=2)

    assert offset_of(b"".join(properties.encode())) == offset


def test_a_delivery_without_a_place_is_refused() -> None:
    with pytest.raises(ProtocolBroken):
        offset_of(b"".join(spec.BasicProperties(delivery_mode=2).encode()))


def test_the_records_of_a_stream_go_together_and_in_order() -> None:
    entries = [entry(f"m{number}", number) for number in range(100)]

    found = parcels("shop", entries)

    assert len({parcel.key for parcel in found}) == len(found) == SHARDS
    for parcel in found:
        came = unpack(parcel.body)
        assert {stream_of("shop", shard_of(one.id)) for one in came} == {parcel.key}
        assert [one.run for one in came] == sorted(one.run for one in came)
    assert sum(len(unpack(parcel.body)) for parcel in found) == len(entries)


def test_a_message_of_records_is_no_larger_than_it_need_be() -> None:
    small = [entry("m") for _ in range(PARCEL_RECORDS + 1)]
    large = [entry("m", payload=b"x" * size) for size in (PARCEL_BYTES, 9, 0)]

    assert [len(unpack(one.body)) for one in parcels("n", small)] == [PARCEL_RECORDS, 1]
    assert [len(unpack(one.body)) for one in parcels("n", large)] == [1, 2]
    assert parcels("n", []) == []


def test_a_ttl_without_end_can_be_written() -> None:
    for ttl in (float("inf"), 1e30, -5.0, 0.0):
        kept = stored(ResultRecord("m", 0, "SUCCESS", b"", ttl), 1_700_000_000_000_000)
        assert unpack(pack([kept])) == [kept]
        assert kept.alive(1_700_000_000_000_001) == (ttl > 0)


def test_only_an_id_with_a_time_in_it_tells_when_it_was_made() -> None:
    made = born(new_id())

    assert made is not None
    assert abs(made - time.time()) < 60
    assert born("017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == 1645557742.0
    for id in (str(uuid4()), "m", "", "x" * 14 + "7" + "x" * 21, str(UUID(int=0))):
        assert born(id) is None


# -- What holds

RUNS = st.integers(0, 3)
STEPS = st.lists(
    st.tuples(st.integers(0, 2), RUNS, st.sampled_from([0, 2, 5, 1000]), st.integers(0, 3)),
    max_size=25,
)
"""Of each append the id, the run (0: it is forgotten), the ttl, and the time since the last."""


def history(steps: list[tuple[int, int, int, int]]) -> list[Entry]:
    now = 0
    found: list[Entry] = []
    for id, run, ttl, pause in steps:
        now += pause * MICROSECONDS
        name = f"m{id}"
        kept = entry(name, run, at=now, ttl=ttl * MICROSECONDS, payload=b"%d" % len(found))
        found.append(kept if run else forgotten(name, now))
    return found


def truth(entries: list[Entry], id: str) -> Entry | None:
    """Return what holds when all is appended, as the laws say it."""
    held: Entry | None = None
    for one in entries:
        if one.id == id:
            held = later(held, one)
    return held


def readable(one: Entry | None, now: int) -> Entry | None:
    return one if one is not None and one.alive(now) else None


@given(STEPS, st.integers(0, 25))
@example([(0, 2, 2, 0), (0, 2, 0, 0), (0, 1, 0, 0)], 1)
def test_a_chain_decides_as_all_its_entries_do(
    steps: list[tuple[int, int, int, int]], cut: int
) -> None:
    entries = [one for one in history(steps) if one.id == "m0"]
    older, newer = entries[:cut], entries[cut:]

    chain: tuple[Entry, ...] = ()
    for one in newer:
        chain = joined(chain, one)
    whole = verdict((*older, *chain))

    now = entries[-1].stored if entries else 0
    assert readable(whole, now) == readable(truth(entries, "m0"), now)


def test_a_chain_of_one_id_stored_again_and_again_is_short() -> None:
    chain: tuple[Entry, ...] = ()
    for number in range(1000):
        chain = joined(chain, entry(run=number % 7, at=number, ttl=5))

    assert len(chain) <= 7


# -- A stretch


@given(STEPS, st.integers(0, 25), st.integers(0, 25), st.integers(1, 12))
def test_what_a_tail_covers_it_knows(
    steps: list[tuple[int, int, int, int]], start: int, low: int, room: int
) -> None:
    entries = history(steps)
    start = min(start, len(entries))
    low = min(low, start)
    ids = ["m0", "m1"]
    tail = Tail(room * (WEIGHT + 2))
    for offset in range(start, len(entries)):
        tail.take(offset, [entries[offset]])
    tail.take(len(entries), ())

    tail.ask(ids)
    high = tail.start
    for edge in (min(low, high), 0):
        index = Index()
        for offset in range(edge, high):
            index.add(offset, entries[offset])
        tail.prepend(Block(edge, high, index), ids)
        high = edge
    tail.answer(ids, ALWAYS)

    now = entries[-1].stored if entries else 0
    for id in ids:
        assert tail.covers(id)
        assert readable(tail.find(id), now) == readable(truth(entries, id), now)


def test_what_was_read_is_passed_over_when_it_comes_again() -> None:
    tail = Tail()
    tail.take(7, [entry("a", 1)])
    tail.take(8, [entry("a", 2, payload=b"new")])

    tail.resume(0.0)
    tail.take(7, [entry("a", 3)])
    tail.take(8, [entry("b")])

    found = tail.find("a")
    assert found is not None
    assert found.payload == b"new"
    assert tail.find("b") is None
    assert tail.start == 7
    assert tail.next == 9


def test_a_gap_begins_a_new_stretch() -> None:
    tail = Tail()
    tail.take(7, [entry("a")])
    tail.resume(50.0)
    tail.take(9, [entry("b")])

    assert tail.find("a") is None
    assert tail.since == 50.0
    assert (tail.start, tail.next) == (9, 10)


def test_nothing_is_covered_before_anything_was_read() -> None:
    tail = Tail()
    tail.reset(0.0)

    assert not tail.covers(new_id())
    assert tail.looked_since("m") == NEVER


def test_from_its_first_record_on_a_stream_is_covered_whole() -> None:
    tail = Tail()
    tail.take(0, [entry("a")])

    assert tail.covers("m")
    assert tail.looked_since("m") == ALWAYS


def test_an_id_that_tells_its_age_is_covered_from_a_while_before_it_was_made() -> None:
    id = new_id()
    made = born(id)
    assert made is not None
    tail = Tail()
    tail.reset(made - MARGIN + 1)
    tail.take(7, ())
    assert not tail.covers(id)

    tail.reset(made - MARGIN)
    tail.take(7, ())
    assert tail.covers(id)
    assert not tail.covers("plain")


def test_a_full_index_drops_the_oldest_and_says_so() -> None:
    tail = Tail(3 * (WEIGHT + 1))
    for number in range(5):
        tail.take(number, [entry(f"m{number}", at=number * MICROSECONDS, payload=b"x")])

    assert [tail.find(f"m{number}") is not None for number in range(5)] == [False] * 2 + [True] * 3
    assert tail.start == 2
    assert tail.since == 1.0
    assert tail.full
    assert tail.covers("plain")
    assert tail.looked_since("plain") == 1.0


def test_of_a_block_that_does_not_fit_only_what_was_asked_for_is_kept() -> None:
    tail = Tail(3 * WEIGHT)
    tail.reset(9.0)
    tail.take(10, [entry("new")])
    index = Index()
    for number in range(5):
        index.add(number, entry(f"m{number}"))
    tail.ask(["m3", "none"])
    tail.prepend(Block(0, 10, index, since=4.0), ["m3", "none"])
    tail.answer(["m3", "none"], 4.0)

    assert tail.find("m3") is not None
    assert tail.find("m2") is None
    assert tail.covers("none")
    assert tail.looked_since("none") == 4.0
    assert tail.start == 10


def test_a_search_without_an_end_covers_nothing() -> None:
    tail = Tail()
    tail.take(10, [entry("new")])
    tail.ask(["m"])
    tail.unask(["m"])

    assert not tail.covers("m")
