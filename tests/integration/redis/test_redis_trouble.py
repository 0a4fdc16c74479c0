import contextlib
import math
import os
import socket
import threading
import time

import pytest

from taskq.contract.delivery import Heartbeat, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Release, Retry
from taskq.errors import (
    Closed,
    ConnectionFailed,
    NotSupported,
    OutcomeUnknown,
    SendError,
    ServerRefused,
)
from tests.integration.redis.redis_server import free_port, item, soon


@pytest.fixture
def silent_port():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_closed_port_is_a_failed_connection_and_shows_no_password(open_broker):
    broker = open_broker(f"redis://:hush@127.0.0.1:{free_port()}")

    with pytest.raises(ConnectionFailed) as caught:
        broker.stats()

    assert "hush" not in str(caught.value)


def test_a_send_to_a_closed_port_names_everything_as_unsent(open_broker):
    broker = open_broker(f"redis://127.0.0.1:{free_port()}")
    items = [item(), item()]

    with pytest.raises(SendError) as caught:
        broker.send(items)

    assert caught.value.unsent == tuple(one.message.id for one in items)
    assert caught.value.sent == caught.value.unknown == ()
    assert not caught.value.refused


def test_a_send_to_a_silent_server_ends_in_time_and_is_unknown(open_broker, silent_port):
    broker = open_broker(f"redis://127.0.0.1:{silent_port}")
    one = item()
    before = time.monotonic()

    with pytest.raises(SendError) as caught:
        broker.send([one], timeout=0.2)

    assert time.monotonic() - before < 0.5
    assert caught.value.unknown == (one.message.id,)


def test_a_greeting_without_answer_is_a_failed_connection(open_broker, silent_port):
    broker = open_broker(f"redis://:hush@127.0.0.1:{silent_port}?timeout=0.2")

    with pytest.raises(ConnectionFailed):
        broker.stats()


def test_a_claim_at_a_silent_server_can_be_interrupted(open_broker, silent_port):
    broker = open_broker(f"redis://127.0.0.1:{silent_port}")
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(broker.reserve(["default"], limit=1, lease=30, wait=30))
    )
    thread.start()
    soon(thread.is_alive)

    before = time.monotonic()
    broker.interrupt()
    thread.join(5)

    assert answers == [[]]
    assert time.monotonic() - before < 0.1


def test_an_interrupt_ends_a_wait_and_lasts(broker, admin):
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(broker.reserve(["default"], limit=1, lease=30, wait=30))
    )
    thread.start()
    soon(lambda: b"cmd=blpop" in admin.command("CLIENT", "LIST"))

    before = time.monotonic()
    broker.interrupt()
    thread.join(5)
    elapsed = time.monotonic() - before
    broker.send([item()])

    assert answers == [[]]
    assert elapsed < 0.1
    assert broker.reserve(["default"], limit=1, lease=30) == []


def test_a_close_ends_a_wait(broker, admin):
    thread = threading.Thread(
        target=lambda: broker.reserve(["default"], limit=1, lease=30, wait=30)
    )
    thread.start()
    soon(lambda: b"cmd=blpop" in admin.command("CLIENT", "LIST"))

    broker.close()
    thread.join(5)

    assert not thread.is_alive()
    with pytest.raises(Closed):
        broker.reserve(["default"], limit=1, lease=30)


def test_a_wait_is_woken_by_the_send_of_another_client(broker, admin, server, open_broker):
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(broker.reserve(["a", "b"], limit=1, lease=30, wait=30))
    )
    thread.start()
    soon(lambda: b"cmd=blpop" in admin.command("CLIENT", "LIST"))

    before = time.monotonic()
    open_broker(server.url()).send([item("b")])
    thread.join(5)

    assert len(answers[0]) == 1
    assert time.monotonic() - before < 0.5


def test_a_message_left_behind_by_a_claim_wakes_the_next_waiter(broker, admin, server, open_broker):
    answers = []

    def wait():
        waiter = open_broker(server.url())
        answers.extend(waiter.reserve(["default"], limit=1, lease=30, wait=30))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    soon(lambda: admin.command("CLIENT", "LIST").count(b"cmd=blpop") == 3)

    before = time.monotonic()
    broker.send([item(), item(), item()])
    for thread in threads:
        thread.join(5)

    assert len({delivery.id for delivery in answers}) == 3
    assert time.monotonic() - before < 0.5


def test_scripts_the_server_forgot_are_loaded_again(broker, admin):
    broker.send([item()])

    admin.command("SCRIPT", "FLUSH")
    broker.send([item()])

    assert broker.stats()[0].ready == 2


def test_a_restarted_server_is_not_noticed_by_the_next_send(broker, server):
    broker.send([item()])

    server.stop()
    server.start()
    broker.send([item()])

    assert broker.stats()[0].ready == 1


def test_a_connection_cut_while_idle_is_not_noticed(broker, admin):
    broker.send([item()])

    admin.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    broker.send([item()])

    assert broker.stats()[0].ready == 2


def test_a_connection_cut_before_the_answer_leaves_the_outcome_unknown(open_broker):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = open_broker(f"redis://127.0.0.1:{listener.getsockname()[1]}")

        def cut():
            accepted, _ = listener.accept()
            accepted.recv(1 << 16)
            accepted.close()

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(OutcomeUnknown):
            broker.recover_expired()
        thread.join(5)


def test_an_answer_in_another_protocol_is_an_error_of_taskq(open_broker):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = open_broker(f"redis://127.0.0.1:{listener.getsockname()[1]}")

        def answer():
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(1 << 16)
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OutcomeUnknown, match="does not talk like"):
            broker.stats()
        thread.join(5)


def test_a_key_of_another_program_is_refused_and_changes_nothing(broker, admin):
    admin.command("SET", "{taskq:taskq}:messages", "not ours")

    with pytest.raises(SendError) as caught:
        broker.send([item()])

    assert caught.value.refused
    assert "another namespace" in str(caught.value)
    assert admin.command("DBSIZE") == 1


def test_a_full_memory_refuses_sends_and_lets_the_work_go_on(broker, results, admin):
    broker.send([item(), item(), item()])
    first, second = broker.reserve(["default"], limit=2, lease=30)
    admin.command("CONFIG", "SET", "maxmemory", "1mb")

    with pytest.raises(SendError) as caught:
        broker.send([item()])
    record = ResultRecord(first.id, 0, "SUCCESS", b"", 60.0)
    [third] = broker.reserve(["default"], limit=1, lease=30)
    beat = Heartbeat("w", "i", "host", 1, 0.0, ("default",), "threads", 1)

    assert caught.value.refused
    assert len(caught.value.unsent) == 1
    assert broker.extend([first, second, third], lease=60).lost == []
    assert broker.send_heartbeat(beat, ttl=5) == []
    assert broker.settle([Ack(first, record), Release(second), Ack(third)]) == []
    assert results.fetch([first.id])[first.id].state == "SUCCESS"
    with pytest.raises(ServerRefused, match="memory is full"):
        results.store([record])


def test_a_replica_is_refused_by_name(broker, admin):
    broker.send([item()])
    admin.command("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(ServerRefused, match="connect to the primary"):
        broker.reserve(["default"], limit=1, lease=30)

    admin.command("REPLICAOF", "NO", "ONE")
    broker.send([item()])


def test_a_wrong_password_is_refused_and_not_waited_out(server, admin, open_broker):
    admin.command("CONFIG", "SET", "requirepass", "right")
    broker = open_broker(f"redis://:hush@127.0.0.1:{server.port}")

    with pytest.raises(ServerRefused, match="refused AUTH") as caught:
        broker.send_heartbeat(Heartbeat("w", "i", "h", 1, 0.0, (), "threads", 1), ttl=1)

    assert "hush" not in str(caught.value)
    right = open_broker(f"redis://:right@127.0.0.1:{server.port}/1")
    right.send([item()])
    with pytest.raises(ServerRefused, match="password"):
        open_broker(server.url()).stats()


def test_a_unix_socket_serves_too(server, open_broker):
    broker = open_broker(f"unix://{server.folder}/redis.sock?db=1")

    broker.send([item()])

    assert broker.stats()[0].ready == 1


def test_a_child_process_opens_connections_of_its_own(broker):
    broker.send([item()])
    reader, writer = os.pipe()

    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            broker.send([item()])
            os.write(writer, str(broker.stats()[0].ready).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        seen = pipe.read()
    os.waitpid(child, 0)

    assert seen == b"2"
    assert broker.stats()[0].ready == 2


def test_forks_while_threads_send_lose_and_mix_up_nothing(broker):
    stop = threading.Event()
    told = []

    def send(name):
        number = 0
        while not stop.is_set():
            broker.send([Send(Message(f"{name}-{number}", "default", b""))])
            assert broker.locate([f"{name}-{number}"]) == {f"{name}-{number}": State.READY}
            told.append(f"{name}-{number}")
            number += 1

    threads = [threading.Thread(target=send, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for n in range(8):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                broker.send([Send(Message(f"child-{n}", "default", b""))])
            os._exit(0)
        os.waitpid(child, 0)
    stop.set()
    for thread in threads:
        thread.join(5)

    told += [f"child-{n}" for n in range(8)]
    assert len(told) > 8
    assert set(broker.locate(told)) == set(told)


def test_an_evicting_server_is_refused_unless_told_otherwise(server, admin, open_broker):
    admin.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    with pytest.raises(NotSupported, match="evict_ok=1"):
        open_broker(server.url()).check()

    sentences = open_broker(server.url(evict_ok="1")).check()
    assert any("allkeys-lru" in sentence for sentence in sentences)


def test_a_server_that_may_lose_tasks_says_so(broker, admin):
    assert any("appendonly is no" in sentence for sentence in broker.check())

    admin.command("CONFIG", "SET", "appendonly", "yes")
    assert any("appendfsync is everysec" in sentence for sentence in broker.check())

    admin.command("CONFIG", "SET", "appendfsync", "always")
    assert broker.check() == []


def test_a_server_that_forbids_config_is_checked_by_info(server, admin, open_broker):
    admin.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
    admin.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    with pytest.raises(NotSupported):
        open_broker(f"redis://app:pw@127.0.0.1:{server.port}").check()


def test_a_failure_after_the_first_of_many_steps_is_unknown(broker, admin):
    broker.send([item() for _ in range(600)])
    deliveries = broker.reserve(["default"], limit=600, lease=30)
    successor = Send(Message("last", "strange", b""), delay=5)
    admin.command("SET", "{taskq:taskq}:queue:strange:scheduled", "not ours")
    strange = [Ack(one) for one in deliveries[:-1]]
    strange.append(Ack(deliveries[-1], send=(successor,)))

    with pytest.raises(OutcomeUnknown, match="in part"):
        broker.settle(strange)


def test_more_messages_than_lua_can_unpack_are_claimed_in_one_step(broker):
    broker.send([Send(Message(f"m{number}", "default", b"x")) for number in range(9000)])

    deliveries = broker.reserve(["default"], limit=9000, lease=0.01)
    time.sleep(0.02)
    again = broker.reserve(["default"], limit=9000, lease=30)

    assert [one.id for one in deliveries] == [f"m{number}" for number in range(9000)]
    assert len(again) == 9000
    assert broker.settle([Ack(one) for one in deliveries]) == deliveries
    assert broker.settle([Ack(one) for one in again]) == []
    assert broker.stats() == []


def test_a_purge_takes_as_many_steps_as_it_needs(broker, admin):
    broker.send([item() for _ in range(2500)])

    assert broker.purge("default", states=frozenset({State.READY})) == 2500
    assert broker.locate(["x"]) == {}
    assert admin.command("EXISTS", "{taskq:taskq}:messages") == 0


def test_a_result_is_announced_only_to_those_who_wait(broker, results, admin):
    found = []
    thread = threading.Thread(target=lambda: found.append(results.wait(["a", "b"], timeout=30)))
    thread.start()
    soon(lambda: admin.command("PUBSUB", "CHANNELS"))

    before = time.monotonic()
    results.store([ResultRecord("a", 0, "RETRY", b"", 60.0)])
    results.store([ResultRecord("b", 0, "SUCCESS", b"4", 60.0)])
    thread.join(5)
    results.store([ResultRecord("c", 0, "SUCCESS", b"5", 60.0)])

    assert [record.payload for record in found[0].values()] == [b"4"]
    assert time.monotonic() - before < 0.5
    assert admin.command("PUBSUB", "CHANNELS") == []
    assert b"cmdstat_publish:calls=1," in admin.command("INFO", "commandstats")


def test_a_close_ends_a_wait_for_results(results, admin):
    errors = []

    def wait():
        try:
            results.wait(["a"], timeout=30)
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    soon(lambda: admin.command("PUBSUB", "CHANNELS"))

    results.close()
    thread.join(5)

    assert len(errors) == 1


def test_a_user_who_may_not_publish_settles_all_the_same(server, admin, results, open_broker):
    admin.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "resetchannels", "+@all")
    limited = open_broker(f"redis://app:pw@127.0.0.1:{server.port}")
    limited.send([item()])
    [delivery] = limited.reserve(["default"], limit=1, lease=30)
    record = ResultRecord(delivery.id, 0, "SUCCESS", b"", 60.0)
    found = []
    thread = threading.Thread(target=lambda: found.append(results.wait([delivery.id], timeout=30)))
    thread.start()
    soon(lambda: admin.command("PUBSUB", "CHANNELS"))

    lost = limited.settle([Ack(delivery, record, (item(),))])
    thread.join(5)

    assert lost == []
    assert limited.stats()[0].ready == 1
    assert found == [{delivery.id: record}]


def test_leases_without_a_record_spare_the_others_and_leave_nothing(broker, admin):
    broker.send([item(), item()])
    gone, kept = broker.reserve(["default"], limit=2, lease=30)
    admin.command("HDEL", "{taskq:taskq}:messages", gone.id)

    assert broker.settle([Retry(gone, envelope=b"new"), Release(kept)]) == []
    [again] = broker.reserve(["default"], limit=5, lease=0.01)
    time.sleep(0.02)
    [again] = broker.reserve(["default"], limit=5, lease=30)
    broker.settle([Ack(again)])

    assert again.id == kept.id
    assert broker.stats() == []
    assert admin.command("EXISTS", "{taskq:taskq}:counters") == 0


@pytest.mark.parametrize("limit", [1, 0, -1])
def test_a_limit_that_would_break_a_reclaim_is_refused(broker, limit):
    with pytest.raises(ValueError, match="at least 2"):
        broker.send([Send(Message("m", "default", b"", max_deliveries=limit))])

    assert broker.stats() == []


@pytest.mark.parametrize("far", [math.inf, 1e300])
def test_a_time_beyond_all_calendars_is_far_and_no_error(broker, results, far):
    message = Message("m", "default", b"")
    broker.send([Send(message, ttl=far)])
    [delivery] = broker.reserve(["default"], limit=1, lease=far)
    record = ResultRecord("m", 0, "SUCCESS", b"", far)

    assert broker.extend([delivery], lease=far).lost == []
    assert broker.settle([Ack(delivery, record)]) == []
    assert "m" in results.fetch(["m"])
    broker.send(
        [
            Send(Message("delay", "default", b""), delay=far),
            Send(Message("eta", "default", b""), eta=far, expires=far),
        ]
    )
    assert broker.stats()[0].scheduled == 2
