"""Workers that conclude wrongly: a broken settler, executor or retry policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from taskq.app.retry import RetryPolicy
from taskq.contract.delivery import Delivery
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Release, Settlement
from taskq.errors import ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq.worker.executor import Executor
from taskq.worker.settler import Settler

from .mutant import breaks

settle = Settler._settle
conclude = Settler._conclude
isolate = Settler._isolate


@breaks("a lease is lost for a reason only", Settler, "_settle")
def forgets_what_may_have_been_carried_out(self: Settler, batch: Sequence[Settlement]) -> None:
    try:
        settle(self, batch)
    except OutcomeUnknown:
        self._shelf.forget([settlement.delivery for settlement in batch])


@breaks("a lease is lost for a reason only", Settler, "_settle")
def drops_what_could_not_be_sent(self: Settler, batch: Sequence[Settlement]) -> None:
    try:
        settle(self, batch)
    except ConnectionFailed:
        self._shelf.forget([settlement.delivery for settlement in batch])


@breaks("all that is due is done", Settler, "_settle")
def drops_and_holds_on(self: Settler, batch: Sequence[Settlement]) -> None:
    try:
        settle(self, batch)
    except (ConnectionFailed, OutcomeUnknown):
        return


@breaks("a lease is lost for a reason only", Settler, "_settle")
def forgets_before_it_has_settled(self: Settler, batch: Sequence[Settlement]) -> None:
    self._shelf.forget([settlement.delivery for settlement in batch])
    settle(self, batch)


@breaks("all that is due is done", Settler, "_isolate")
def waits_for_the_refused(self: Settler) -> None:
    raise ServerRefused("the whole batch again")


@breaks("the result is stored with its conclusion", Settler, "_conclude")
def settles_before_the_result_is_stored(
    self: Settler, batch: Sequence[Settlement]
) -> list[Delivery]:
    if self._results is None:
        return conclude(self, batch)
    lost = self._broker.settle([_without_result(settlement) for settlement in batch])
    records = [_result(settlement) for settlement in batch]
    self._results.store([record for record in records if record is not None])
    return lost


@breaks("the result is stored with its conclusion", Settler, "_conclude")
def keeps_no_results(self: Settler, batch: Sequence[Settlement]) -> list[Delivery]:
    return self._broker.settle([_without_result(settlement) for settlement in batch])


def _result(settlement: Settlement) -> ResultRecord | None:
    return None if isinstance(settlement, Release) else settlement.result


def _without_result(settlement: Settlement) -> Settlement:
    if isinstance(settlement, Release):
        return settlement
    return msgspec.structs.replace(settlement, result=None)


# The executor


@breaks("what has expired is not run", Executor, "_prepare")
def runs_what_has_expired(self: Executor, delivery: Delivery) -> Any:
    return prepare(self, msgspec.structs.replace(delivery, expired=False))


prepare = Executor._prepare
retry = Executor._retry


@breaks("the result is stored with its conclusion", Executor, "_retry")
def keeps_no_result_of_a_retry(self: Executor, *arguments: Any) -> Settlement:
    return _without_result(retry(self, *arguments))


@breaks("it is concluded as it ran", RetryPolicy, "exhausted")
def retries_once_too_often(self: RetryPolicy, retries: int) -> bool:
    return self.max_retries is not None and retries > self.max_retries


delay = RetryPolicy.delay


@breaks("a retry waits as its task says", RetryPolicy, "delay")
def doubles_what_was_stated(self: RetryPolicy, *arguments: Any) -> float:
    return 2 * delay(self, *arguments)


bury = Executor._bury


@breaks("a dead letter says why", Executor, "_bury")
def gives_one_reason_for_all(self: Executor, *arguments: Any, **options: Any) -> Settlement:
    letter = bury(self, *arguments, **options)
    return msgspec.structs.replace(letter, code="failed")


record = Executor._record


@breaks("the result is that of the run that counted", Executor, "_record")
def keeps_results_for_a_moment(self: Executor, *arguments: Any) -> ResultRecord:
    return msgspec.structs.replace(record(self, *arguments), ttl=20.0)
