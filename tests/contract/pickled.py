"""A backend for tests of the kit: a whole namespace in one pickled file.

Every step reads the file and writes it. `pickled:///folder` locks it against
all processes, and keeps the laws. With `?locked=false` it is locked against
the threads of one process alone, as by an author who forgot that there may be
more: everything holds until there are.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import threading
import time
from pathlib import Path

from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer
from taskq.plugins import PluginInfo, hookimpl
from taskq.testing.target import UrlTarget

LOOK = 0.003
KEPT = ("messages", "queues", "workers", "results", "_order", "_tokens")
_threads = threading.RLock()


class PickledServer(MemoryServer):
    """A server whose lock reads the file when it is taken, and writes it when it is released."""

    def __init__(self, clock, path, *, locked):
        super().__init__(clock)
        self.changed = _FileLock(self, path, locked=locked)

    def load(self, data):
        for name, value in zip(KEPT, pickle.loads(data), strict=True):
            setattr(self, name, value)

    def save(self):
        return pickle.dumps([getattr(self, name) for name in KEPT])


class _FileLock:
    """What `MemoryServer.changed` is, with a file behind it."""

    def __init__(self, server, path, *, locked):
        self._server = server
        self._path = path
        self._locked = locked

    def __enter__(self):
        _threads.acquire()
        self._lock = self._path.with_suffix(".lock").open("wb")
        if self._locked:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        if self._path.exists():
            self._server.load(self._path.read_bytes())

    def __exit__(self, *_):
        # Without the lock others may write at the same time; nobody reads half a file.
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_bytes(self._server.save())
        new.replace(self._path)
        self._lock.close()
        _threads.release()

    def wait(self, timeout):
        self.__exit__()
        time.sleep(min(timeout, LOOK))
        self.__enter__()

    def notify_all(self):
        """Nobody waits for longer than `LOOK`."""


class PickledTarget(UrlTarget):
    """A file per namespace."""

    processes = True

    def wipe(self):
        for path in Path(self.url.path).glob(f"{self.url.namespace}*"):
            path.unlink()


def _path(url):
    return Path(url.path) / url.namespace


@hookimpl
def taskq_plugin():
    return PluginInfo(name="pickled", version="0", schemes=("pickled",))


@hookimpl
def taskq_open_broker(url, clock):
    locked = url.options(locked=bool).get("locked", True)
    return MemoryBroker(PickledServer(clock, _path(url), locked=locked))


@hookimpl
def taskq_target(url, plugins):
    return PickledTarget(url, plugins)
