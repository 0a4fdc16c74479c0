"""Half-written frames, damage, rewriting, flushing, a full disk."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from itertools import pairwise
from pathlib import Path

import pytest
from taskq_files.broker import FilesBroker
from taskq_files.journal import Journal
from taskq_files.options import Options
from taskq_files.store import Store

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.delivery import State
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack
from taskq.errors import OutcomeUnknown, SendError, ServerRefused
from taskq.plugins import Plugins
from taskq.url import Url


def item(id: str, envelope: bytes = b"") -> Send:
    return Send(Message(id, "q", envelope))


def test_half_a_frame_never_happened(opened: Callable[..., Broker], journal: Path) -> None:
    opened().send([item("a")])
    whole = journal.read_bytes()
    opened().send([item("b")])
    longer = journal.read_bytes()

    for size in range(len(whole), len(longer)):
        journal.write_bytes(longer[:size])
        assert list(opened().locate(["a", "b"])) == ["a"]
        assert journal.read_bytes() == whole

    opened().send([item("c")])
    assert list(opened().locate(["a", "b", "c"])) == ["a", "c"]


def test_a_last_frame_with_other_content_never_happened(
    opened: Callable[..., Broker], journal: Path
) -> None:
    opened().send([item("a")])
    opened().send([item("b")])
    found = journal.read_bytes()
    journal.write_bytes(found[:-1] + bytes([found[-1] ^ 1]))

    assert list(opened().locate(["a", "b"])) == ["a"]


def test_a_damaged_frame_is_not_passed_over(opened: Callable[..., Broker], journal: Path) -> None:
    broker = opened()
    for id in ("a", "b", "c"):
        broker.send([item(id, b"envelope of " + id.encode())])
    damaged = journal.read_bytes().replace(b"envelope of b", b"envelope of x")
    journal.write_bytes(damaged)

    with pytest.raises(ServerRefused, match="damaged at byte"):
        opened().stats()
    with pytest.raises(SendError, match="restore the file") as failure:
        opened().send([item("d")])

    assert failure.value.unsent == ("d",)
    assert failure.value.refused
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("size", [1, 8, 9, 5000])
def test_zeros_that_a_power_cut_has_left_are_no_frame(
    opened: Callable[..., Broker], journal: Path, size: int
) -> None:
    opened().send([item("a")])
    whole = journal.read_bytes()
    journal.write_bytes(whole + bytes(size))

    assert list(opened().locate(["a"])) == ["a"]
    assert journal.read_bytes() == whole


def test_zeros_between_frames_are_damage(opened: Callable[..., Broker], journal: Path) -> None:
    opened().send([item("a")])
    before = journal.stat().st_size
    opened().send([item("b")])
    end = journal.stat().st_size
    opened().send([item("c")])
    found = journal.read_bytes()
    journal.write_bytes(found[:before] + bytes(end - before) + found[end:])

    with pytest.raises(ServerRefused, match=f"damaged at byte {before}"):
        opened().stats()


@pytest.mark.parametrize("content", [b"", b"files-1\n", b"files-2\n" + bytes(100)])
def test_a_file_that_is_no_journal_is_left_alone(
    opened: Callable[..., Broker], journal: Path, content: bytes
) -> None:
    journal.parent.mkdir(parents=True)
    journal.write_bytes(content)

    with pytest.raises(SendError, match="no journal of this version") as failure:
        opened().send([item("a")])

    assert failure.value.unsent == ("a",)
    assert journal.read_bytes() == content


def test_a_journal_is_rewritten_before_it_is_mostly_waste(
    opened: Callable[..., Broker], journal: Path
) -> None:
    broker, other = opened(waste=2000), opened(waste=2000)
    broker.send([item("kept", b"k" * 100)])
    other.reserve(["q"], limit=1, lease=60)

    sizes = []
    for number in range(100):
        broker.send([item(f"m{number}", b"x" * 100)])
        [delivery] = other.reserve(["q"], limit=1, lease=60)
        assert broker.settle([Ack(delivery)]) == []
        sizes.append(journal.stat().st_size)

    assert max(sizes) < 4000
    assert sum(after < before for before, after in pairwise(sizes)) > 5
    assert opened().locate(["kept"]) == {"kept": State.PROCESSING}
    assert [file.name for file in journal.parent.iterdir() if file.suffix] == []


def test_a_journal_full_of_what_waits_is_not_rewritten_at_each_step(
    opened: Callable[..., Broker], journal: Path
) -> None:
    broker = opened(waste=2000)
    broker.send([item(f"m{number}", b"x" * 100) for number in range(100)])
    name = journal.read_bytes()[:16]

    for number in range(20):
        broker.send([item(f"n{number}", b"x" * 100)])

    assert journal.stat().st_size > 10_000
    assert journal.read_bytes()[:16] == name


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_who_dies_over_the_rewriting_loses_nothing(
    opened: Callable[..., Broker], url: str, journal: Path, share: float
) -> None:
    class Death(BaseException):
        pass

    class Dying(Journal):
        def _write(self, file: FileIO, data: bytes) -> None:
            super()._write(file, data[: int(len(data) * share)])
            raise Death

    opened().send([item("a")])
    opened().send([item("b", b"b" * 1000)])
    before = journal.read_bytes()

    broker = FilesBroker(Store(Dying(Options.of(Url.parse(f"{url}&waste=0"))), SystemClock()))
    with pytest.raises(Death):
        broker.send([item("c")])

    assert journal.read_bytes() == before
    assert journal.with_suffix(".new").exists()
    opened(waste=0).send([item("d")])
    assert list(opened().locate(["a", "b", "c", "d"])) == ["a", "b", "d"]
    assert not journal.with_suffix(".new").exists()


def test_a_folder_that_was_removed_is_made_again(
    opened: Callable[..., Broker], journal: Path
) -> None:
    broker = opened()
    for id in ("a", "b"):
        broker.send([item(id)])
    shutil.rmtree(journal.parent)

    broker.send([item("c")])

    assert list(broker.locate(["a", "b", "c"])) == ["c"]


def test_what_was_accepted_is_flushed_with_all_that_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    broker = Plugins().open_broker(f"files://{tmp_path}/new/queue")
    open_before = open_files()

    broker.send([item("a")])
    folder = tmp_path / "new" / "queue" / "taskq.taskq"
    new = {path.stat().st_ino for path in (folder / "journal", folder, *folder.parents[:3])}
    first, flushed[:] = set(flushed), []
    broker.send([item("b")])

    assert first == new
    assert flushed == [(folder / "journal").stat().st_ino]
    assert open_files() == open_before


def open_files() -> set[str]:
    """Return the numbers of this process's descriptors, with the one that lists them."""
    return {file.name for file in Path("/dev/fd").iterdir()}


def test_a_full_disk_refuses_and_loses_nothing(
    opened: Callable[..., Broker], journal: Path
) -> None:
    broker = opened()
    broker.send([item("a", b"a" * 200_000)])

    with file_size_limit(300_000), pytest.raises(SendError, match="limit of a file") as failure:
        broker.send([item("b", b"b" * 200_000)])
    torn = journal.stat().st_size

    assert torn == 300_000
    assert failure.value.unsent == ("b",)
    assert failure.value.refused
    assert list(broker.locate(["a", "b"])) == ["a"]
    broker.send([item("b")])
    assert list(broker.locate(["a", "b"])) == ["a", "b"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_could_not_be_flushed_is_in_doubt(url: str) -> None:
    class Unflushed(Journal):
        def _flush(self, _descriptor: int) -> None:
            raise OSError(errno.EIO, "no disk")

    options = Options.of(Url.parse(url))
    Plugins().open_broker(url).send([item("a")])
    broker = FilesBroker(Store(Unflushed(options), SystemClock()))

    with pytest.raises(SendError) as failure:
        broker.send([item("b")])
    with pytest.raises(OutcomeUnknown, match="could not be flushed"):
        broker.reserve(["q"], limit=1, lease=60)

    assert failure.value.unknown == ("b",)
