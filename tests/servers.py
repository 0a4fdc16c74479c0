"""Servers for tests: one of their own to bounce, or the shared one that listens already.

What is missing is skipped with a loud reason. A name listed in the variable
TASKQ_TEST_REQUIRE (separated by commas) makes that an error.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NoReturn, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.waiting import until

SHARED_REDIS: Final = os.environ.get("TASKQ_TEST_REDIS_URL", "redis://127.0.0.1:6379/14")
STARTS: Final = 5
"""How often a port is tried anew that somebody took between choosing and using it."""
PORTS: Final = range(20_000, 32_000)
"""Below those the system gives to clients: while a server is down, a client on
its way to it could be given the server's own port, connect to itself and keep it."""


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it where the server is required."""
    sentence = f"NO {name.upper()}: {reason}; this was NOT tested"
    if name in os.environ.get("TASKQ_TEST_REQUIRE", "").split(","):
        pytest.fail(f"{sentence}, but TASKQ_TEST_REQUIRE lists it", pytrace=False)
    pytest.skip(sentence)


@functools.cache
def find_redis() -> str | None:
    """Return the URL of a Redis server for tests that only use it.

    It is the one that listens already, else one started for this run, else None.
    """
    client = redis.Redis.from_url(SHARED_REDIS, socket_timeout=2, socket_connect_timeout=2)
    with client, contextlib.suppress(redis.RedisError):
        client.ping()
        return SHARED_REDIS
    if shutil.which("redis-server") is None:
        return None
    folder = tempfile.TemporaryDirectory(prefix="taskq-tests-")
    server = RedisServer(Path(folder.name)).__enter__()
    atexit.register(folder.cleanup)
    atexit.register(server.close)
    return server.url


def shared_redis() -> str:
    """Return what `find_redis` finds; skip the test, or fail it, if that is nothing."""
    return find_redis() or missing("redis", f"no server at {SHARED_REDIS}, no redis-server binary")


class Server(abc.ABC):
    """A server of a test's own, with its data in `folder`.

    It keeps its port and its data over `stop`, `kill` and `start`. Close it, or
    use it as a context manager, so that it ends with the test.
    """

    user: str | None = None
    """Whom it runs as, if not as whom the tests run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    @abc.abstractmethod
    def url(self) -> str: ...

    @property
    def name(self) -> str:
        return type(self).__name__

    def __enter__(self) -> Self:
        for _ in range(STARTS):
            self.port = _free_port()
            if self._launch():
                return self
        raise AssertionError(f"{self.name} does not start:\n{self.log}")

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start again on the same port with the same data."""
        until(self._launch, f"{self.name} on port {self.port}")

    @abc.abstractmethod
    def stop(self) -> None:
        """Let it end in an orderly way, as an operator would."""

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self._signal(signal.SIGKILL)
        self._await_end()

    def freeze(self) -> None:
        """Let it hang: it accepts connections and answers nothing."""
        self._signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        self._signal_family(signal.SIGCONT)

    def restore(self) -> None:
        """Let it run, empty and without clients, whatever was done to it."""
        if self._ended():
            self.start()
        else:
            self.thaw()
        self.cut()
        self.empty()

    def empty(self) -> None:
        """Remove all data; nobody is connected."""
        raise NotImplementedError

    @abc.abstractmethod
    def cut(self) -> int:
        """Close the connections of all its clients but this one; return how many."""

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._await_end()

    @property
    def log(self) -> str:
        path = self._folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Say whether a client that connects now gets an answer."""

    def _launch(self) -> bool:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self._folder, user=self.user
            )
        until(lambda: self._answers() or self._ended(), f"{self.name} answers or ends")
        return not self._ended()

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _family(self) -> list[int]:
        """Return the ids of the processes it has made."""
        return []

    def _signal_family(self, number: int) -> None:
        # While it stands still it makes no more of them, and is still their parent.
        self._signal(signal.SIGSTOP)
        for pid in self._family():
            # Unlike the parent, it may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self._signal(number)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server was not started"
        self._process.send_signal(number)

    def _await_end(self) -> None:
        assert self._process is not None, "the server was not started"
        self._process.wait(timeout=20)
        self._process = None


class RedisServer(Server):
    """A Redis server of a test's own, with an append-only file in `folder`."""

    def __init__(self, folder: Path, *, fsync: str = "everysec") -> None:
        self._binary = shutil.which("redis-server") or missing("redis", "redis-server not found")
        self._fsync = fsync
        super().__init__(folder)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        with self.admin() as client:
            client.shutdown(nosave=True)
        self._await_end()

    def cut(self) -> int:
        with self.admin() as client:
            kinds = ("normal", "pubsub")
            return sum(client.client_kill_filter(_type=kind, skipme=True) for kind in kinds)

    def empty(self) -> None:
        with self.admin() as client:
            client.flushall()

    def admin(self) -> redis.Redis:
        """Return a client of the server's own library; the caller closes it."""
        # Without retries: a repeated SHUTDOWN would end the server's next life.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, socket_timeout=5, socket_connect_timeout=5, retry=once)

    def _command(self) -> list[str]:
        arguments = {
            "--port": self.port,
            "--bind": "127.0.0.1",
            "--dir": self._folder,
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": self._fsync,
        }
        return [self._binary, *(str(part) for pair in arguments.items() for part in pair)]

    def _answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ResponseError):
            return False


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def children(parent: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # It may have ended since it was listed.
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(folder.name))
    return found
