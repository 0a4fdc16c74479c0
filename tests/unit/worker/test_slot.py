"""A slot concludes what it takes, and gives back what it took too late."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack, Settlement
from taskq.worker.executor import Executor
from taskq.worker.pool import Slot
from taskq.worker.shelf import Held
from taskq.worker.tuner import SlotClock

from .bench import Bench


def run_slot(bench: Bench, deliveries: list[Delivery], left: Callable[[Delivery], float]) -> None:
    """Let a slot take these, which have so much of their lease left, and settle them."""
    now = time.monotonic()
    batch = [Held(delivery, now, now + left(delivery)) for delivery in deliveries]
    bench.shelf.record(batch)
    bench.shelf.add(batch)

    def conclude(settlement: Settlement) -> None:
        bench.settler.put(settlement)
        if not bench.shelf.waiting:
            bench.shelf.close()

    Slot(bench.shelf, Executor(bench.app, "w"), conclude, SlotClock()).run()
    bench.settler.run_once()


def test_what_lapsed_on_the_shelf_comes_back_without_a_loss(bench: Bench) -> None:
    ran: list[str] = []
    task = bench.app.task(name="note")(ran.append)
    task.delay("late")
    task.delay("in time")
    late, _ = deliveries = bench.claim()

    run_slot(bench, deliveries, lambda delivery: -0.001 if delivery is late else 30.0)

    (again,) = bench.claim()
    assert ran == ["in time"]
    assert (again.id, again.losses, again.releases) == (late.id, 0, 1)
    assert bench.shelf.held() == []


def test_what_was_reclaimed_meanwhile_is_left_to_its_new_holder(bench: Bench) -> None:
    ran: list[str] = []
    bench.app.task(name="note")(ran.append).delay("late")
    (late,) = bench.claim()
    bench.clock.advance(31.0)
    (new,) = bench.claim()

    run_slot(bench, [late], lambda delivery: -0.001)

    assert ran == []
    assert bench.app.broker.settle([Ack(new)]) == []
    assert bench.empty
