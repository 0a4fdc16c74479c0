"""Makes messages, settlements and results of what was drawn; no two are alike."""

from __future__ import annotations

from typing import Any

from taskq.contract.delivery import Delivery
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.machine.strategies import ITEM, SETTLEMENT
from taskq.testing.model.entry import Span


class Maker:
    """Numbers what it makes, so that contents tell where they came from."""

    def __init__(self) -> None:
        self._made = 0

    def number(self) -> int:
        """Return a number that was not given out before."""
        self._made += 1
        return self._made

    def item(self, given: dict[str, Any], again: str | None, now: Span) -> Send:
        """Return something to send: a new message, or one under the id `again`."""
        given = ITEM | given
        number = self.number()
        message = Message(
            again or f"m{number}",
            given["queue"],
            b"%d" % number,
            given["priority"],
            given["max_deliveries"],
        )
        eta, life = given["eta"], given["life"]
        absolute = given["absolute"] and life is not None
        return Send(
            message,
            delay=0.0 if eta is not None else given["delay"],
            eta=None if eta is None else now.early + eta,
            ttl=None if absolute else life,
            expires=now.early + life if absolute else None,
        )

    def settlement(self, delivery: Delivery, choice: dict[str, Any]) -> Settlement:
        """Return a way to conclude a delivery."""
        choice = SETTLEMENT | choice
        result, delay = self._result(delivery, choice), choice["delay"]
        match choice["kind"]:
            case "ack":
                return Ack(delivery, result, self._successors(delivery, choice))
            case "retry":
                envelope = b"again %d" % self.number() if choice["changed"] else None
                return Retry(delivery, delay, envelope, result)
            case "release":
                return Release(delivery, delay)
        return Dead(delivery, "failed", f"of {delivery.token}", result)

    def record(self, id: str, run: int, ttl: float) -> ResultRecord:
        """Return a result to store."""
        return ResultRecord(id, run, "SUCCESS", b"stored %d" % self.number(), ttl)

    def _result(self, delivery: Delivery, choice: dict[str, Any]) -> ResultRecord | None:
        if choice["ttl"] is None:
            return None
        state = "RETRY" if choice["kind"] == "retry" else "SUCCESS"
        payload = b"result %d" % self.number()
        return ResultRecord(delivery.id, delivery.run, state, payload, choice["ttl"])

    def _successors(self, delivery: Delivery, choice: dict[str, Any]) -> tuple[Send, ...]:
        successors = []
        for _ in range(choice["successors"]):
            number = self.number()
            message = Message(f"m{number}", delivery.message.queue, b"next %d" % number)
            successors.append(Send(message, delay=choice["delay"]))
        return tuple(successors)
