"""No failure of any operation tells the password, wherever it is printed."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest

from taskq.contract.delivery import Delivery, Heartbeat
from taskq.contract.message import Message
from taskq.contract.settlement import Ack
from taskq.errors import TaskqError
from taskq_redis.broker import RedisBroker
from tests.integration.redis.conftest import OpenBroker
from tests.integration.redis.redis_server import free_port, item

PASSWORD = "hush-planted"
DELIVERY = Delivery(Message("m", "q", b""), "token", 0.0, 0.0)
BEAT = Heartbeat("w", "i", "host", 1, 0.0, (), "threads", 1)
OPERATIONS: dict[str, Callable[[RedisBroker], object]] = {
    "send": lambda broker: broker.send([item()], timeout=0.2),
    "reserve": lambda broker: broker.reserve(["q"], limit=1, lease=1),
    "settle": lambda broker: broker.settle([Ack(DELIVERY)]),
    "extend": lambda broker: broker.extend([DELIVERY], lease=1),
    "poll_schedule": lambda broker: broker.poll_schedule(),
    "recover_expired": lambda broker: broker.recover_expired(),
    "expire_dead": lambda broker: broker.expire_dead(older_than=1),
    "send_heartbeat": lambda broker: broker.send_heartbeat(BEAT, ttl=1),
    "list_alive_workers": lambda broker: broker.list_alive_workers(),
    "stats": lambda broker: broker.stats(),
    "locate": lambda broker: broker.locate(["m"]),
    "dead_letters": lambda broker: broker.dead_letters("q"),
    "requeue_dead": lambda broker: broker.requeue_dead("q", ["m"]),
    "purge_dead": lambda broker: broker.purge_dead("q"),
    "purge": lambda broker: broker.purge("q"),
    "check": lambda broker: broker.check(),
}


@pytest.fixture(params=["closed", "silent", "babbling", "hanging up", "refusing"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where something is wrong in the way of the parameter's name."""
    answers = {"babbling": b"HTTP/1.1 400\r\n\r\n", "refusing": b"-WRONGPASS no such pair\r\n"}
    if request.param == "closed":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve() -> None:
            while not stopped.is_set():
                client, _ = listener.accept()
                kept.append(client)
                if request.param != "silent":
                    client.recv(1 << 16)
                    client.sendall(answers.get(request.param, b""))
                    client.close()

        stopped = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield port
        stopped.set()
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.shutdown(socket.SHUT_WR)
            thread.join(5)
        for client in kept:
            client.close()


def test_no_failure_tells_the_password(
    port: int, open_broker: OpenBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = open_broker(f"redis://user:{PASSWORD}@127.0.0.1:{port}?timeout=0.1")

    for name, operation in OPERATIONS.items():
        with pytest.raises(TaskqError) as caught:
            operation(broker)
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert PASSWORD not in told, name

    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(broker)
