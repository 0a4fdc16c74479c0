"""What the services on a timer tell."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from taskq.errors import NotSupported
from taskq.worker.housekeeping import CHECK_INTERVAL, ServerCheck
from taskq.worker.outage import Outage


def test_a_servers_shortcomings_are_told_once_and_again_when_they_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: Iterator[list[str] | NotSupported] = iter(
        [["a"], ["a"], NotSupported("drops keys"), NotSupported("drops keys"), [], ["a", "b"]]
    )

    def inspect() -> list[str]:
        answer = next(answers)
        if isinstance(answer, NotSupported):
            raise answer
        return answer

    check = ServerCheck(inspect, outage=Outage(), on_death=lambda *_: None)
    pauses = [check.run_once() for _ in range(6)]

    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, "broker: a"),
        (logging.ERROR, "broker: drops keys"),
        (logging.WARNING, "broker: a"),
        (logging.WARNING, "broker: b"),
    ]
    assert all(0 < pause <= CHECK_INTERVAL for pause in pauses)
