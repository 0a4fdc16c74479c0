"""Where messages go, as numbers: the corners that no database needs to be asked about."""

from __future__ import annotations

import math

import pytest

from taskq.contract.message import Message, Send
from taskq_sql import moves

NOW = 1_800_000_000_000_000
MESSAGE = Message("m", "q", b"", priority=9)


@pytest.mark.parametrize("send", [Send(MESSAGE, delay=-5), Send(MESSAGE, eta=1.0), Send(MESSAGE)])
def test_what_is_due_already_joins_the_tail_and_not_the_past(send: Send) -> None:
    move = moves.sent(send, NOW, NOW + 7)

    assert (move["state"], move["level"], move["at"]) == (moves.Number.READY, 0, NOW + 7)


@pytest.mark.parametrize("send", [Send(MESSAGE, eta=math.inf), Send(MESSAGE, delay=1e300)])
def test_a_time_beyond_all_calendars_fits_the_column(send: Send) -> None:
    move = moves.sent(send, NOW, NOW)

    assert move["state"] == moves.Number.SCHEDULED
    assert NOW < move["at"] < 2**63


def test_losses_rest_longer_and_longer_up_to_a_minute() -> None:
    rests = [moves.backoff(losses) for losses in (1, 2, 3, 4, 7, 8, 9, 10_000)]

    assert rests == [0, 1, 2, 4, 32, 60, 60, 60]
