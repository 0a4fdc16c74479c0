"""Sending within a deadline, and telling the truth when it fails.

A broker makes one attempt. This repeats it until the deadline: what was
certainly not sent always, what may have been sent only where an id that exists
is not accepted twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.message import Send
from taskq.errors import EnqueueError, SendError

FIRST_PAUSE: Final[Seconds] = 0.02
LONGEST_PAUSE: Final[Seconds] = 1.0


def enqueue(broker: Broker, items: Sequence[Send], timeout: Seconds) -> None:
    """Send the items, or raise within `timeout` seconds.

    Raises:
        EnqueueError: says of each id whether it was sent, not sent, or may have been.
    """
    deadline = time.monotonic() + timeout
    try:
        broker.send(items, timeout=timeout)
    except SendError as error:
        _insist(broker, items, deadline, error)


def _insist(broker: Broker, items: Sequence[Send], deadline: float, error: SendError) -> None:
    sent, unknown = set(error.sent), set(error.unknown)
    pause = FIRST_PAUSE
    while True:
        again = set(error.unsent)
        if broker.capabilities.unique_ids:
            again |= unknown
        left = deadline - time.monotonic()
        if error.refused or not again or left <= pause:
            raise _verdict(items, sent, unknown, error) from error
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause = min(pause * 2, LONGEST_PAUSE)
        rest = [item for item in items if item.message.id in again]
        try:
            broker.send(rest, timeout=max(deadline - time.monotonic(), 0.001))
        except SendError as next_error:
            error = next_error
            sent.update(error.sent)
            unknown = (unknown | set(error.unknown)) - sent
        else:
            unknown -= again
            if not unknown:
                return
            error = SendError(str(error), unknown=sorted(unknown))


def _verdict(
    items: Sequence[Send], sent: set[str], unknown: set[str], error: SendError
) -> EnqueueError:
    ids = [item.message.id for item in items]
    unsure = [id for id in ids if id in unknown]
    missing = [id for id in ids if id not in sent and id not in unknown]
    count = f"{len(unsure)} of {len(ids)} tasks" if len(ids) > 1 else "the task"
    text = f"{count} may have been accepted" if unsure else "the task was not accepted"
    if not unsure and len(ids) > 1:
        text = f"{len(missing)} of {len(ids)} tasks were not accepted"
    return EnqueueError(
        f"{text}: {error}",
        sent=[id for id in ids if id in sent],
        unsent=missing,
        unknown=unsure,
    )
