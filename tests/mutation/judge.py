"""The kit against one mutant, in a process of its own, up to the first failure.

What comes first is quick: the named examples, the shortest first, then random
sequences, without and with faults, and many clients at once. A step that real
time has a part in is repeated when it fails, as a busy machine must not be taken
for a broken backend.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from hypothesis import Phase, settings

from taskq.plugins import Plugins
from taskq.testing import concurrency, runner  # noqa: F401 - once, and not in each fork
from taskq.testing.machine import profile, run_faulty_machine, run_machine
from taskq.testing.record import LawBroken, Ledger, NotApplicable
from taskq.testing.target import Target
from tests.mutation.subjects import Subject

TIMED: Final = frozenset({"L24", "L28", "R4"})
"""The laws that say how soon."""
ATTEMPTS: Final = 2

Tell = Callable[[dict[str, Any]], None]


class Step(NamedTuple):
    """One thing that the kit does."""

    part: str
    name: str
    laws: tuple[str, ...]
    run: Callable[[Target], None]

    @property
    def label(self) -> str:
        return f"{self.part}: {self.name}"

    @property
    def attempts(self) -> int:
        return ATTEMPTS if self.part == "machine" or TIMED & set(self.laws) else 1


def judge(
    subject: Subject, tree: Path, url: str, *, seconds: Mapping[str, float], tell: Tell
) -> None:
    """Run every step on the package in the folder `tree`, as far as the first that fails.

    `seconds` is how long each step takes when nothing is wrong. `tell` gets a
    note before each step, and one at the end.
    """
    tell({"begin": "loading"})
    try:
        target = _load(subject, tree, url)
    except Exception as refusal:
        tell({"caught": "loading", **_found(refusal)})
        return
    for step in sorted(_steps(), key=lambda step: seconds.get(step.label, 0.0)):
        tell({"begin": step.label})
        started = time.monotonic()
        error = _first_error(step, target)
        if error is not None:
            tell({"caught": step.label, **_found(error)})
            return
        tell({"ended": step.label, "seconds": time.monotonic() - started})
    tell({"survived": True})


def _load(subject: Subject, tree: Path, url: str) -> Target:
    # Bytecode of another mutant could pass for this one's.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    importlib.invalidate_caches()
    name = Path(subject.package).name
    if name in sys.modules:
        raise AssertionError(f"{name} was imported before the mutant was in its place")
    target: Target = Plugins().target(url)
    found = sys.modules[name].__file__
    if found is None or not Path(found).is_relative_to(tree):
        raise AssertionError(f"{name} was imported from {found}, not from {tree}")
    return target


def _steps() -> Iterator[Step]:
    parts = (*runner.examples(runner.BrokerLaws), *runner.examples(runner.StoreLaws))
    for part in parts:
        yield Step("examples", part.name.removeprefix("test_"), part.laws, _run(part.run))
    yield Step("machine", "random sequences", (), _run(_sequences(run_machine)))
    yield Step("machine", "random sequences over faults", (), _run(_sequences(run_faulty_machine)))
    yield Step("concurrency", "threads and processes", (), _run(runner.many_clients))


def _run(run: runner.Run) -> Callable[[Target], None]:
    def step(target: Target) -> None:
        with contextlib.suppress(NotApplicable):
            run(target, Ledger("mutant"), "smoke")

    return step


def _sequences(run: Callable[[Target, Ledger, settings], None]) -> runner.Run:
    # Always the same sequences. Shrinking would find a nicer one, and nobody reads it.
    chosen = profile(
        "default",
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    return lambda target, ledger, _: run(target, ledger, chosen)


def _first_error(step: Step, target: Target) -> Exception | None:
    error = None
    for _ in range(step.attempts):
        try:
            step.run(target)
        except Exception as caught:
            error = caught
        else:
            return None
    return error


def _found(error: BaseException) -> dict[str, Any]:
    """Return what an error tells, and the law that it says is broken, if it does."""
    broken = _law_broken(error)
    shown = broken or error
    text = f"{type(shown).__name__}: {shown}".splitlines() or [""]
    return {"law": broken.law if broken is not None else "", "error": text[0][:300]}


def _law_broken(error: BaseException | None) -> LawBroken | None:
    if error is None or isinstance(error, LawBroken):
        return error
    inner = [*getattr(error, "exceptions", ()), error.__cause__, error.__context__]
    return next((found for one in inner if (found := _law_broken(one))), None)
