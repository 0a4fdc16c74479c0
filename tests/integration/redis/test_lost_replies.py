"""An answer that is lost leaves one execution behind, or a message that comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from taskq.contract.delivery import QueueStats, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.errors import OutcomeUnknown, SendError
from taskq_redis.broker import RedisBroker
from tests.integration.redis.conftest import OpenBroker
from tests.integration.redis.redis_server import Server, item


class Proxy:
    """Passes bytes between clients and a server, and can keep one answer back."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lose_next = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            while request := client.recv(1 << 20):
                server.sendall(request)
                answer = server.recv(1 << 20)
                # What does not know its script yet asks again: that is no answer.
                if self.lose_next and not answer.startswith(b"-NOSCRIPT"):
                    self.lose_next = False
                    return
                client.sendall(answer)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def through(proxy: Proxy, open_broker: OpenBroker) -> RedisBroker:
    return open_broker(f"redis://127.0.0.1:{proxy.port}?timeout=2")


def counts(broker: RedisBroker) -> tuple[int, int, int, int]:
    """Ready, scheduled, processing and dead messages of all queues together."""
    lines: list[QueueStats] = broker.stats()
    return (
        sum(line.ready for line in lines),
        sum(line.scheduled for line in lines),
        sum(line.processing for line in lines),
        sum(line.dead for line in lines),
    )


def test_a_send_is_unknown_and_may_be_repeated(through, proxy, broker):
    one = item()
    proxy.lose_next = True

    with pytest.raises(SendError) as caught:
        through.send([one])
    through.send([one])

    assert caught.value.unknown == (one.message.id,)
    assert counts(broker) == (1, 0, 0, 0)


def test_a_claim_comes_back_when_its_lease_ends(through, proxy, broker):
    broker.send([item()])
    proxy.lose_next = True

    with pytest.raises(OutcomeUnknown):
        through.reserve(["default"], limit=1, lease=0.1)
    assert counts(broker) == (0, 0, 1, 0)
    assert broker.reserve(["default"], limit=1, lease=30) == []
    time.sleep(0.1)
    [again] = broker.reserve(["default"], limit=1, lease=30, wait=1)

    assert (again.losses, again.run) == (1, 1)
    assert broker.reserve(["default"], limit=1, lease=30) == []


def test_an_ack_takes_effect_once(through, proxy, broker, results, admin):
    broker.send([item()])
    [delivery] = broker.reserve(["default"], limit=1, lease=0.05)
    record = ResultRecord(delivery.id, 0, "SUCCESS", b"4", 60.0)
    ack = Ack(delivery, record, (Send(Message("successor", "default", b"")),))
    proxy.lose_next = True

    with pytest.raises(OutcomeUnknown):
        through.settle([ack])
    repeated = through.settle([ack])
    time.sleep(0.05)

    assert repeated == [delivery]
    assert results.fetch([delivery.id])[delivery.id].payload == b"4"
    assert broker.locate([delivery.id, "successor"]) == {"successor": State.READY}
    assert counts(broker) == (1, 0, 0, 0)
    assert admin.command("HLEN", "{taskq:taskq}:messages") == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Retry, (1, 0, 0, 0)), (Release, (1, 0, 0, 0)), (Dead, (0, 0, 0, 1))],
)
def test_every_other_settlement_takes_effect_once(through, proxy, broker, kind, expected):
    broker.send([item()])
    [delivery] = broker.reserve(["default"], limit=1, lease=30)
    settlement = kind(delivery, code="failed") if kind is Dead else kind(delivery)
    proxy.lose_next = True

    with pytest.raises(OutcomeUnknown):
        through.settle([settlement])
    repeated = through.settle([settlement])

    assert repeated == [delivery]
    assert counts(broker) == expected
    for again in broker.reserve(["default"], limit=5, lease=30):
        assert (again.retries, again.releases, again.losses) == (kind is Retry, kind is Release, 0)


def test_an_extension_may_be_repeated(through, proxy, broker):
    broker.send([item()])
    [delivery] = broker.reserve(["default"], limit=1, lease=0.2)
    proxy.lose_next = True

    with pytest.raises(OutcomeUnknown):
        through.extend([delivery], lease=30)
    time.sleep(0.25)

    assert broker.reserve(["default"], limit=1, lease=30) == []
    assert through.extend([delivery], lease=30).lost == []
    assert broker.settle([Ack(delivery)]) == []


def test_a_requeue_happens_once(through, proxy, broker):
    broker.send([item()])
    [delivery] = broker.reserve(["default"], limit=1, lease=30)
    broker.settle([Dead(delivery, "failed")])
    proxy.lose_next = True

    with pytest.raises(OutcomeUnknown):
        through.requeue_dead("default", [delivery.id])
    repeated = through.requeue_dead("default", [delivery.id])
    [again] = broker.reserve(["default"], limit=5, lease=30)

    assert repeated == 0
    assert (again.id, again.run, again.retries) == (delivery.id, 1, 0)
