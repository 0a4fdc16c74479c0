"""How much a worker holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.worker.tuner import HORIZON, Tuner


def learned(tuner: Tuner, mean: float, tasks: int = 100) -> Tuner:
    """Let the slots have run tasks that took `mean` seconds each."""
    clock = tuner.clocks[0]
    for now in range(1, 20):
        clock.done += tasks
        clock.busy += tasks * mean
        tuner.wanted(waiting=0, idle=0, now=float(now))
    return tuner


@given(
    slots=st.integers(1, 64),
    prefetch=st.integers(1, 10),
    more=st.integers(0, 1000),
    means=st.lists(st.floats(0, 100), max_size=10),
    busy=st.data(),
)
def test_what_is_held_stays_between_prefetch_and_its_maximum(
    slots: int, prefetch: int, more: int, means: list[float], busy: st.DataObject
) -> None:
    tuner = Tuner(slots, prefetch=prefetch, prefetch_max=prefetch + more)
    now = 0.0

    for mean in means:
        now += busy.draw(st.floats(0, 10))
        done = busy.draw(st.integers(0, 1000))
        tuner.clocks[0].done += done
        tuner.clocks[0].busy += done * mean
        idle = busy.draw(st.integers(0, slots))
        wanted = tuner.wanted(waiting=0, idle=idle, now=now)

        assert slots * prefetch <= tuner.held <= slots * (prefetch + more)
        assert wanted == tuner.held - (slots - idle)
        assert 0 <= tuner.low < tuner.held


def test_nothing_waits_while_run_times_are_unknown() -> None:
    tuner = Tuner(8, prefetch=1, prefetch_max=1000)

    assert tuner.wanted(waiting=0, idle=8, now=0.0) == 8
    assert tuner.wanted(waiting=0, idle=0, now=0.0) == 0


def test_short_tasks_are_held_for_as_long_as_the_horizon() -> None:
    tuner = learned(Tuner(8, prefetch=1, prefetch_max=1000), mean=0.001)

    assert tuner.held == pytest.approx(HORIZON / 0.001 * 8, abs=1)


def test_long_tasks_leave_nothing_waiting() -> None:
    tuner = learned(Tuner(8, prefetch=1, prefetch_max=1000), mean=0.06)

    assert tuner.held == 8
    assert tuner.low == 0


def test_equal_values_switch_the_tuning_off() -> None:
    tuner = learned(Tuner(8, prefetch=3, prefetch_max=3), mean=1e-6)

    assert tuner.held == 24


def test_when_nothing_ends_any_more_the_short_past_is_forgotten() -> None:
    tuner = learned(Tuner(8, prefetch=1, prefetch_max=1000), mean=1e-6)
    assert tuner.held == 8000

    tuner.wanted(waiting=0, idle=0, now=19.0 + HORIZON / 2)
    assert tuner.held == 8000
    wanted = tuner.wanted(waiting=0, idle=0, now=19.0 + HORIZON * 2)

    assert (tuner.held, wanted) == (8, 0)


def test_a_worker_that_had_nothing_to_do_remembers_how_short_tasks_were() -> None:
    tuner = learned(Tuner(8, prefetch=1, prefetch_max=1000), mean=1e-6)

    for now in range(20, 40):
        tuner.wanted(waiting=0, idle=8, now=float(now))

    assert tuner.held == 8000
