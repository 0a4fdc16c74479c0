"""Handing messages to a broker: which it took, which it will not, and which may wait.

A refusal alone does not tell whether a message is at fault or the server, whose
memory may be full. So what was refused is narrowed down to single messages, and
one is at fault if the broker refuses it, takes another, and refuses it again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.message import Send
from taskq.errors import Closed, ConnectionFailed, OutcomeUnknown, SendError, TaskqError

_SHORTEST: Final[Seconds] = 0.001


@dataclasses.dataclass(slots=True)
class Handover:
    """What became of messages, by their ids. Those in neither are to be handed over again."""

    accepted: set[str] = dataclasses.field(default_factory=set)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    """Those at fault, and what the broker said of each."""
    trouble: TaskqError | None = None
    """Why others were not accepted: the way to the broker, or the broker as a whole."""


def hand_over(broker: Broker, items: Sequence[Send], *, timeout: Seconds) -> Handover:
    """Send messages in order, within `timeout` seconds.

    What may have been accepted counts as not accepted: with the same id it can
    be sent again.

    Raises:
        Closed: the broker's client was closed.
    """
    attempt = _HandingOver(broker, time.monotonic() + timeout)
    if attempt.send_all(items):
        attempt.send_suspects()
    return attempt.result


class _HandingOver:
    def __init__(self, broker: Broker, deadline: float) -> None:
        self.result = Handover()
        self._broker = broker
        self._deadline = deadline
        self._doubted: list[Send] = []
        """Refused, each alone, and none was accepted since."""
        self._suspects: list[Send] = []
        """Refused, each alone, before another was accepted."""

    def send_all(self, items: Sequence[Send]) -> bool:
        """Send all but what is refused; say whether the broker was there to the end."""
        parts = [list(items)]
        while parts and time.monotonic() < self._deadline:
            part = parts.pop()
            answer = self._send(part)
            if answer.sent:
                self._suspects += self._doubted
                self._doubted = []
            rest = [item for item in part if item.message.id in answer.unsent]
            if answer.error is None:
                continue
            if not answer.refused or not rest:
                self.result.trouble = answer.error
                return False
            if len(part) == 1:
                self._doubted += part
                self.result.trouble = answer.error
            elif len(rest) < len(part):
                parts.append(rest)
            else:
                half = len(rest) // 2
                parts += [rest[half:], rest[:half]]
        if not self._doubted:
            self.result.trouble = None
        return True

    def send_suspects(self) -> None:
        """Send once more what was refused before another was accepted."""
        for item in self._suspects:
            answer = self._send([item])
            if answer.refused:
                self.result.refused[item.message.id] = str(answer.error)
            elif answer.error is not None:
                self.result.trouble = answer.error
                return

    def _send(self, items: Sequence[Send]) -> _Answer:
        answer = _ask(self._broker, items, max(self._deadline - time.monotonic(), _SHORTEST))
        self.result.accepted |= answer.sent
        return answer


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What one call of the broker came to, by ids. In neither: nobody can say."""

    sent: set[str]
    unsent: set[str]
    error: TaskqError | None = None
    refused: bool = False


def _ask(broker: Broker, items: Sequence[Send], timeout: Seconds) -> _Answer:
    ids = {item.message.id for item in items}
    try:
        broker.send(items, timeout=timeout)
    except SendError as error:
        return _Answer(set(error.sent), set(error.unsent), error, error.refused)
    except Closed:
        raise
    except (ConnectionFailed, OutcomeUnknown) as error:
        return _Answer(set(), set(), error)
    except TaskqError as error:
        # The server refused, or its client did: it may be unable to express a message.
        return _Answer(set(), ids, error, refused=True)
    return _Answer(ids, set())
