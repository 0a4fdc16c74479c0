"""What becomes of a message that cannot be run here: kept, and no neighbour's trouble."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from taskq.contract.settlement import Release
from taskq.wire import envelope as wire
from taskq.wire.envelope import Envelope

from .bench import QUEUE, Bench


def envelope(task: str, body: bytes = b"[[],{}]", **fields: Any) -> bytes:
    header = Envelope(v=1, id="injected", task=task, queue=QUEUE, created=0)
    line = wire.write(header, body)
    for name, value in fields.items():
        line = line.replace(b'{"v":1', b'{"v":1,"%b":%b' % (name.encode(), value))
    return line


BROKEN = {
    "empty": (b"", "undecodable"),
    "random": (bytes(range(256)), "undecodable"),
    "null": (b"null\n[[],{}]", "undecodable"),
    "number": (b"17\n[[],{}]", "undecodable"),
    "truncated": (envelope("ok")[:40], "undecodable"),
    "no utf-8": (envelope("ok").replace(b'"ok"', b'"\xff"'), "undecodable"),
    "another id": (envelope("ok").replace(b"injected", b"somebody"), "undecodable"),
    "duplicate keys": (envelope("ok").replace(b'"task"', b'"id":"x","task"'), "undecodable"),
    "body of another shape": (envelope("ok", b'{"args":[]}'), "undecodable"),
    "body truncated": (envelope("ok", b"[["), "undecodable"),
    "unknown content type": (
        envelope("ok").replace(b'"created"', b'"type":"application/x-pickle","created"'),
        "undecodable",
    ),
    "unknown class": (envelope("ok", b'[[{"$enum":["os.Nope","x"]}],{}]'), "undecodable"),
    "deep body": (envelope("ok", b"[" * 20_000), "too_deep"),
    "deep header": (b'{"v":1,"headers":' + b"[" * 20_000, "undecodable"),
    "large": (envelope("ok", b" " * (1024 * 1024)), "too_large"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bytes_that_are_no_task_are_dead_at_once_and_hurt_no_neighbour(
    bench: Bench, kind: str
) -> None:
    ran: list[int] = []

    @bench.app.task(name="ok")
    def ok(n: int) -> None:
        ran.append(n)

    data, code = BROKEN[kind]
    ok.delay(1)
    bench.inject(data)
    ok.delay(2)
    bench.step()

    assert ran == [1, 2]
    letter = bench.letter()
    assert letter.code == code
    assert letter.message.envelope == data
    assert len(letter.detail) <= 1000
    assert (letter.retries, letter.losses) == (0, 0)


def test_a_dead_letter_of_the_application_can_be_replayed(bench: Bench) -> None:
    healed: list[bool] = []

    @bench.app.task(name="heal")
    def heal() -> str:
        if not healed:
            raise ValueError("not yet")
        return "well"

    result = heal.delay()
    bench.step()
    healed.append(True)
    assert bench.app.broker.requeue_dead(QUEUE, [result.id]) == 1
    bench.step()

    assert result.get(timeout=0) == "well"
    assert bench.empty


def test_undecodable_bytes_can_be_replayed_and_die_again(bench: Bench) -> None:
    result = bench.inject(b"garbage")
    bench.step()
    bench.app.broker.requeue_dead(QUEUE, ["injected"])
    bench.step()

    assert bench.letter().message.envelope == b"garbage"
    assert bench.letter().run == 1
    assert result.failed()


NEWER = {
    "version": envelope("ok").replace(b'"v":1', b'"v":2'),
    "field": envelope("ok").replace(b'"created"', b'"lane":"a","created"'),
    "compression": envelope("ok").replace(b'"created"', b'"encoding":"zstd","created"'),
}


@pytest.mark.parametrize("kind", [*NEWER, "unknown task"])
def test_what_another_worker_may_know_is_offered_until_the_grace_is_over(kind: str) -> None:
    bench = Bench(unknown_grace=600)
    result = bench.inject(NEWER.get(kind, envelope("elsewhere")))

    delays: list[float] = []
    elapsed = 0.0
    while not bench.letters():
        for settlement in bench.step():
            if isinstance(settlement, Release):
                delays.append(settlement.delay)
        if delays:
            bench.clock.advance(delays[-1])
            elapsed += delays[-1]
        assert elapsed < 700

    assert delays[:7] == [0.5, 1, 2, 4, 8, 16, 30]
    assert set(delays[7:]) == {30.0}
    assert 600 <= elapsed <= 660
    letter = bench.letter()
    assert letter.code == "unknown_task"
    assert (letter.retries, letter.losses) == (0, 0)
    assert result.failed()


def test_a_task_that_was_unknown_runs_where_it_becomes_known(bench: Bench) -> None:
    result = bench.app.send_task("late", (1,))
    bench.step()
    assert bench.stats().scheduled == 1

    bench.app.task(name="late")(lambda x: x)
    bench.step(after=1)

    assert result.get(timeout=0) == 1
    assert bench.empty


# Arguments


@dataclasses.dataclass
class Picky:
    size: int

    def __post_init__(self) -> None:
        raise LookupError("hunter2")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (b'[["hunter2"],{}]', "'count'"),
        (b"[[],{}]", "'count'"),
        (b'[[1],{"other":"hunter2"}]', "'other'"),
        (b'[[1,2,"hunter2"],{}]', "too many"),
        (b'[[1],{"picky":{"size":1}}]', ""),
    ],
)
def test_wrong_arguments_are_dead_and_name_the_parameter_never_the_value(
    bench: Bench, args: bytes, named: str
) -> None:
    ran: list[int] = []

    @bench.app.task(name="strict", max_retries=5)
    def strict(count: int, picky: Picky | None = None) -> None:
        ran.append(count)

    result = bench.inject(envelope("strict", args))
    bench.step()

    assert ran == []
    letter = bench.letter()
    assert letter.code == "bad_arguments"
    assert named in letter.detail
    assert "hunter2" not in letter.detail
    assert letter.retries == 0
    assert result.failed()
