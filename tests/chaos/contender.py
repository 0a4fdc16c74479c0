"""The program of those who contend: `python -m tests.chaos.contender URL FOLDER ROLE NUMBER COUNT`.

Each uses the broker itself, begins when the file `go` is there, and reports what
it did and every error it was told of.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.delivery import Heartbeat
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Ack, Release, Retry, Settlement
from taskq.errors import TaskqError
from taskq.plugins import Plugins
from tests.waiting import until

QUEUES: Final = ["one", "two"]
BATCHES: Final = [1, 2, 7, 50]
LEASE: Final = 60.0
AGAIN: Final = 20
"""One in so many is retried, and one released, when it first comes."""


class Contender:
    """One process, and what it reports."""

    def __init__(self, url: str, folder: Path, name: str, count: int) -> None:
        self.broker: Broker = Plugins().open_broker(url, clock=SystemClock())
        self.results: Results = Plugins().open_results(url, clock=SystemClock())
        self.folder = folder
        self.name = name
        self.count = count
        self.done: list[str] = []
        self.lost: list[str] = []
        self.errors: list[str] = []
        self._chance = random.Random(name)

    def run(self, work: Callable[[], None]) -> None:
        """Work until all is over, and report."""
        with closing(self.broker), closing(self.results):
            self.broker.stats()
            (self.folder / f"{self.name}.ready").touch()
            until((self.folder / "go").exists, "all are ready", 60)
            work()
        report = {"done": self.done, "lost": self.lost, "errors": self.errors}
        (self.folder / f"{self.name}.json").write_text(json.dumps(report))

    def send(self) -> None:
        """Send a share of messages, in batches of several sizes; some of them wait."""
        ids = [f"{self.name}-{number}" for number in range(self.count)]
        while ids:
            size = self._chance.choice(BATCHES)
            batch, ids = ids[:size], ids[size:]
            items = [
                Send(Message(id, self._chance.choice(QUEUES), b"{}"), delay=self._delay())
                for id in batch
            ]
            self._try(lambda items=items: self.broker.send(items))
            self.done += batch

    def consume(self) -> None:
        """Claim and settle until the file `over` is there."""
        over = self.folder / "over"
        while not over.exists():
            size = self._chance.choice(BATCHES)
            self._try(lambda size=size: self._take(size))

    def look_after(self) -> None:
        """Do what workers' services do besides, until the file `over` is there."""
        over = self.folder / "over"
        number = 0
        while not over.exists():
            number += 1
            beat = Heartbeat(f"w{number % 5}", "i", "host", 1, 0.0, (), "threads", 1)
            for work in (
                self.broker.poll_schedule,
                self.broker.recover_expired,
                lambda: self.broker.expire_dead(older_than=3600),
                self.results.expire,
                lambda beat=beat: self.broker.send_heartbeat(beat, ttl=0.1),
                self.broker.stats,
            ):
                self._try(work)
        self.done += [str(number)]

    def _take(self, size: int) -> None:
        deliveries = self.broker.reserve(QUEUES, limit=size, lease=LEASE, wait=0.05)
        if deliveries and self._chance.random() < 0.2:
            extension = self.broker.extend(deliveries, lease=LEASE)
            self.lost += [delivery.id for delivery in extension.lost]
        settlements: list[Settlement] = []
        for delivery in deliveries:
            first = not delivery.retries and not delivery.releases
            choice = self._chance.randrange(AGAIN) if first else -1
            if choice == 0:
                settlements.append(Retry(delivery, delay=self._delay()))
            elif choice == 1:
                settlements.append(Release(delivery))
            else:
                record = ResultRecord(
                    delivery.id, 0, "SUCCESS", b"1", self._chance.choice([0.1, 60])
                )
                settlements.append(Ack(delivery, record))
        lost = {delivery.id for delivery in self.broker.settle(settlements)}
        self.lost += sorted(lost)
        acks = [one for one in settlements if isinstance(one, Ack)]
        self.done += [one.delivery.id for one in acks if one.delivery.id not in lost]

    def _delay(self) -> float:
        return self._chance.choice([0.0] * 9 + [0.3])

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except TaskqError as error:
            self.errors.append(f"{type(error).__name__}: {error}")


def main(url: str, folder: Path, role: str, number: int, count: int) -> None:
    """Contend in one of the roles: send, consume or look_after."""
    contender = Contender(url, folder, f"{role}-{number}", count)
    contender.run(getattr(contender, role))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
