"""The laws of results over RabbitMQ, and what only streams can do wrong."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pika import spec

from taskq.clock import MICROSECONDS, VirtualClock
from taskq.contract.results import ResultRecord
from taskq.errors import BrokerError, Closed, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq.ids import new_id
from taskq.testing.laws.case import Case, open_case, record, run_examples
from taskq.testing.proxy import Proxy
from taskq.testing.record import Ledger
from taskq.testing.runner import StoreLaws
from taskq.url import Url
from taskq_amqp import preparation
from taskq_amqp.options import Options
from taskq_amqp.preparation import ARGUMENTS
from taskq_amqp.results import feed, history
from taskq_amqp.results.store import AmqpResults
from taskq_amqp.results.streams import SHARDS, Entry, pack, shard_of, stored, stream_of
from taskq_amqp.results.tail import Block, Tail
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.publisher import Parcel, Publisher
from tests.contract.restarts import Bouncer
from tests.integration.amqp.results_target import ResultsTarget
from tests.rabbitmq_servers import RabbitmqServer, shared_rabbitmq
from tests.waiting import until


@pytest.fixture(scope="module")
def url() -> str:
    return shared_rabbitmq()


@pytest.fixture
def case(url: str) -> Iterator[Case]:
    with open_case(ResultsTarget(url), Ledger("RabbitMQ")) as case:
        yield case


class TestLaws(StoreLaws):
    """R1 to R9; the example of a restart is put to the test below."""

    test_results_outlive_a_restart_of_the_server = None  # type: ignore[assignment]


class Restarting:
    """The one example that needs a server of its own."""

    test_results_outlive_a_restart_of_the_server = (
        StoreLaws.test_results_outlive_a_restart_of_the_server
    )


class Place:
    """A namespace, and clients of it."""

    def __init__(self, url: str) -> None:
        self.target = ResultsTarget(url)
        self.target.begin()
        self.clock = self.target.clock

    @property
    def namespace(self) -> str:
        return self.target.url.namespace

    def open(self) -> AmqpResults:
        results = self.target.open_results()
        assert isinstance(results, AmqpResults)
        return results

    def proxy(self) -> Proxy:
        """Return a proxy in front of the server."""
        assert self.target.address is not None
        return Proxy(*self.target.address)

    def through(self, port: int, **options: str) -> AmqpResults:
        """Open a client that reaches the server by another port."""
        url = self.target.url.replace(host="127.0.0.1", port=port)
        return AmqpResults(Options.of(url.replace(query={**url.query, **options})), self.clock)

    def call(self, *methods: Any) -> list[Any]:
        """Do something to the server as somebody else would."""
        deadline = time.monotonic() + 10
        connection = Connection(Options.of(self.target.url), "somebody", deadline)
        try:
            return connection.channel(deadline).call(*methods, deadline=deadline)
        finally:
            connection.close()

    def put(self, stream: str, *bodies: bytes) -> None:
        """Append messages of one's own."""
        deadline = time.monotonic() + 10
        connection = Connection(Options.of(self.target.url), "somebody", deadline)
        channel = connection.channel(deadline)
        channel.call(spec.Confirm.Select(), deadline=deadline)
        parcels = [Parcel("", stream, body) for body in bodies]
        Publisher(channel).publish(parcels, deadline).check()
        connection.close()

    def fill(self, shard: int, entries: list[Entry]) -> None:
        self.put(stream_of(self.namespace, shard), *(pack([entry]) for entry in entries))

    def delete(self, id: str) -> None:
        self.call(spec.Queue.Delete(0, stream_of(self.namespace, shard_of(id))))


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    place = Place(url)
    yield place
    place.target.end()


@pytest.fixture
def place_on() -> Iterator[Callable[[RabbitmqServer], Place]]:
    places: list[Place] = []

    def make(server: RabbitmqServer) -> Place:
        places.append(Place(server.url))
        return places[-1]

    yield make
    for place in places:
        with contextlib.suppress(BrokerError):
            place.target.end()


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitmqServer]:
    """A server of this module's own, to be killed."""
    with RabbitmqServer() as server:
        yield server


def ids_in(shard: int, count: int) -> list[str]:
    """Return ids that belong to one stream."""
    found: list[str] = []
    while len(found) < count:
        id = new_id()
        if shard_of(id) == shard:
            found.append(id)
    return found


def aged(age: float) -> str:
    """Return an id that was made so many seconds ago."""
    made = f"{int((time.time() - age) * 1000):012x}"
    return f"{made[:8]}-{made[8:]}{new_id()[13:]}"


def shard_state(results: AmqpResults, id: str) -> feed.Shard:
    return results._open().reading._shards[shard_of(id)]


# -- What others do to the streams


@pytest.mark.parametrize("live", [True, False])
def test_a_stream_that_is_deleted_is_made_again_by_who_stores(place: Place, live: bool) -> None:
    results, other = place.open(), place.open()
    results.store([record("m")])
    if live:
        other.fetch(["m"])
    place.delete("m")

    results.store([record("m", payload=b"new")])

    for reader in (other, results):
        found = reader.fetch(["m"])
        assert found["m"].payload == b"new"


def test_a_stream_that_is_deleted_is_made_again_by_who_reads(place: Place) -> None:
    results = place.open()
    results.store([record("m")])
    assert results.fetch(["m"])
    place.delete("m")

    assert results.fetch(["m"]) == {}
    assert results.fetch(["m"]) == {}


def test_a_wait_goes_on_when_its_stream_is_deleted(place: Place) -> None:
    waiter, writer = place.open(), place.open()
    waiter.fetch(["m"])
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(waiter.wait, ["m"], timeout=20)
        until(lambda: waiter._open().reading._watches, "it waits")
        place.delete("m")
        writer.store([record("m")])

        assert answer.result(30) == {"m": record("m")}


def test_a_stream_that_was_made_anew_while_nobody_looked_is_read_from_its_start(
    place: Place,
) -> None:
    reader = place.open()
    first, second = ids_in(0, 2)
    reader.store([record(first, number) for number in range(5)])
    reader.store([record(first, number) for number in range(5, 9)])
    assert reader.fetch([first])
    reader._open().reading._feed.connection.close()
    place.delete(first)

    place.open().store([record(second)])

    until(lambda: reader.fetch([first, second]) == {second: record(second)}, "it is found")


def test_a_queue_of_somebody_else_by_the_name_of_a_stream_is_refused(place: Place) -> None:
    results = place.open()
    place.call(spec.Queue.Declare(0, stream_of(place.namespace, shard_of("m")), durable=True))

    calls: list[Callable[[], object]] = [
        lambda: results.store([record("m")]),
        lambda: results.fetch(["m"]),
    ]
    for call in calls:
        with pytest.raises(ServerRefused, match="somebody else"):
            call()


def test_messages_that_are_not_ours_are_passed_over(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    results = place.open()
    results.store([record("m")])
    stream = stream_of(place.namespace, shard_of("m"))
    place.put(stream, b"hello", b"\x01\xff", b"\x02\x90", b"")

    assert results.fetch(["m"]) == {"m": record("m")}
    assert "passed over" in caplog.text


# -- Looking back


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reading begin at what is stored from now on."""
    offset = feed.Feed._offset

    def none(self: feed.Feed, shard: feed.Shard, ids: Sequence[str]) -> str:
        offset(self, shard, ids)
        shard.tail.resume(time.time())
        return "next"

    monkeypatch.setattr(feed.Feed, "_offset", none)


def past(place: Place, ids: list[str], shard: int) -> None:
    """Store records before any reading begins."""
    now = round(place.clock.now() * MICROSECONDS)
    place.open().store([record(id, 99) for id in ids_in(shard, 1)])
    place.fill(shard, [stored(record(id), now) for id in ids])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("block", [1, 7, 500])
def test_what_was_stored_long_before_is_found(
    place: Place, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FIRST_BLOCK", block)
    ids = ids_in(3, 40)
    past(place, ids, 3)
    results = place.open()

    assert sorted(results.fetch([ids[20]])) == [ids[20]]
    assert sorted(results.fetch(ids)) == sorted(ids)
    assert results.horizon(ids) == float("inf")
    assert results.wait([ids[3]], timeout=1)


@pytest.mark.usefixtures("short")
def test_what_was_forgotten_long_before_stays_so(place: Place) -> None:
    kept, gone = ids_in(3, 2)
    past(place, [kept, gone], 3)
    place.open().forget([gone])

    assert list(place.open().fetch([kept, gone])) == [kept]


@pytest.mark.usefixtures("short")
def test_what_is_not_looked_for_any_further_is_not_called_absent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FIRST_BLOCK", 2)
    monkeypatch.setattr(history, "MOST", 6)
    ids = [id for id in (aged(3600) for _ in range(400)) if shard_of(id) == 3][:20]
    now = place.clock.now()
    place.open().store([record(id) for id in ids_in(3, 1)])
    entries = [
        stored(record(id, ttl=9000), round((now - 1000 + 10 * number) * MICROSECONDS))
        for number, id in enumerate(ids)
    ]
    place.fill(3, entries)
    results = place.open()

    assert list(results.fetch([ids[-1], ids[0]])) == [ids[-1]]
    assert 800 < results.horizon([ids[0]]) < 900
    monkeypatch.setattr(history, "MOST", 100)
    other = place.open()
    assert len(other.fetch(ids)) == len(ids)
    assert other.horizon(ids) == float("inf")


@pytest.mark.usefixtures("short")
def test_an_id_without_a_time_is_looked_for_as_far_as_the_index_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of("m")
    place.open().store([record("m")])
    past(place, ids_in(shard, 300), shard)
    whole, small = place.open(), place.open()
    shard_state(small, "m").tail = Tail(20_000)
    blocks: list[int] = []
    run = history._Scan.run

    def counted(self: history._Scan, until: float) -> Block | None:
        blocks.append(1)
        return run(self, until)

    monkeypatch.setattr(history._Scan, "run", counted)
    monkeypatch.setattr(history, "FIRST_BLOCK", 10)

    assert list(whole.fetch(["m"])) == ["m"]
    assert small.fetch(["m"]) == {}
    blocks.clear()
    names = [name for name in map(str, range(99)) if shard_of(name) == shard]
    for name in names:
        assert small.fetch([name]) == {}
    assert len(names) > 5
    assert not blocks, "each new name costs a look back"
    assert small.horizon(names) < 60


def test_the_index_is_bounded_and_what_it_dropped_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, writer = place.open(), place.open()
    ids = ids_in(2, 200)
    results.fetch(ids[:1])
    shard_state(results, ids[0]).tail._budget = 10_000
    for id in ids:
        writer.store([record(id)])

    assert sorted(results.fetch(ids)) == sorted(ids)
    assert shard_state(results, ids[0]).tail._index.size <= 10_000
    assert results.fetch(ids[:1]) == {ids[0]: record(ids[0])}


# -- Reading, pausing and going on


def test_what_nobody_asks_about_any_more_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LINGER", 0.05)
    results, writer = place.open(), place.open()
    results.fetch(["m"])
    shard = shard_state(results, "m")
    assert shard.live

    until(lambda: _stored(writer, "m") and not shard.attached, "it stops reading")
    writer.store([record("m", 7)])

    assert results.fetch(["m"])["m"].run == 7
    assert shard.attached


def test_what_came_while_nothing_was_read_is_known_when_reading_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, writer = place.open(), place.open()
    ids = ids_in(1, 30)
    writer.store([record(ids[0])])
    results.fetch(ids[:1])
    for number in range(1, 30):
        if number % 10 == 0:
            results._open().reading._feed.connection.close()
        writer.store([record(ids[number])])
        if number % 7 == 0:
            assert results.wait([ids[number]], timeout=5)

    assert sorted(results.fetch(ids)) == sorted(ids)


def test_a_reader_far_behind_catches_up(place: Place) -> None:
    results, writer = place.open(), place.open()
    results.fetch(["m"])
    writer.store([record(new_id(), payload=b"x" * 1000) for _ in range(3000)])
    for _ in range(700):
        writer.store([record("m", payload=b"x" * 2000)])
    writer.store([record("m", 1)])

    assert results.fetch(["m"]) == {"m": record("m", 1)}


def test_all_that_was_delivered_is_acknowledged_soon(url: str, place: Place) -> None:
    results, writer = place.open(), place.open()
    results.fetch(["m"])
    feed_ = results._open().reading._feed
    writer.store([record("m")])

    # The thread that reads looks up whenever something comes, and every few seconds.
    until(
        lambda: _stored(writer, "m") and feed_._last_tag - feed_._acked <= 1,
        "all is acknowledged",
    )


# -- Waiting


def test_many_waits_end_each_with_its_own_record(place: Place) -> None:
    waiter, writer = place.open(), place.open()
    ids = [new_id() for _ in range(200)]
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(waiter.wait, [id, "nobody"], timeout=20) for id in ids]
        for first in range(0, 200, 7):
            writer.store([record(new_id()) for _ in range(20)])
            writer.store([record(id, state="RETRY") for id in ids[first : first + 7]])
            writer.store([record(id, 1) for id in ids[first : first + 7]])

        for id, answer in zip(ids, answers, strict=True):
            assert answer.result(30) == {id: record(id, 1)}
    assert not waiter._open().reading._watches


def test_a_wait_does_not_poll(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    waiter, writer = place.open(), place.open()
    waiter.wait(["m"], timeout=0.01)
    tail = shard_state(waiter, "m").tail
    before = tail.next

    assert waiter.wait(["m"], timeout=1.0) == {}
    for _ in range(5):
        assert waiter.wait(["m"], timeout=0.01) == {}

    writer.store([record("m")])
    assert waiter.wait(["m"], timeout=5)
    assert tail.next - before == 1, "waiting leaves marks in the stream"


def test_a_client_sees_at_once_what_it_has_stored_and_forgotten_itself(place: Place) -> None:
    results = place.open()
    for run in range(50):
        results.store([record("m", run)])
        assert results.wait(["m"], timeout=1)["m"].run == run
        results.forget(["m"])
        assert results.wait(["m"], timeout=0.001) == {}


def test_close_ends_a_wait(place: Place) -> None:
    results = place.open()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(results.wait, ["m"], timeout=60)
        until(lambda: results._open().reading._watches, "it waits")
        results.close()

        with pytest.raises(Closed):
            answer.result(10)


def test_what_is_stored_while_reading_begins_is_not_passed_over(url: str) -> None:
    for _ in range(10):
        place = Place(url)
        deadline = time.monotonic() + 30
        names = [stream_of(place.namespace, shard) for shard in range(SHARDS)]
        place.call(*(spec.Queue.Declare(0, n, durable=True, arguments=ARGUMENTS) for n in names))
        connection = Connection(Options.of(place.target.url), "somebody", deadline)
        channel = connection.channel(deadline)
        channel.call(spec.Confirm.Select(), deadline=deadline)
        publisher = Publisher(channel)
        reader = place.open()
        reader.fetch([])
        missed = []
        for shard, stream in enumerate(names):
            [id] = ids_in(shard, 1)
            body = pack([stored(record(id), round(time.time() * MICROSECONDS))])
            with ThreadPoolExecutor() as pool:
                found = pool.submit(reader.wait, [id], timeout=2.0)
                time.sleep(random.uniform(0, 0.005))
                publisher.publish([Parcel("", stream, body)], deadline).check()
                missed += [] if found.result() else [stream]
        connection.close()
        place.target.end()

        assert not missed


def test_a_wait_of_many_for_nothing_ends_in_time(place: Place) -> None:
    results = place.open()
    before = time.monotonic()

    assert results.wait([new_id() for _ in range(1000)], timeout=0.3) == {}

    assert time.monotonic() - before < 5


# -- Processes and threads


def test_a_forked_child_reads_and_stores_by_connections_of_its_own(place: Place) -> None:
    results = place.open()
    results.store([record("m")])
    results.fetch(["m"])
    lock = results._open().reading._lock
    with lock:
        # As if another thread had been in the midst of something.
        pid = os.fork()
        if not pid:
            code = 1
            try:
                found = results.fetch(["m"])
                results.store([record("child", 5)])
                code = 0 if found == {"m": record("m")} else 2
            finally:
                os._exit(code)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert results.fetch(["m", "child"]) == {"m": record("m"), "child": record("child", 5)}


def test_threads_that_store_and_fetch_at_once_see_what_they_stored(place: Place) -> None:
    results = place.open()

    def work(number: int) -> int:
        for round_ in range(30):
            id = f"{number}-{round_}"
            results.store([record(id), record("shared", round_)])
            assert results.fetch([id]) == {id: record(id)}
            if round_ % 3 == 0:
                results.forget([id])
                assert results.fetch([id]) == {}
        return number

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(work, range(8))) == list(range(8))
    assert results.fetch(["shared"])["shared"].run == 29


# -- Trouble


@pytest.mark.parametrize("name", ["store", "fetch", "wait"])
def test_a_server_that_says_nothing_is_given_up_in_time(place: Place, name: str) -> None:
    with place.proxy() as proxy:
        port = proxy.open()
        results = place.through(port.number, timeout="1")
        calls: dict[str, Callable[[], object]] = {
            "store": lambda: results.store([record("m")]),
            "fetch": lambda: results.fetch(["m"]),
            "wait": lambda: results.wait([new_id() for _ in range(9)], timeout=0.1),
        }
        results.store([record("m")])
        if name != "store":
            # A connection that reads acknowledges, and would be the one to fall silent.
            results.fetch(["m"])
        port.hush_next()
        before = time.monotonic()

        def call_until_silent() -> None:
            for _ in range(5):
                # What is under way, such as an acknowledgement, still gets its answer.
                calls[name]()

        with pytest.raises(OutcomeUnknown):
            call_until_silent()

        assert time.monotonic() - before < 4
        calls[name]()
        assert results.fetch(["m"])
        results.close()


def test_a_wait_goes_on_over_a_lost_connection(place: Place) -> None:
    with place.proxy() as proxy:
        port = proxy.open()
        waiter, writer = place.through(port.number), place.open()
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(waiter.wait, ["m"], timeout=20)
            for _ in range(3):
                until(lambda: waiter._open().reading._watches, "it waits")
                until(lambda: shard_state(waiter, "m").live, "it reads")
                port.cut()
                until(lambda: shard_state(waiter, "m").live, "it reads again")
            writer.store([record("m")])

            assert answer.result(30) == {"m": record("m")}
        waiter.close()


def test_without_a_server_nothing_happens(place: Place) -> None:
    results = AmqpResults(
        Options.of(Url.parse("amqp://guest:hush@127.0.0.1:1?timeout=1")), place.clock
    )
    calls: list[Callable[[], object]] = [
        lambda: results.store([record("m")]),
        lambda: results.fetch(["m"]),
        lambda: results.wait(["m"], timeout=5),
        lambda: results.forget(["m"]),
    ]
    for call in calls:
        with pytest.raises(ConnectionFailed) as caught:
            call()
        assert "hush" not in str(caught.value)
    assert results.expire() == 0
    assert "hush" not in repr(results)
    results.close()


def test_results_outlive_a_server_that_is_killed_and_restarted(server: RabbitmqServer) -> None:
    bouncer = Bouncer(server)
    target = ResultsTarget(server.url, restart=bouncer)

    for _ in range(2):
        assert run_examples(Restarting(), target, Ledger("RabbitMQ")) == {}
    assert bouncer.times == 2


def test_what_was_stored_a_moment_ago_survives_a_kill(
    server: RabbitmqServer, place_on: Callable[[RabbitmqServer], Place]
) -> None:
    place = place_on(server)
    results = place.open()
    ids = [new_id() for _ in range(300)]
    for id in ids:
        results.store([record(id)])

    server.kill()
    server.start()

    found = until(lambda: _fetched(results, ids), "the server answers")
    assert sorted(found) == sorted(ids)


def _fetched(results: AmqpResults, ids: list[str]) -> dict[str, ResultRecord]:
    with contextlib.suppress(BrokerError):
        return results.fetch(ids)
    return {}


def test_the_first_results_of_a_server_survive_a_kill(
    place_on: Callable[[RabbitmqServer], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RabbitmqServer() as server:
        place = place_on(server)
        hasty = place.through(server.port, timeout="1")
        with pytest.raises(ConnectionFailed, match="first stream"):
            hasty.store([record("m")])
        until(lambda: _stored(hasty, "m"), "it is stored")

        server.kill()
        server.start()

        reader = place.open()
        found = until(lambda: _fetched(reader, ["m"]), "the server answers")
        assert found == {"m": record("m")}
        queues = server.ctl("list_queues", "name").split()
        assert [name for name in queues if ".first." in name] == []
        assert preparation.SETTLED in queues
        hasty.close()


def _stored(results: AmqpResults, id: str) -> bool:
    with contextlib.suppress(ConnectionFailed, OutcomeUnknown):
        results.store([record(id)])
        return True
    return False


def test_an_alarm_lets_stores_fail_in_time_and_pass_afterwards(
    server: RabbitmqServer, place_on: Callable[[RabbitmqServer], Place]
) -> None:
    place = place_on(server)
    results, reader = place.through(server.port, timeout="1"), place.open()
    results.store([record("m")])
    assert reader.fetch(["m"])
    server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        before = time.monotonic()
        for _ in range(2):
            with pytest.raises(BrokerError):
                results.store([record("m", 1)])
        assert time.monotonic() - before < 8
        assert reader.wait(["m"], timeout=1) == {"m": record("m")}
    finally:
        server.ctl("set_vm_memory_high_watermark", "0.6")

    until(lambda: _stored(results, "n"), "it stores again")
    assert results.fetch(["n"])
    results.close()


def test_time_is_that_of_the_clock_that_was_given(place: Place) -> None:
    slow, quick = VirtualClock(), VirtualClock()
    quick.advance(50)
    options = Options.of(place.target.url)
    writer, reader = AmqpResults(options, slow), AmqpResults(options, quick)
    writer.store([record("short", ttl=40), record("long", ttl=60)])

    assert sorted(reader.fetch(["short", "long"])) == ["long"]
    assert sorted(writer.fetch(["short", "long"])) == ["long", "short"]
    writer.close()
    reader.close()


def test_threads_end_with_the_client(place: Place) -> None:
    before = set(threading.enumerate())
    results = place.open()
    results.store([record("m")])
    results.fetch(["m"])
    mine = set(threading.enumerate()) - before
    assert len(mine) == 2

    results.close()

    until(lambda: not any(thread.is_alive() for thread in mine), "all threads end")
