"""A throw-away Redis, so that its CPU time and its command counts are the contender's alone."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

import redis


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self.client: redis.Redis = redis.Redis(port=port)

    def cpu(self) -> float:
        """Return the seconds of CPU the server has used."""
        info = self.client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def commands(self) -> int:
        """Return how many commands it has carried out, those inside scripts included."""
        stats = self.client.info("commandstats")
        return sum(int(line["calls"]) for name, line in stats.items() if "info" not in name)


@contextlib.contextmanager
def throw_away_redis() -> Iterator[Server]:
    """Run a server on a free port, in a folder that is removed afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        server = Server(port)
        try:
            _await_answer(server)
            yield server
        finally:
            server.client.close()
            process.terminate()
            process.wait()


def _await_answer(server: Server) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            server.client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
