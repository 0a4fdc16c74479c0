from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.contract.delivery import Heartbeat
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Dead

from .conftest import Run

Shop = tuple[str, TaskQ]


def give_up(app: TaskQ, *messages: Message, code: str = "failed", detail: str = "why") -> None:
    app.broker.send([Send(message) for message in messages])
    queues = sorted({message.queue for message in messages})
    taken = app.broker.reserve(queues, limit=len(messages), lease=30)
    assert app.broker.settle([Dead(delivery, code, detail) for delivery in taken]) == []


def raw(id: str, queue: str = "default", envelope: bytes = b"\xff\x00rubbish") -> Message:
    return Message(id, queue, envelope)


# Status


def test_status_shows_workers_and_queues(shop: Shop, run: Run) -> None:
    name, app = shop
    app.tasks["add"].apply_async((1, 2))
    app.tasks["add"].apply_async((1, 2), countdown=60)
    beat = Heartbeat("w1", "i1", "host", 42, time.time() - 90, ("default", "mail"), "threads", 8, 3)
    app.broker.send_heartbeat(beat, ttl=30)

    result = run("-A", name, "status")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert [
        "w1",
        "host",
        "42",
        "threads",
        "3/8",
        "0",
        "1",
        "min",
        "30",
        "s",
        "default,",
        "mail",
    ] in lines
    assert ["default", "1", "1", "0", "0", "0", "s"] in lines


def test_status_as_json(shop: Shop, run: Run) -> None:
    name, app = shop
    app.tasks["add"].apply_async((1, 2))

    document = json.loads(run("-A", name, "status", "--json").stdout)

    assert document["workers"] == []
    assert document["queues"][0]["queue"] == "default"
    assert document["queues"][0]["ready"] == 1


def test_status_of_nothing_says_so(shop: Shop, run: Run) -> None:
    result = run("-A", shop[0], "status")

    assert result.stdout == ""
    assert result.stderr == "no worker is alive\nno queue holds anything\n"


# Purge


def test_purge_refuses_where_nobody_can_confirm(shop: Shop, run: Run) -> None:
    name, app = shop
    app.tasks["add"].apply_async((1, 2))

    result = run("-A", name, "purge", input="y\n")

    assert result.exit_code == 2
    assert "default: 1" in result.stderr
    assert "pass -f" in result.stderr
    assert app.broker.stats()[0].ready == 1


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], {}),
        (["-Q", "mail"], {"default": (1, 1)}),
        (["-Q", "mail,default"], {}),
        (["--ready-only"], {"default": (0, 1), "mail": (0, 1)}),
        (["--scheduled-only", "-Q", "mail"], {"default": (1, 1), "mail": (1, 0)}),
        (["-Q", "other"], {"default": (1, 1), "mail": (1, 1)}),
    ],
)
def test_purge_drops_what_was_asked_for(
    options: list[str], left: dict[str, tuple[int, int]], shop: Shop, run: Run
) -> None:
    name, app = shop
    for queue in ("default", "mail"):
        app.tasks["add"].apply_async((1, 2), queue=queue)
        app.tasks["add"].apply_async((1, 2), queue=queue, countdown=60)

    result = run("-A", name, "purge", "-f", *options)

    assert result.exit_code == 0
    assert {s.queue: (s.ready, s.scheduled) for s in app.broker.stats()} == left


def test_purge_as_json(shop: Shop, run: Run) -> None:
    name, app = shop
    app.tasks["add"].apply_async((1, 2))

    assert json.loads(run("-A", name, "purge", "-f", "--json").stdout) == {"purged": {"default": 1}}
    assert json.loads(run("-A", name, "purge", "--json").stdout) == {"purged": {}}


def test_purge_refuses_contradictions_and_bad_names(shop: Shop, run: Run) -> None:
    both = run("-A", shop[0], "purge", "--ready-only", "--scheduled-only")

    assert both.exit_code == 2
    assert run("-A", shop[0], "purge", "-Q", "a,,b").exit_code == 2
    assert run("-A", shop[0], "purge", "-Q", "a b").exit_code == 2


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
def test_purge_asks_on_a_terminal(answer: bytes, code: int, left: int, folder: Path) -> None:
    app = TaskQ("shop", broker=f"sqlite:///{folder}/tasks.db")
    app.send_task("add")
    ours, theirs = pty.openpty()

    command = [sys.executable, "-m", "taskq", "-b", f"sqlite:///{folder}/tasks.db", "purge"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.write(ours, answer)
    ended = process.wait(20)

    os.close(ours)
    os.close(theirs)
    assert ended == code
    assert sum(stats.ready for stats in app.broker.stats()) == left
    app.close()


# Dead letters


def test_dead_letters_are_listed_whatever_is_in_them(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, raw("one"), code="undecodable", detail="x\x1b[2J\ny")
    app.tasks["add"].apply_async((1, 2), task_id="two", queue="mail")
    [taken] = app.broker.reserve(["mail"], limit=1, lease=30)
    app.broker.dead(taken, code="failed", detail="ValueError")

    result = run("-A", name, "dead", "list")

    assert "x\\x1b[2J\\ny" in result.stdout
    assert [line.split()[:3] for line in result.stdout.splitlines()[2:]] == [
        ["one", "default", "?"],
        ["two", "mail", "add"],
    ]
    listed = json.loads(run("-A", name, "dead", "list", "--json", "-Q", "mail").stdout)
    assert [(letter["id"], letter["task"], letter["code"]) for letter in listed] == [
        ("two", "add", "failed")
    ]


def test_the_limit_holds_over_pages(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, *(raw(f"m{number:03}") for number in range(250)))

    listed = json.loads(run("-A", name, "dead", "list", "--json", "--limit", "230").stdout)

    assert [letter["id"] for letter in listed] == [f"m{number:03}" for number in range(230)]
    assert run("-A", name, "dead", "list", "--limit", "0").exit_code == 2


def test_a_letter_is_shown_with_its_arguments(shop: Shop, run: Run) -> None:
    name, app = shop
    app.send_task("mail.send", ["\x1b[31mhi", "a" * 10_000], {"k": 1}, task_id="one")
    [taken] = app.broker.reserve(["default"], limit=1, lease=30)
    app.broker.dead(taken, code="failed", detail="two\nlines")

    result = run("-A", name, "dead", "show", "one")

    assert "\x1b" not in result.stdout
    assert "detail          two\\nlines\n" in result.stdout
    assert "\\x1b[31mhi" in result.stdout
    assert "…" in result.stdout
    assert len(result.stdout) < 6_000
    document = json.loads(run("-A", name, "dead", "show", "one", "--json").stdout)
    assert document["envelope"]["task"] == "mail.send"
    assert document["kwargs"] == {"k": 1}


def test_a_letter_that_cannot_be_read_is_dumped(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, raw("one", envelope=b"\xff\x00rubbish" * 100))

    result = run("-A", name, "dead", "show", "one")

    assert result.exit_code == 0
    assert "envelope cannot be read" in result.stdout
    assert "the first 256 of 900 bytes" in result.stdout
    assert "ff 00 72 75" in result.stdout
    document = json.loads(run("-A", name, "dead", "show", "one", "--json").stdout)
    assert document["envelope_base64"].startswith("/wBydWJi")


@pytest.mark.parametrize("body", [b"nonsense", b"[1,2,3]", b'[[{"$enum":["a.B",1]}],{}]'])
def test_a_body_that_cannot_be_read_is_dumped(body: bytes, shop: Shop, run: Run) -> None:
    name, app = shop
    header = b'{"v":1,"id":"one","task":"add","queue":"default","created":1}'
    give_up(app, raw("one", envelope=header + b"\n" + body))

    result = run("-A", name, "dead", "show", "one")

    assert result.exit_code == 0
    assert "task            add" in result.stdout
    assert "arguments cannot be read" in result.stdout
    document = json.loads(run("-A", name, "dead", "show", "one", "--json").stdout)
    assert "body_base64" in document


@pytest.mark.parametrize(
    "arguments",
    [["show", "nobody"], ["requeue", "one", "nobody"], ["purge", "-f", "one", "nobody"]],
)
def test_an_unknown_letter_ends_in_5_and_changes_nothing(
    arguments: list[str], shop: Shop, run: Run
) -> None:
    name, app = shop
    give_up(app, raw("one"))

    result = run("-A", name, "dead", *arguments)

    assert result.exit_code == 5
    assert "nobody" in result.stderr
    assert app.broker.stats()[0].dead == 1


def test_letters_are_requeued_by_id(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, raw("one"), raw("two", "mail"), raw("three", "mail"))

    result = run("-A", name, "dead", "requeue", "one", "three")

    assert result.exit_code == 0
    assert {s.queue: (s.ready, s.dead) for s in app.broker.stats()} == {
        "default": (1, 0),
        "mail": (1, 1),
    }


def test_all_letters_of_a_code_are_requeued(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, *(raw(f"m{number}") for number in range(150)))
    give_up(app, raw("lost"), code="worker_lost")

    result = run("-A", name, "dead", "requeue", "--all", "--code", "failed", "--json")

    assert json.loads(result.stdout) == {"requeued": {"default": 150}}
    assert app.broker.stats()[0].dead == 1


def test_letters_are_purged_only_when_confirmed(shop: Shop, run: Run) -> None:
    name, app = shop
    give_up(app, raw("one"), raw("two"), raw("three", "mail"))

    refused = run("-A", name, "dead", "purge", "--all")
    assert refused.exit_code == 2
    assert "default: 2, mail: 1" in refused.stderr

    assert run("-A", name, "dead", "purge", "-f", "one").exit_code == 0
    assert {s.queue: s.dead for s in app.broker.stats()} == {"default": 1, "mail": 1}
    assert run("-A", name, "dead", "purge", "-f", "--all", "-Q", "mail").exit_code == 0
    assert {s.queue: s.dead for s in app.broker.stats()} == {"default": 1}
    assert run("-A", name, "dead", "purge", "-f", "--all").exit_code == 0
    assert app.broker.stats() == []
    assert "nothing was purged" in run("-A", name, "dead", "purge", "-f", "--all").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["requeue"],
        ["requeue", "one", "--all"],
        ["requeue", "one", "--code", "failed"],
        ["purge", "-f"],
    ],
)
def test_a_choice_of_letters_must_be_clear(arguments: list[str], shop: Shop, run: Run) -> None:
    assert run("-A", shop[0], "dead", *arguments).exit_code == 2
