"""Work that tests ask for, done by others, and several at once, before they come to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeAlias, TypeVar

import pytest

Subject = TypeVar("Subject")
Answer = TypeVar("Answer")
Answers: TypeAlias = dict[Subject, Future[Answer]]


@contextmanager
def processes(
    count: int, prepare: Callable[[], object] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Lend processes that inherit nothing; `prepare` is the first that each of them does.

    What they have not begun at the end they leave.
    """
    with ProcessPoolExecutor(count, get_context("spawn"), _prepare, (prepare,)) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


def _prepare(further: Callable[[], object] | None) -> None:
    # As in the process that asks.
    warnings.simplefilter("error")
    if further is not None:
        further()


def begin(
    pool: Executor,
    request: pytest.FixtureRequest,
    parameter: str,
    work: Callable[[Subject], Answer],
) -> Answers[Subject, Answer]:
    """Begin to work on the subjects of those tests of a file that use the fixture of `request`.

    A subject is a test's parameter of that name. Tests that have none only use the fixture
    to have the work begun.
    """
    here = [item for item in request.session.items if item.path == request.path]
    mine = [item for item in here if request.fixturename in getattr(item, "fixturenames", ())]
    calls = [item.callspec for item in mine if hasattr(item, "callspec")]
    subjects = dict.fromkeys(call.params[parameter] for call in calls if parameter in call.params)
    return {subject: pool.submit(work, subject) for subject in subjects}
