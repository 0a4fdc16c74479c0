"""What a backend needs to run on: one ground for each mutant under way."""

from __future__ import annotations

import contextlib
import resource
import shutil
from pathlib import Path
from typing import Final, Protocol

import redis

from tests.servers import RedisServer

_MEMORY: Final = 2 << 30
"""Bytes of address space: what a script that never ends may take before it is stopped."""
# Nothing here fails as a machine does, so nothing has to be flushed.
URL_OF_SQLITE: Final = "sqlite:///{}?synchronous=off"
URL_OF_FILES: Final = "files://{}?fsync=0"


class Ground(Protocol):
    """Where one mutant at a time lives. Used by one thread."""

    def clear(self) -> str:
        """Make it as new; return the URL."""
        ...

    def close(self) -> None:
        """Remove it."""
        ...


class RedisGround:
    """A Redis server of its own, replaced if a mutant has left it unable to answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: RedisServer | None = None
        self._started = 0

    def clear(self) -> str:
        if self._server is not None and not self._emptied(self._server):
            self.close()
        if self._server is None:
            self._server = self._start()
        return self._server.url

    def _start(self) -> RedisServer:
        self._started += 1
        server = RedisServer(self._folder / f"server-{self._started}").__enter__()
        with server.admin() as client:
            pid = int(client.info("server")["process_id"])
        resource.prlimit(pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        return server

    def _emptied(self, server: RedisServer) -> bool:
        client = redis.Redis(port=server.port, socket_timeout=1, socket_connect_timeout=1)
        with client, contextlib.suppress(redis.RedisError):
            client.flushall()
            client.script_flush()
            return True
        return False

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class FileGround:
    """A new file, or folder, for each mutant another one."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._number = 0

    def clear(self) -> str:
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        self._number += 1
        return self._url.format(self._folder / f"kit-{self._number}")

    def close(self) -> None:
        """Leave the files to the folder they are in."""
