"""Brokers that break a promise on purpose, to prove that the harness would see it.

Each wraps a real one and misbehaves in terms of the contract alone, so that
one fault serves every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from taskq.clock import Clock, Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack, Dead, Settlement
from taskq.plugins import Plugins
from taskq.url import Url
from tests.chaos import renewing


class Faulty:
    """Does everything as the real broker does."""

    def __init__(self, inner: Broker, folder: Path) -> None:
        self.inner = inner
        self.folder = folder
        """Shared by all workers with the same fault."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Unfenced(Faulty):
    """Concludes with whichever token is current, as a broker without fencing does."""

    def reserve(self, queues: Sequence[str], /, **options: Any) -> list[Delivery]:
        deliveries = self.inner.reserve(queues, **options)
        for delivery in deliveries:
            (self.folder / delivery.id).write_text(delivery.token)
        return deliveries

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        self.inner.settle([self._renewed(settlement) for settlement in settlements])
        return []

    def _renewed(self, settlement: Settlement) -> Settlement:
        token = (self.folder / settlement.delivery.id).read_text()
        delivery = msgspec.structs.replace(settlement.delivery, token=token)
        return msgspec.structs.replace(settlement, delivery=delivery)


class EarlyAck(Faulty):
    """Concludes before the task runs, as queues that pop do; results come afterwards."""

    def __init__(self, inner: Broker, folder: Path, url: Url) -> None:
        super().__init__(inner, folder)
        self._results = Plugins().open_results(url)

    def reserve(self, queues: Sequence[str], /, **options: Any) -> list[Delivery]:
        deliveries = self.inner.reserve(queues, **options)
        self.inner.settle([Ack(delivery) for delivery in deliveries])
        return deliveries

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        acks = [settlement for settlement in settlements if isinstance(settlement, Ack)]
        self._results.store([ack.result for ack in acks if ack.result is not None])
        return []


class Uncounted(Faulty):
    """Forgets that a lease was lost: the message comes as if for the first time."""

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        deliveries = self.inner.reserve(queues, limit=limit, lease=lease, wait=wait)
        lost = [delivery for delivery in deliveries if delivery.losses]
        self.inner.settle([Dead(delivery, "uncounted") for delivery in lost])
        for delivery in lost:
            self.inner.requeue_dead(delivery.message.queue, [delivery.id])
        return [delivery for delivery in deliveries if not delivery.losses]


class FaultyPlugins(Plugins):
    """Opens brokers with a fault: `unfenced`, `early_ack`, `uncounted`, or `renew: STEP`."""

    def __init__(self, fault: str, folder: Path) -> None:
        super().__init__()
        self._fault = fault
        self._folder = folder

    def open_broker(self, url: str | Url, *, clock: Clock | None = None) -> Broker:
        inner = super().open_broker(url, clock=clock)
        faulty: Faulty
        match self._fault:
            case "unfenced":
                faulty = Unfenced(inner, self._folder)
            case "early_ack":
                faulty = EarlyAck(inner, self._folder, Url.parse(url))
            case "uncounted":
                faulty = Uncounted(inner, self._folder)
            case str() as fault if fault.startswith(renewing.PREFIX):
                renewing.die_at(fault.removeprefix(renewing.PREFIX))
                return inner
            case _:
                raise ValueError(f"no fault is called {self._fault!r}")
        return cast("Broker", faulty)
