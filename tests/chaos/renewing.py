"""Death of a holder at each step of renewing a long lease on RabbitMQ."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final, NoReturn

from taskq_amqp.leases import Leases

PREFIX: Final = "renew: "
STEPS: Final = ("begun", "opened", "copied", "delivered", "acknowledged")
"""In their order; at "copied" and "delivered" there are two of the message."""


def die_at(step: str) -> None:
    """Let this process die when it first comes to a step.

    Raises:
        ValueError: there is no such step.
    """
    match step:
        case "begun":
            _before("_own_channel")
        case "opened":
            _after("_own_channel")
        case "copied":
            _before("_await")
        case "delivered":
            _after("_await")
        case "acknowledged":
            _after("renew", lambda leases: bool(leases._channel))
        case _:
            raise ValueError(f"renewing has no step {step!r}")


def _before(name: str) -> None:
    setattr(Leases, name, lambda *_: _die())


def _after(name: str, due: Callable[[Any], bool] = lambda _: True) -> None:
    whole = getattr(Leases, name)

    def method(self: Leases, *args: Any) -> Any:
        done = whole(self, *args)
        if due(self):
            _die()
        return done

    setattr(Leases, name, method)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")
