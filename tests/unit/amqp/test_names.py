from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_amqp.names import (
    LONGEST,
    STEPS,
    UNIT,
    Names,
    arrival,
    level_of,
    pattern,
    route,
    units_of,
)

queues = st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True)
units = st.integers(1, (1 << STEPS) - 1)
levels = st.integers(0, 19)


def matches(key: str, binding: str) -> bool:
    """A topic exchange's rule: a star is one word, a hash any number of them."""
    regex = re.escape(binding).replace(r"\*", r"[^.]*").replace(r"\#", ".*")
    return re.fullmatch(regex.replace(r"\..*", r"(\..*)?"), key) is not None


@given(units, levels, queues)
def test_the_way_of_a_delay_is_the_steps_of_its_digits(delay: int, level: int, queue: str) -> None:
    key = route(delay, level, queue)

    for step in range(STEPS):
        digit = delay >> step & 1
        assert matches(key, pattern(step, digit, f"*.{queue}"))
        assert not matches(key, pattern(step, 1 - digit, f"*.{queue}"))
        assert matches(key, pattern(step, digit, "#"))
    assert matches(key, arrival(level, queue))
    assert not matches(key, arrival((level + 1) % 20, queue))


@given(units, levels, queues, queues)
def test_a_message_arrives_at_no_other_queue(
    delay: int, level: int, queue: str, other: str
) -> None:
    if queue != other:
        assert not matches(route(delay, level, queue), arrival(level, other))


@given(st.floats(0.000_001, LONGEST))
def test_a_delay_is_never_shorter_than_asked_and_at_most_one_unit_longer(delay: float) -> None:
    lasts = units_of(delay) * UNIT / 1000

    assert delay - 0.000_001 <= lasts <= delay + UNIT / 1000 + 0.000_001


@pytest.mark.parametrize(("delay", "expected"), [(0.0, 0), (-5.0, 0), (1e9, (1 << STEPS) - 1)])
def test_there_is_a_shortest_and_a_longest_way(delay: float, expected: int) -> None:
    assert units_of(delay) == expected


def test_the_steps_last_as_long_as_their_digits_say() -> None:
    names = Names("n")

    for step in range(STEPS):
        arguments = names.later_arguments(step)
        assert arguments["x-message-ttl"] == UNIT * 2**step
        assert arguments["x-dead-letter-exchange"] == names.step(step - 1)
    assert names.step(-1) == names.due


def test_returned_messages_stand_before_the_others_of_their_priority_alone() -> None:
    ranks = [level_of(p, returned=r) for p in range(10) for r in (False, True)]

    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 20


def test_the_longest_names_fit_into_amqp() -> None:
    names = Names("n" * 100)
    queue = "q" * 128

    made = [names.ready(queue, 19), names.later(queue, STEPS - 1), names.dead(queue)]
    assert max(len(name) for name in made) <= 255
    assert len(route((1 << STEPS) - 1, 19, queue)) <= 255


namespaces = st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True)


def all_names(namespace: str, queue: str) -> set[str]:
    names = Names(namespace)
    made = {names.dead(queue), names.lease(queue)}
    made |= {names.ready(queue, level) for level in range(20)}
    made |= {names.later(queue, step) for step in range(STEPS)}
    return {*made, *names.fixed_queues, *names.exchanges}


@given(namespaces, queues, namespaces, queues)
def test_no_two_namespaces_share_a_name(first: str, queue: str, second: str, other: str) -> None:
    if first != second:
        assert not all_names(first, queue) & all_names(second, other)


@pytest.mark.parametrize(
    ("namespace", "queue"), [("a", "catalog"), ("a.ready.5", "x"), ("a.ready", "5.catalog")]
)
def test_no_name_can_be_made_to_look_like_another(namespace: str, queue: str) -> None:
    assert not all_names(namespace, queue) & all_names("a.ready.5.catalog", "q")
    assert len(all_names(namespace, queue)) == 2 + 20 + STEPS + 6 + 2 + STEPS
