"""What goes wrong with a file reaches the caller in taskq's own words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack
from taskq.errors import (
    Closed,
    ConnectionFailed,
    ImproperlyConfigured,
    NotSupported,
    SendError,
    ServerRefused,
    UnknownOption,
)
from taskq.url import Url
from taskq_sql import plugin
from taskq_sql.dialects import sqlite
from tests.integration.sql.conftest import Open, sends


def dialect(url: str) -> sqlite.SqliteDialect:
    return sqlite.SqliteDialect(Url.parse(url))


def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    relative, absolute = dialect("sqlite:///a.db"), dialect("sqlite:////var/a.db")
    monkeypatch.chdir("/")

    assert relative.path == tmp_path / "a.db"
    assert absolute.path == Path("/var/a.db")


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://tasks.db", "no host"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite+other:///a.db", "leave the driver out"),
        ("sqlite:///a.db?synchronous=maybe", "full, normal, off"),
        ("sqlite:///a.db?timeout=0", "not above 0"),
        ("sqlite:///a.db?timeout=nan", "not of type float"),
    ],
)
def test_a_wrong_url_is_refused_with_the_cure(url: str, cure: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=cure):
        plugin.taskq_open_broker(Url.parse(url), SystemClock())


def test_an_unknown_option_is_refused_with_the_right_one() -> None:
    with pytest.raises(UnknownOption, match="synchronous"):
        plugin.taskq_open_results(Url.parse("sqlite:///a.db?synchronos=full"), SystemClock())


def test_other_schemes_are_left_to_others() -> None:
    url = Url.parse("redis://localhost/1")

    assert plugin.taskq_open_broker(url, SystemClock()) is None
    assert plugin.taskq_open_results(url, SystemClock()) is None


def test_opening_touches_no_file(path: Path, opened: Open) -> None:
    opened(path)

    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path: Path, opened: Open) -> None:
    broker = opened(tmp_path / "missing" / "tasks.db")

    with pytest.raises(ImproperlyConfigured, match=r"missing/tasks\.db: the folder does not exist"):
        broker.stats()


def test_a_file_that_is_no_database_is_left_alone(path: Path, opened: Open) -> None:
    path.write_bytes(b"Dear diary, " * 1000)

    with pytest.raises(ImproperlyConfigured, match=r"tasks\.db is not a SQLite database"):
        opened(path).stats()

    assert path.read_bytes() == b"Dear diary, " * 1000


def test_a_folder_in_place_of_the_file_fails_with_the_cure(path: Path, opened: Open) -> None:
    path.mkdir()

    with pytest.raises(ImproperlyConfigured, match="is a folder; name a file in it"):
        opened(path).stats()


def test_a_send_that_cannot_connect_names_every_id_as_unsent(tmp_path: Path, opened: Open) -> None:
    broker = opened(tmp_path / "missing" / "tasks.db")

    with pytest.raises(SendError, match="the folder does not exist") as caught:
        broker.send(sends("a", "b"))

    assert (caught.value.unsent, caught.value.refused) == (("a", "b"), True)


def test_a_database_that_turns_read_only_refuses(path: Path, opened: Open) -> None:
    broker = opened(path)
    broker.send(sends("a"))
    link = broker._database._link()
    link.writing.connection.exec_driver_sql("PRAGMA query_only = 1")

    with pytest.raises(SendError, match="read-only; give this user") as caught:
        broker.send(sends("b"))

    assert isinstance(caught.value.__cause__, ServerRefused)
    assert (caught.value.unsent, caught.value.refused) == (("b",), True)
    broker.send(sends("b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_refuses(path: Path, opened: Open) -> None:
    opened(path).send(sends("a"))
    path.chmod(0o400)

    with pytest.raises(SendError, match="give this user the right"):
        opened(path).send(sends("b"))


def test_a_full_disk_reaches_the_sender_and_costs_nothing(path: Path, opened: Open) -> None:
    broker = opened(path)
    broker.send(sends("a"))
    connection = broker._database._link().writing.connection
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(SendError, match="disk is full") as caught:
        broker.send([Send(Message("big", "default", bytes(100_000)))])

    assert (caught.value.unsent, caught.value.refused) == (("big",), True)
    assert set(broker.locate(["a", "big"])) == {"a"}


def test_a_lock_longer_than_the_deadline_is_our_error(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    broker = opened(path, timeout=0.3)
    broker.send(sends("a"))
    (delivery,) = broker.reserve(["default"], limit=1, lease=30)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(ConnectionFailed, match=r"tasks\.db stayed locked .* end the program"):
        broker.settle([Ack(delivery)])
    with pytest.raises(SendError, match="stayed locked") as caught:
        broker.send(sends("b"), timeout=0.1)

    assert (caught.value.unsent, caught.value.refused) == (("b",), False)
    assert isinstance(caught.value.__cause__, ConnectionFailed)
    foreign.execute("ROLLBACK")
    assert broker.settle([Ack(delivery)]) == []


def test_a_lock_at_the_first_use_delays_the_schema(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    foreign.execute("PRAGMA journal_mode = WAL")
    foreign.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, foreign.execute, ["ROLLBACK"]).start()

    opened(path).send(sends("a"))


def test_reads_do_not_wait_for_a_writer(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    broker = opened(path)
    broker.send(sends("a"))
    foreign.execute("BEGIN IMMEDIATE")

    began = time.monotonic()
    stats = broker.stats()

    assert stats[0].ready == 1
    assert time.monotonic() - began < 0.2
    foreign.execute("ROLLBACK")


def test_an_interrupted_claim_stops_waiting_for_a_lock(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    broker = opened(path)
    broker.send(sends("a"))
    foreign.execute("BEGIN IMMEDIATE")
    threading.Timer(0.1, broker.interrupt).start()

    began = time.monotonic()
    deliveries = broker.reserve(["default"], limit=1, lease=30, wait=5)

    assert deliveries == []
    assert time.monotonic() - began < 0.25
    foreign.execute("ROLLBACK")


def test_work_that_fails_is_rolled_back(path: Path, opened: Open) -> None:
    broker = opened(path)

    def fails(session: object) -> None:
        broker._insert(session, sends("a"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broker._database.transact(fails)

    broker.send(sends("b"))
    assert set(broker.locate(["a", "b"])) == {"b"}


def test_a_lax_disk_setting_is_reported_and_full_is_not(path: Path, opened: Open) -> None:
    assert opened(path).check() == []
    assert "synchronous=normal" in opened(path, synchronous="normal").check()[0]


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    local = sqlite._filesystem

    assert local(tmp_path / "tasks.db", mounts) == "nfs4"
    assert local(Path("/elsewhere/tasks.db"), mounts) == "ext4"
    assert local(tmp_path / "tasks.db", tmp_path / "absent") == ""

    monkeypatch.setattr(sqlite, "_filesystem", lambda path, _: local(path, mounts))
    with pytest.raises(NotSupported, match=r"network file system \(nfs4\)"):
        dialect(f"sqlite:///{tmp_path}/tasks.db").engine()


def test_a_closed_client_refuses_and_leaves_others_alone(path: Path, opened: Open) -> None:
    first, second = opened(path), opened(path)
    first.send(sends("a"))

    first.close()
    first.close()

    with pytest.raises(Closed):
        first.send([])
    with pytest.raises(Closed):
        first.reserve([], limit=1, lease=1)
    assert second.stats()[0].ready == 1


def test_a_connection_that_is_closed_holds_no_lock_while_its_cursor_lives(path: Path) -> None:
    """As it does in the traceback of an interrupt, while its program cleans up."""
    engine = sqlite.SqliteDialect(Url.parse(f"sqlite:///{path}")).engine()
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("SELECT 1 UNION ALL SELECT 2")

    connection.invalidate()

    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
    assert cursor is not None
