"""The law of travelling: two journeys are one, and each task runs at its own instant."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq import TaskQ
from taskq.app.task import Task
from taskq.testing.sandbox import Sandbox
from taskq.testing.workbench import TaskRun

from .conftest import URL

Plan = dict[str, Any]


def plans(depth: int = 2) -> st.SearchStrategy[list[Plan]]:
    children = plans(depth - 1) if depth else st.just([])
    seconds = st.integers(0, 40).map(lambda n: n / 4)
    plan = st.fixed_dictionaries(
        {
            "countdown": seconds,
            "expires": st.none() | st.integers(1, 20),
            "priority": st.integers(0, 9),
            "queue": st.sampled_from(["a", "b"]),
            "failures": st.integers(0, 2),
            "retry": seconds,
            "children": children,
        }
    )
    return st.lists(plan, max_size=3)


class Programme:
    """An application whose one task does what it is told, and a log of it."""

    def __init__(self, kind: type[Sandbox] = Sandbox) -> None:
        self.log: list[tuple[str, int, int]] = []
        self.app = TaskQ("law", broker=URL)
        self.box = kind(self.app)
        self._start = self.app.clock.now()
        self._act = self.app.task(name="act", bind=True, max_retries=5)(self._do)

    def play(self, sent: list[Plan], lost: list[float], journeys: list[float]) -> None:
        with self.box:
            self._start = self.app.clock.now()
            self._send("", sent)
            returns = [self._lose(lease) for lease in lost]
            self.ran = [run for length in journeys for run in self.box.travel(length)]
            self.dues = {one.id: one.due for one in self.box.sent()}
            self.dues.update(one for batch in returns for one in batch)
            self.end = self.box.now

    def _send(self, parent: str, plans: list[Plan]) -> None:
        for index, plan in enumerate(plans):
            options = {key: plan[key] for key in ("countdown", "expires", "priority", "queue")}
            self._act.apply_async((plan,), task_id=f"{parent}.{index}", **options)

    def _lose(self, lease: float) -> list[tuple[str, dt.datetime]]:
        """Claim a message and die with it; return its id and when it comes back."""
        end = self.box.now + dt.timedelta(seconds=lease)
        claimed = self.app.broker.reserve(["a", "b"], limit=1, lease=lease)
        return [(delivery.id, end) for delivery in claimed]

    def _do(self, task: Task[..., Any], plan: Plan) -> None:
        request = task.request
        micros = round((self.app.clock.now() - self._start) * 1e6)
        self.log.append((request.id, request.retries, micros))
        if request.retries < plan["failures"]:
            raise task.retry(countdown=plan["retry"])
        self._send(request.id, plan["children"])

    def check(self) -> None:
        """Assert that all that was due has started, in turn, and at its own instant."""
        instants = [run.at for run in self.ran]
        assert instants == sorted(instants)
        before: dict[str, TaskRun] = {}
        for run in self.ran:
            assert run.at == self._due(run.id, before)
            before[run.id] = run
        for id in self.dues:
            over = id in before and before[id].state != "RETRY"
            assert over or self._due(id, before) > self.end

    def _due(self, id: str, before: dict[str, TaskRun]) -> dt.datetime:
        last = before.get(id)
        if last is None:
            return self.dues[id]
        return last.at + dt.timedelta(seconds=last.args[0]["retry"])


@given(
    sent=plans(),
    lost=st.lists(st.integers(1, 40).map(lambda n: n / 4), max_size=2),
    journeys=st.lists(st.integers(0, 60).map(lambda n: n / 8), max_size=6),
)
def test_two_journeys_are_one(sent: list[Plan], lost: list[float], journeys: list[float]) -> None:
    parts, whole = Programme(), Programme()

    parts.play(sent, lost, [0, *journeys])
    whole.play(sent, lost, [sum(journeys)])

    compare(parts, whole)


def compare(parts: Programme, whole: Programme) -> None:
    """Assert that a journey in parts was the same as in one, and both were in order."""
    assert parts.log == whole.log
    for key in ("id", "state", "retries"):
        assert [getattr(run, key) for run in parts.ran] == [getattr(run, key) for run in whole.ran]
    parts.check()
    whole.check()


class Jumping(Sandbox):
    """Goes there in one leap."""

    def travel(self, duration: Any, *, propagate: bool = True) -> list[TaskRun]:
        self.clock.advance(duration)
        return self.run(propagate=propagate)


class Hurried(Sandbox):
    """Does not look what is due on arrival."""

    def travel(self, duration: Any, *, propagate: bool = True) -> list[TaskRun]:
        end = self.clock.after(duration)
        ran = self.run()
        while self.clock.now() < end:
            self.clock.move_to(min(self._next_change(), end))
            if self.clock.now() < end:
                ran += self.run()
        return ran


class Stepping(Sandbox):
    """Looks twice a second, whether anything is due then or not."""

    def travel(self, duration: Any, *, propagate: bool = True) -> list[TaskRun]:
        ran = self.run()
        while duration > 0:
            self.clock.advance(min(duration, 0.5))
            duration -= 0.5
            ran += self.run()
        return ran


LATER: Plan = {
    "countdown": 1.25, "expires": None, "priority": 5, "queue": "a", "failures": 1, "retry": 2.5,
    "children": [],
}  # fmt: skip
waits = pytest.mark.parametrize(
    ("plan", "lost"),
    [(LATER, []), ({**LATER, "countdown": 0.0}, [1.25])],
    ids=["for its time", "for the end of a lease"],
)


@waits
@pytest.mark.parametrize("kind", [Jumping, Hurried, Stepping])
def test_the_law_finds_out_a_sandbox_that_breaks_it(
    kind: type[Sandbox], plan: Plan, lost: list[float]
) -> None:
    parts, whole = Programme(kind), Programme(kind)

    parts.play([plan], lost, [1.25, 2.5])
    whole.play([plan], lost, [3.75])

    with pytest.raises(AssertionError):
        compare(parts, whole)


@waits
def test_the_honest_one_is_not_found_out(plan: Plan, lost: list[float]) -> None:
    parts, whole = Programme(), Programme()

    parts.play([plan], lost, [1.25, 2.5])
    whole.play([plan], lost, [3.75])

    assert whole.log == [(".0", 0, 1_250_000), (".0", 1, 3_750_000)]
    compare(parts, whole)
