"""`taskq outbox`, as an operator uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskq.cli.main import cli
from taskq_sql.outbox.relay import open_outbox
from taskq_sql.outbox.turns import file_turn
from tests.integration.sql.shop import OpenShop, Shop, shops
from tests.servers import RedisServer
from tests.waiting import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with shops(tmp_path) as opener:
        yield opener("sqlite")


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[OpenShop]:
    with shops(tmp_path) as opener:
        yield opener


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="taskq", env=environment)


def urls(shop: Shop) -> tuple[str, str]:
    return shop.database.reveal(), shop.app.broker_url.reveal()


def refuse(shop: Shop, id: str, reason: str) -> None:
    """Do what a relay does with a task that the broker refuses."""
    database = open_outbox(shop.database, shop.app.broker_url, shop.clock)
    ((seq,),) = database.read(
        lambda s: s.rows(f"SELECT seq FROM taskq_outbox WHERE id = '{id}'", {})
    )
    values = {"seq": seq, "refused": reason.encode()}
    database.transact(lambda session: session.run(session.sql.set_aside, values))
    database.close()


def test_once_carries_what_is_there_and_ends(shop: Shop) -> None:
    sent = shop.send("a", "b", "c")

    done = run("outbox", "relay", *urls(shop), "--once", "--batch", "2")

    assert (done.exit_code, "carried: 3" in done.stderr) == (0, True)
    assert shop.ids() == sent


def test_urls_may_stand_in_the_environment_or_with_the_application(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, broker = urls(shop)
    shop.send("a")
    done = run("outbox", "relay", "--once", TASKQ_OUTBOX_URL=database, TASKQ_BROKER_URL=broker)
    assert done.exit_code == 0, done.output
    shop.send("b")
    done = run("-b", broker, "outbox", "relay", database, "--once")
    assert done.exit_code == 0, done.output
    shop.send("c")
    (tmp_path / "outboxed.py").write_text(
        f"from taskq import TaskQ\napp = TaskQ('shop', broker={broker!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = run("-A", "outboxed", "outbox", "relay", database, "--once")
    assert done.exit_code == 0, done.output

    assert len(shop.ids()) == 3


def test_refused_tasks_are_listed_and_sent_again(shop: Shop) -> None:
    first, second, third = shop.send("a", "b", "c")
    refuse(shop, first, "too\x1b[2Jlarge")
    refuse(shop, second, "odd")

    listed = run("outbox", "list", *urls(shop))
    document = json.loads(run("outbox", "list", *urls(shop), "--json").stdout)
    wrong = run("outbox", "retry", *urls(shop), "--id", "nobody")
    one = run("outbox", "retry", *urls(shop), "--id", second)
    every = run("outbox", "retry", *urls(shop), "--all")

    assert f"{first}  default  too\\x1b[2Jlarge" in listed.stdout
    assert "waiting for a relay: 1; shown as refused: 2" in listed.stderr
    assert document == {
        "waiting": 1,
        "refused": [
            {"id": first, "queue": "default", "reason": "too\x1b[2Jlarge"},
            {"id": second, "queue": "default", "reason": "odd"},
        ],
    }
    assert (wrong.exit_code, "no refused task has the id nobody" in wrong.stderr) == (5, True)
    assert (one.stdout, every.stdout) == ("waiting again: 1\n", "waiting again: 1\n")
    assert shop.carry() == 3
    assert shop.ids() == [first, second, third]


def test_retry_wants_to_know_which(shop: Shop) -> None:
    assert run("outbox", "retry", *urls(shop)).exit_code == 2
    assert run("outbox", "retry", *urls(shop), "--all", "--id", "a").exit_code == 2


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_missing_tables_are_told_of_with_the_cure(open_shop: OpenShop, kind: str) -> None:
    done = run("outbox", "relay", *urls(open_shop(kind, tables=False)))

    assert done.exit_code == 2
    assert "taskq sql upgrade DATABASE_URL" in done.stderr


def test_ends_that_do_not_fit_are_told_of_with_the_cure(shop: Shop) -> None:
    database, broker = urls(shop)
    ends = {
        (broker, database): "the first URL is the database's",
        (database, database): "needs no relay",
        (database, "memory://"): "name the broker that your workers use",
        (database, "nosuch://host"): "no plugin handles nosuch://",
        (database,): "which broker?",
    }
    said = {given: run("outbox", "relay", *given, "--once") for given in ends}

    assert {given: done.exit_code for given, done in said.items()} == dict.fromkeys(ends, 2)
    assert [text for given, text in ends.items() if text not in said[given].stderr] == []


def test_a_broker_that_is_not_there_ends_the_command_with_4(shop: Shop) -> None:
    done = run("outbox", "relay", shop.database.reveal(), "redis://127.0.0.1:1", "--once")

    assert done.exit_code == 4
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_relay_with_0(shop: Shop, tmp_path: Path, number: signal.Signals) -> None:
    sent = shop.send("a")
    log = tmp_path / "relay.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
    with log.open("wb") as out:
        command = [sys.executable, "-m", "taskq", "outbox", "relay", *urls(shop)]
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, env=kept)
    until(lambda: shop.rows() == 0, "the relay carries")
    process.send_signal(number)

    assert process.wait(20) == 0
    assert log.read_text().rstrip().endswith("ended")
    assert shop.ids() == sent


def test_a_second_signal_ends_a_relay_at_once(tmp_path: Path, open_shop: OpenShop) -> None:
    with RedisServer(tmp_path / "redis") as server:
        shop = open_shop("sqlite", broker=server.url)
        log = tmp_path / "relay.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "taskq", "outbox", "relay", *urls(shop)]
            process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
        until(lambda: "carrying from" in log.read_text(), "the relay runs")
        server.freeze()
        shop.send("a")
        until(lambda: _has_turn(shop), "the relay waits for the broker")
        process.send_signal(signal.SIGTERM)
        until(lambda: not _catches(process.pid, signal.SIGTERM), "the first signal is handled")
        assert _has_turn(shop)
        process.send_signal(signal.SIGTERM)

        assert process.wait(5) == -signal.SIGTERM
        assert shop.rows() == 1
        server.thaw()


def _has_turn(shop: Shop) -> bool:
    """Say whether some relay is in the middle of a batch."""
    path = Path(shop.database.path)
    with file_turn(path, shop.app.broker_url.namespace) as free:
        return not free


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)
