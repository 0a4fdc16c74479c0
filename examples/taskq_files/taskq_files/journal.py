"""A file of frames, which the threads and processes of one machine extend in turn.

A frame is there whole or not at all. Who holds the lock is alone with the file;
the lock ends with its process, so that nobody has to clean up after a death.
Nothing here knows what is in a frame.

Locks of `fcntl` have three habits that shape this module. They belong to the
process, so its threads need a lock of their own before. They end when the process
closes *any* descriptor of the file, so only who has the threads' lock opens it.
A child does not inherit them, so it has to begin anew; it may have inherited the
threads' lock in the hands of a thread that it has not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

from taskq.clock import Seconds
from taskq.errors import BrokerError, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq_files.options import Options

_FORMAT: Final = b"files-1\n"
"""How a file begins. Who changes what is in it changes this."""
_NAME: Final = 8
"""Bytes of the random name after that, by which readers know a file again."""
_FIRST: Final = len(_FORMAT) + _NAME
"""Where the frames begin."""
_HEAD: Final = struct.Struct("<II")
"""Length and checksum, in front of each frame."""
_TURN: Final[Seconds] = 0.02
"""How long a thread stands in line before it looks whether its owner still wants it to."""
_RIGHTS: Final = "give this user the right to read and write it and its files"
_CURES: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size",
    errno.ENOLCK: "move it to a local disk, whose files can be locked",
}
"""What to do about errors that trying again does not cure."""

_threads: Final[dict[tuple[int, Path], threading.Lock]] = {}
"""The locks of this process's threads, by process and folder."""


class Journal:
    """One client's view of the file. All but `stamp` only under the lock."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._folder = options.folder
        self._path = options.folder / "journal"
        self._known: tuple[int, bytes] | None = None
        self._start = self._end = 0

    @contextmanager
    def locked(self, timeout: Seconds, check: Callable[[], None]) -> Iterator[None]:
        """Be alone with the file.

        `check` is called again and again while others have it; it may raise.

        Raises:
            ConnectionFailed: others had it for `timeout` seconds, or there is no
                way to it; nothing happened.
            ServerRefused: there is no right to use it, or no room.
        """
        threads = _threads.setdefault((os.getpid(), self._folder), threading.Lock())
        with _translated(self._folder), ExitStack() as held:
            deadline = time.monotonic() + timeout
            turn = partial(_take_turn, threads, deadline)
            if not wait_until(turn, deadline, check, longest=0.001):
                self._give_up(timeout)
            held.callback(threads.release)
            file = held.enter_context(self._open_lock())
            if not wait_until(partial(_take, file), deadline, check, longest=0.001):
                self._give_up(timeout)
            yield

    def _open_lock(self) -> FileIO:
        path = self._folder / "lock"
        try:
            return path.open("wb", buffering=0)
        except FileNotFoundError:
            self._make(self._folder)
            return path.open("wb", buffering=0)

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, to last as long as what they will hold."""
        if not folder.parent.is_dir():
            self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        self._flush_folder(folder.parent)

    def _give_up(self, timeout: Seconds) -> None:
        raise ConnectionFailed(
            f"{self._folder} was locked by others for {timeout} seconds; nothing happened; "
            "look for a stopped process, or raise the URL option timeout"
        )

    def read(self) -> tuple[bool, list[bytes]]:
        """Return the frames added since the last time.

        With True they are all there are: forget what was read before.
        """
        try:
            file = self._path.open("r+b", buffering=0)
        except FileNotFoundError:
            self.forget()
            return True, []
        with file:
            known = (os.getpid(), file.read(_FIRST))
            fresh = known != self._known
            if fresh:
                self._check_format(known[1])
                self._known, self._start, self._end = known, 0, _FIRST
            file.seek(self._end)
            data = file.read()
            frames, size = self._split(data)
            if size < len(data):
                file.truncate(self._end + size)
        if fresh and frames:
            self._start = _HEAD.size + len(frames[0])
        self._end += size
        return fresh, frames

    def _check_format(self, beginning: bytes) -> None:
        if len(beginning) < _FIRST or not beginning.startswith(_FORMAT):
            raise ServerRefused(
                f"{self._path} is no journal of this version; name another folder, "
                "or install the version that wrote it"
            )

    def _split(self, data: bytes) -> tuple[list[bytes], int]:
        """Return the whole frames, and how many bytes they take."""
        frames: list[bytes] = []
        at = 0
        while at + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + length
            frame = data[at + _HEAD.size : end]
            if len(frame) < length or _checksum(frame) != checksum:
                # Only the last frame can be the work of somebody who died over it. A power
                # cut may have left the room for it, filled with zeros.
                if end < len(data) and any(data[at:]):
                    raise ServerRefused(
                        f"{self._path} is damaged at byte {self._end + at}; stop all programs, "
                        "and restore the file from a copy"
                    )
                break
            frames.append(frame)
            at = end
        return frames, at

    def append(self, frame: bytes) -> None:
        """Add a frame, after all was read. Who adds it reads it the next time, as others do.

        Raises:
            OSError: it could not be written; nothing happened, since half a frame is none.
            OutcomeUnknown: it was written, and could not be flushed.
        """
        with self._path.open("r+b", buffering=0) as file:
            file.seek(self._end)
            self._write(file, _framed(frame))
            with self._in_doubt():
                self._flush(file.fileno())

    def replace(self, frame: bytes) -> None:
        """Put one frame in the place of all there are; raises as `append`."""
        new = self._path.with_suffix(".new")
        with new.open("wb", buffering=0) as file:
            self._write(file, _FORMAT + os.urandom(_NAME) + _framed(frame))
            self._flush(file.fileno())
        new.replace(self._path)
        with self._in_doubt():
            self._flush_folder(self._folder)

    @property
    def wasteful(self) -> bool:
        """Whether the file holds much more than it has to, or is not there yet."""
        return self._known is None or self._end > 3 * self._start + self.options.waste

    def forget(self) -> None:
        """Let the next `read` return all there is."""
        self._known = None

    def stamp(self) -> object:
        """Return something that is another thing after each change. Takes no lock."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _write(self, file: FileIO, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]

    def _flush(self, descriptor: int) -> None:
        if self.options.fsync:
            os.fsync(descriptor)

    def _flush_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            self._flush(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _in_doubt(self) -> Iterator[None]:
        """Say that what has just been written may survive, or not."""
        try:
            yield
        except OSError as error:
            raise OutcomeUnknown(f"{self._path} could not be flushed: {error}") from error


def wait_until(
    ready: Callable[[], bool], deadline: float, check: Callable[[], None], *, longest: Seconds
) -> bool:
    """Ask again and again, with growing naps, until `ready`; say whether it ever was.

    `deadline` is by the monotonic clock. `check` is called before each question.
    """
    nap = 0.0002
    while True:
        check()
        if ready():
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(nap, left))
        nap = min(2 * nap, longest)


def _take_turn(threads: threading.Lock, deadline: float) -> bool:
    # In the system's line for a moment. Who only looked between two naps would starve
    # next to a busy thread, which hands the interpreter over in the midst of its steps.
    left = deadline - time.monotonic()
    return threads.acquire(timeout=min(max(left, 0.0), _TURN))


def _take(file: FileIO) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _framed(frame: bytes) -> bytes:
    return _HEAD.pack(len(frame), _checksum(frame)) + frame


def _checksum(frame: bytes) -> int:
    # Not from 0: zeros, which a power cut can leave behind, would be an empty frame.
    return zlib.crc32(frame, 1)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Say in the words of the contract what the system says."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0)
        kind: type[BrokerError] = ServerRefused if cure else ConnectionFailed
        what = f"{folder} cannot be used ({error.strerror}), and nothing happened; "
        raise kind(what + (cure or "see whether its disk is there")) from error
