"""A target restarts its server as it was told to, and says what went wrong if it cannot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq.contract.delivery import State
from taskq.errors import ImproperlyConfigured
from taskq.testing import target as target_module
from taskq.testing.laws.case import item
from taskq.testing.target import UrlTarget
from taskq_redis.target import RedisTarget
from tests.servers import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, fsync="always") as server:
        yield server


def test_a_restart_by_a_function_keeps_the_data_and_the_clients(
    redis_server: RedisServer,
) -> None:
    def restart() -> None:
        redis_server.stop()
        redis_server.start()

    target = RedisTarget(redis_server.url, restart=restart)
    for breakable in (False, True):
        target.begin(breakable=breakable)
        broker = target.open()
        broker.send([item("a")])

        target.restart()

        assert broker.locate(["a"]) == {"a": State.READY}
        target.end()


def test_a_restart_by_a_command_is_carried_out(tmp_path: Path) -> None:
    proof = tmp_path / "it was"
    code = f"open({str(proof)!r}, 'w').close()"
    for command in ([sys.executable, "-c", code], f'{sys.executable} -c "{code}"'):
        target = UrlTarget("memory://", restart=command)
        assert target.restarts

        target.restart()

        proof.unlink()


def test_a_target_that_cannot_restart_says_how_it_could() -> None:
    target = UrlTarget("memory://")

    assert not target.restarts
    with pytest.raises(ValueError, match="restart= a command or a function"):
        target.restart()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-command", "x"], "restart command 'no-such-command x' failed: .*No such file"),
        ([sys.executable, "-c", "exit('no way')"], "ended with 1: no way"),
        ("'", "failed: No closing quotation"),
        ("", "restart command '' failed"),
    ],
)
def test_a_restart_command_that_fails_is_shown_with_what_it_said(
    command: str | list[str], says: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        UrlTarget("memory://", restart=command).restart()


def test_a_restart_command_may_leave_the_server_in_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target_module, "RESTART_LIMIT", 5.0)
    code = "import subprocess; print(subprocess.Popen(['sleep', '10']).pid)"

    UrlTarget("memory://", restart=[sys.executable, "-c", code]).restart()


def test_a_server_that_stays_away_is_our_error(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "RESTART_LIMIT", 0.2)
    target = RedisTarget(redis_server.url, restart=redis_server.stop)

    with pytest.raises(ImproperlyConfigured, match=r"did not answer within 0\.2 s after its"):
        target.restart()
