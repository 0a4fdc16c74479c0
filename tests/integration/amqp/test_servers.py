"""A RabbitMQ node of a test's own does what `tests.rabbitmq_servers` says of it."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker, StreamLostError

from tests import rabbitmq_servers
from tests.rabbitmq_servers import RabbitmqServer, find_rabbitmq, shared_rabbitmq
from tests.waiting import until

ROOT = Path(__file__).parents[3]
QUEUE = "tasks"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
NOTHING = (None, None, None)
"""What a queue without messages gives."""


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitmqServer]:
    with RabbitmqServer("consumer_timeout = 12345") as server:
        yield server


@contextlib.contextmanager
def connected(server: RabbitmqServer) -> Iterator[pika.BlockingConnection]:
    parameters = pika.URLParameters(server.url)
    # One that stays blocked would not even let itself be closed.
    parameters.blocked_connection_timeout = 20
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        # What broke it has closed it.
        with contextlib.suppress(AMQPConnectionError):
            connection.close()


def store(
    server: RabbitmqServer, body: bytes, *, queue: str = QUEUE, kind: str = "classic"
) -> None:
    """Put a message into a durable queue, and return once the server has confirmed it."""
    with connected(server) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind})
        channel.basic_publish("", queue, body, PERSISTENT, mandatory=True)


def count(server: RabbitmqServer, queue: str) -> int:
    """Say how many messages are in a queue, which must be there."""
    with connected(server) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)


def stored(server: RabbitmqServer) -> list[bytes]:
    """Take all that is in the queue."""
    with connected(server) as connection:
        channel = connection.channel()
        return [body for *_, body in iter(lambda: channel.basic_get(QUEUE, auto_ack=True), NOTHING)]


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    return False


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that have not ended; some wait a moment for the system to forget them."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def of_folder(folder: Path) -> list[psutil.Process]:
    """Return the processes, whoever is their parent, that were started for it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(folder):
                found.append(process)
    return alive(found)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_was_flushed_is_there_after_a_kill(server: RabbitmqServer, kind: str) -> None:
    port, queue = server.port, f"flushed-{kind}"
    store(server, b"a", queue=queue, kind=kind)
    server.flush()

    server.kill()
    assert not listens(port)
    server.start()

    assert server.port == port
    # A quorum queue counts none before it has elected a leader again.
    until(lambda: count(server, queue) == 1, "the message is in the queue")


def test_what_was_confirmed_is_there_after_a_stop(server: RabbitmqServer) -> None:
    port = server.port
    store(server, b"a")

    server.stop()
    assert not listens(port)
    server.start()

    assert (server.port, stored(server)) == (port, [b"a"])


def test_a_bounce_ends_connections_and_keeps_the_process(server: RabbitmqServer) -> None:
    store(server, b"a")
    process, spent = server.ctl("eval", "os:getpid()."), server.cpu()

    with connected(server) as connection:
        server.bounce()
        with pytest.raises(ConnectionClosedByBroker):
            connection.process_data_events(5)

    assert stored(server) == [b"a"]
    assert server.ctl("eval", "os:getpid().") == process
    assert server.cpu() > spent


def test_two_run_at_once_and_know_nothing_of_each_other(server: RabbitmqServer) -> None:
    with RabbitmqServer() as other:
        store(server, b"a")
        store(other, b"b")
        other.flush()

        other.kill()
        assert stored(server) == [b"a"]
        other.start()

        assert stored(other) == [b"b"]
        assert other.ctl("eval", "rabbit_nodes:all_running().").strip() == f"[{other._node}]"


def test_one_that_is_closed_leaves_nothing_behind() -> None:
    with RabbitmqServer() as own:
        own.ctl("status")
        processes = of_folder(own._folder)
        assert {"beam.smp", "erl_child_setup"} <= {process.name() for process in processes}
        assert "epmd" not in {process.name() for process in processes}

    until(lambda: not alive(processes), "its processes have ended")
    assert not of_folder(own._folder)
    assert not listens(own.port)
    assert not own._folder.exists()


def test_one_that_is_killed_leaves_nothing_but_its_folder(server: RabbitmqServer) -> None:
    processes = of_folder(server._folder)

    server.kill()

    until(lambda: not alive(processes), "its processes have ended")
    assert not of_folder(server._folder)
    server.start()


def test_one_whose_tests_are_killed_ends_by_itself(server: RabbitmqServer) -> None:
    script = """if True:
        from tests.rabbitmq_servers import RabbitmqServer
        with RabbitmqServer() as server:
            print(server._folder, flush=True)
            input()
    """
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        processes = of_folder(folder)
        assert processes

        tests.kill()

    try:
        until(lambda: not alive(processes), "its processes have ended")
    finally:
        for process in alive(processes):
            process.kill()
        shutil.rmtree(folder)


def test_lines_of_configuration_are_its_own(server: RabbitmqServer) -> None:
    timeout = "application:get_env(rabbit, consumer_timeout)."

    assert server.ctl("eval", timeout).strip() == "{ok,12345}"
    assert server.ctl("list_vhosts").split() == ["/"]


def test_one_that_is_emptied_has_no_queues_and_lets_clients_in(server: RabbitmqServer) -> None:
    store(server, b"a")

    server.empty()

    assert not server.ctl("list_queues", "name").split()
    store(server, b"b")
    assert stored(server) == [b"b"]


def test_a_command_that_fails_says_why(server: RabbitmqServer) -> None:
    with pytest.raises(AssertionError, match="no_such_queue"):
        server.ctl("delete_queue", "no_such_queue")
    with pytest.raises(AssertionError, match="badarith"):
        server._evaluate("1 / 0")


def test_clients_that_are_cut_off_hear_nothing(server: RabbitmqServer) -> None:
    with connected(server) as one, connected(server) as two:
        assert server.cut() == 2

        for connection in (one, two):
            with pytest.raises(StreamLostError):
                connection.process_data_events(5)
    assert server.cut() == 0


def test_clients_whose_connection_is_closed_hear_why(server: RabbitmqServer) -> None:
    with connected(server) as connection:
        assert server.close_all_connections() == 1

        with pytest.raises(ConnectionClosedByBroker, match="320"):
            connection.process_data_events(5)


def test_who_publishes_is_blocked_while_there_is_an_alarm(server: RabbitmqServer) -> None:
    heard: list[str] = []
    with connected(server) as connection:
        connection.add_on_connection_blocked_callback(lambda *_: heard.append("blocked"))
        connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
        channel: BlockingChannel = connection.channel()

        def hears(word: str) -> bool:
            connection.process_data_events(0.01)
            return word in heard

        server.raise_alarm()
        channel.basic_publish("", "nowhere", b"")
        until(lambda: hears("blocked"), "the server blocks who publishes")
        server.clear_alarm()
        until(lambda: hears("unblocked"), "the server blocks nobody any more")

    assert heard == ["blocked", "unblocked"]


def test_one_that_is_frozen_answers_nobody_until_it_is_thawed(server: RabbitmqServer) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=0.2)
    with connection:
        server.freeze()
        try:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        finally:
            server.thaw()
        connection.settimeout(20)

        assert connection.recv(1)


def test_tests_that_only_use_a_server_get_one_that_answers() -> None:
    url = shared_rabbitmq()

    pika.BlockingConnection(pika.URLParameters(url)).close()
    assert url == find_rabbitmq()


@pytest.mark.parametrize("required", [False, True])
def test_where_there_is_none_a_test_is_skipped_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    monkeypatch.setenv("TASKQ_TEST_REQUIRE", "rabbitmq" if required else "redis")
    monkeypatch.setattr(rabbitmq_servers, "_program", lambda name: None)

    outcome = pytest.fail.Exception if required else pytest.skip.Exception
    with pytest.raises(outcome, match="NO RABBITMQ"):
        RabbitmqServer()


def test_one_is_started_where_none_listens(
    monkeypatch: pytest.MonkeyPatch, server: RabbitmqServer
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr(rabbitmq_servers, "SHARED_RABBITMQ", "amqp://guest:guest@127.0.0.1:1")

    url = find_rabbitmq.__wrapped__()

    assert url is not None
    parameters = pika.URLParameters(url)
    pika.BlockingConnection(parameters).close()
    [end] = at_exit
    end()
    assert not listens(parameters.port)
