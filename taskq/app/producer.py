"""Sending within a deadline, and telling the truth when it fails.

A broker makes one attempt. This repeats it until the deadline: what was
certainly not sent always, what may have been sent only where an id that exists
is not accepted twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.message import Send
from taskq.errors import ConnectionFailed, EnqueueError, OutcomeUnknown, SendError, ServerRefused

FIRST_PAUSE: Final[Seconds] = 0.02
LONGEST_PAUSE: Final[Seconds] = 1.0
SHORTEST_TRY: Final[Seconds] = 0.001


def enqueue(
    broker: Broker,
    items: Sequence[Send],
    timeout: Seconds,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[Seconds], object] = time.sleep,
) -> None:
    """Send the items, or raise within `timeout` seconds.

    `now` and `sleep` are for tests.

    Raises:
        EnqueueError: says of each id whether it was sent, not sent, or may have been.
    """
    deadline = now() + timeout
    error = _attempt(broker, items, timeout)
    sent: set[str] = set()
    unknown: set[str] = set()
    pause = FIRST_PAUSE
    while error is not None:
        sent.update(error.sent)
        unknown = (unknown | set(error.unknown)) - sent
        again = set(error.unsent)
        if broker.capabilities.unique_ids:
            again |= unknown
        if error.refused or not again or deadline - now() <= pause:
            raise _verdict(items, sent, unknown, error) from error
        sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause = min(pause * 2, LONGEST_PAUSE)
        rest = [item for item in items if item.message.id in again]
        next_error = _attempt(broker, rest, max(deadline - now(), SHORTEST_TRY))
        if next_error is None:
            sent |= again
            unknown -= again
            if unknown:
                raise _verdict(items, sent, unknown, error) from error
        error = next_error


def _attempt(broker: Broker, items: Sequence[Send], timeout: Seconds) -> SendError | None:
    """Send once; return what went wrong, with every id named in it.

    An id that the broker's error does not name may have been sent: of what
    nobody vouches for, "unsent" would be a guess.
    """
    ids = [item.message.id for item in items]
    try:
        broker.send(items, timeout=timeout)
    except SendError as error:
        named = {*error.sent, *error.unsent, *error.unknown}
        error.unknown += tuple(id for id in ids if id not in named)
        return error
    except (ConnectionFailed, ServerRefused) as error:
        refused = isinstance(error, ServerRefused)
        failure = SendError(str(error), unsent=ids, refused=refused)
        failure.__cause__ = error
        return failure
    except OutcomeUnknown as error:
        failure = SendError(str(error), unknown=ids)
        failure.__cause__ = error
        return failure
    return None


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
