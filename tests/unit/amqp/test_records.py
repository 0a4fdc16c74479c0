from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import DecodeError
from taskq_amqp.records import Letter, Record, unpack, unpack_letter

instants = st.integers(0, 2**62)
counts = st.integers(0, 2**32 - 1)
records = st.builds(
    Record,
    id=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=128),
    envelope=st.binary(max_size=300),
    priority=st.integers(0, 9),
    max_deliveries=counts,
    sent=instants,
    due=instants,
    rest=instants,
    expires=instants,
    first_released=instants,
    retries=counts,
    losses=counts,
    releases=counts,
    run=counts,
)
words = st.text(max_size=30)


def fields(record: Record) -> list[object]:
    return [getattr(record, name) for name in Record.__struct_fields__]


@given(records)
def test_a_record_comes_back_as_it_was_packed(record: Record) -> None:
    assert fields(unpack(record.pack())) == fields(record)


@given(records, st.from_regex(r"[a-z_]{1,30}", fullmatch=True), words, instants)
def test_a_letter_comes_back_as_it_was_packed(
    record: Record, code: str, detail: str, died: int
) -> None:
    found = unpack_letter(Letter(record, code, detail, died).pack())

    assert (found.code, found.detail, found.died) == (code, detail, died)
    assert fields(found.record) == fields(record)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_told_from_records(body: bytes) -> None:
    for read in (unpack, unpack_letter):
        with pytest.raises(DecodeError):
            read(body)


@given(records, st.integers(0, 60))
def test_a_record_that_is_cut_is_no_record(record: Record, length: int) -> None:
    with pytest.raises(DecodeError):
        unpack(record.pack()[:length])


@pytest.mark.parametrize(("claimed", "expired"), [(9.9, False), (10.0, True), (11.0, True)])
def test_whether_it_has_expired_is_told_by_the_claim(claimed: float, expired: bool) -> None:
    record = Record("id", b"", 5, 5, 0, expires=10_000_000)

    assert record.delivery("q", "token", claimed, claimed + 30).expired is expired


def test_without_a_time_it_never_expires() -> None:
    assert not Record("id", b"", 5, 5, 0).delivery("q", "token", 1e10, 1e10).expired
