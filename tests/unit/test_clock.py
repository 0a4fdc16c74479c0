from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.clock import SystemClock, VirtualClock, from_microseconds, to_microseconds
from taskq.ids import new_id
from taskq.names import is_name


def test_a_frozen_clock_moves_by_advance_alone() -> None:
    clock = VirtualClock(frozen=True)
    start = clock.now()

    clock.advance(2.5)
    clock.advance(0)

    assert clock.now() == start + 2.5
    assert clock.offset == 2.5


def test_a_running_clock_is_the_machines_plus_its_offset() -> None:
    clock = VirtualClock()

    clock.advance(3600)

    assert time.time() + 3600 - 60 < clock.now() < time.time() + 3600 + 60


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        VirtualClock().advance(-1)


def test_the_systems_clock_has_no_offset() -> None:
    assert SystemClock().offset == 0.0
    assert SystemClock().now() <= time.time()


@given(st.integers(0, 2**52))
def test_microseconds_survive_being_seconds(value: int) -> None:
    assert to_microseconds(from_microseconds(value)) == value


def test_ids_are_legal_names_that_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert all(is_name(id) and id[14] == "7" for id in ids)


def test_children_of_a_fork_make_ids_of_their_own() -> None:
    new_id()
    ids: list[str] = []

    for _ in range(3):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, "\n".join(new_id() for _ in range(50)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        ids += os.read(reader, 65536).decode().split("\n")
        os.close(reader)
        os.close(writer)

    tails = [id.replace("-", "")[-8:] for id in ids]
    assert len(set(ids)) == len(ids) == 150
    assert len(set(tails)) == 150
