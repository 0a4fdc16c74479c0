"""Workers that live or end wrongly: a broken service, housekeeping, or the worker as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskq.contract.settlement import Release
from taskq.errors import BrokerError
from taskq.worker.housekeeping import HeartbeatService, Reaper
from taskq.worker.service import Service
from taskq.worker.worker import Worker
from tests.simulation.plan import QUEUES

from .mutant import breaks


@breaks("what dies of a bug is named, and nothing else dies", Service, "guard")
def dies_in_silence(self: Service, part: Callable[[], Any]) -> Any:
    try:
        return part()
    except BaseException:
        return None


@breaks("all that is due is done", Service, "step")
def gives_up_after_trouble(self: Service) -> float:
    try:
        return self.run_once()
    except BrokerError:
        return 1e9


@breaks("a worker that ended is not listed", HeartbeatService, "end")
def leaves_without_a_word(self: HeartbeatService) -> None:
    return


@breaks("a worker that lives is listed", HeartbeatService, "run_once")
def beats_never(self: HeartbeatService) -> float:
    return 5.0


@breaks("a worker that stops holds nothing back", Worker, "stop_claiming")
def stops_with_a_full_shelf(self: Worker) -> None:
    self.claimer.stop()
    self._broker.interrupt()


@breaks("a stopping worker claims nothing", Worker, "stop_claiming")
def claims_while_it_stops(self: Worker) -> None:
    for held in self.shelf.take_back(float("inf")):
        self.settler.put(Release(held.delivery))
    self.shelf.close()


@breaks("only a worker that ends gives back what runs, and tells it", Worker, "abandon")
def abandons_without_a_word(self: Worker) -> None:
    for held in self.shelf.unfinished():
        self.settler.put(Release(held.delivery))


@breaks("a worker that ended holds nothing", Worker, "abandon")
def abandons_without_a_release(self: Worker) -> None:
    for held in self.shelf.unfinished():
        held.lose()


reap = Reaper.run_once


@breaks("no task is lost", Reaper, "run_once")
def reaps_what_waits(self: Reaper) -> float:
    for queue in QUEUES:
        self._broker.purge(queue)  # type: ignore[attr-defined]  # it has the whole client
    return reap(self)


@breaks("a dead letter is kept", Reaper, "run_once")
def reaps_all_that_is_dead(self: Reaper) -> float:
    self._broker.expire_dead(older_than=0.0, limit=1000)
    return reap(self)


@breaks("nothing is left", Reaper, "run_once")
def reaps_no_results(self: Reaper) -> float:
    self._results = None
    return reap(self)
