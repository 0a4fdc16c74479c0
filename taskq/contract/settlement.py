"""The four ways to conclude a delivery.

Each carries the delivery, and with it the token that proves the lease. A
settlement whose lease was lost changes nothing at all: no state, no counter,
no result, no successor.

Where results live elsewhere, the worker stores them before it settles, and no
settlement carries one.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord


class Ack(msgspec.Struct, frozen=True):
    """Done. The message is gone; `result` is stored and `send` is sent in the same step."""

    delivery: Delivery
    result: ResultRecord | None = None
    send: tuple[Send, ...] = ()


class Retry(msgspec.Struct, frozen=True):
    """Again, later: same id, `retries` and `run` one higher, at the tail of its level when due."""

    delivery: Delivery
    delay: Seconds = 0.0
    envelope: bytes | None = None
    """Replaces the message's envelope, where given."""
    result: ResultRecord | None = None


class Release(msgspec.Struct, frozen=True):
    """Not started: back to the head of its level (after `delay`); `releases` one higher."""

    delivery: Delivery
    delay: Seconds = 0.0


class Dead(msgspec.Struct, frozen=True):
    """Given up: kept as a dead letter with the reason."""

    delivery: Delivery
    code: str
    detail: str = ""
    result: ResultRecord | None = None


Settlement: TypeAlias = Ack | Retry | Release | Dead
