"""Connections break where they were told to, and nowhere else."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from taskq.errors import ConnectionFailed
from taskq.testing.faults import Fault
from taskq.testing.proxy import CHUNK, Port, Proxy
from tests.unit.testing.conftest import LineClient, LineServer
from tests.waiting import until

Connect = Callable[[Port], LineClient]
MEGABYTE = 1 << 20
RESET = struct.pack("ii", 1, 0)


def test_what_is_not_broken_passes(server: LineServer, port: Port, connect: Connect) -> None:
    client = connect(port)

    answers = [client.ask(b"%d\n" % number) for number in range(100)]

    assert answers == [b"%d\n" % number for number in range(100)]


def test_a_request_broken_before_never_arrives_and_both_ends_are_reset(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    client.ask(b"one\n")
    port.break_next(Fault.BEFORE)

    with pytest.raises(ConnectionResetError):
        client.ask(b"two\n")

    until(lambda: server.ends, "the server notices")
    assert server.ends == ["reset"]
    assert connect(port).ask(b"three\n") == b"three\n"
    assert server.heard == [b"one\n", b"three\n"]


def test_the_answer_of_a_request_broken_after_is_lost_whole(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    port.break_next(Fault.AFTER)

    assert client.ask(b"one\n") == b""

    assert server.heard == [b"one\n"]
    assert connect(port).ask(b"two\n") == b"two\n"
    until(lambda: server.ends, "the server notices")


def test_an_answer_broken_in_the_middle_stops_halfway(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    port.break_next(Fault.MIDDLE)

    assert client.ask(b"123456\n") == b"123"

    assert server.heard == [b"123456\n"]
    assert connect(port).ask(b"two\n") == b"two\n"
    until(lambda: server.ends, "the server notices")


def test_an_answer_of_one_byte_has_no_middle(
    server: LineServer, port: Port, connect: Connect
) -> None:
    port.break_next(Fault.MIDDLE)

    assert connect(port).ask(b"\n") == b""
    assert server.heard == [b"\n"]


@pytest.mark.parametrize(("fault", "heard"), [(Fault.BEFORE, 3), (Fault.AFTER, 4)])
def test_skip_counts_the_exchanges_before_the_broken_one(
    server: LineServer, port: Port, connect: Connect, fault: Fault, heard: int
) -> None:
    client = connect(port)
    client.ask(b"0\n")
    port.break_next(fault, skip=2)

    assert [client.ask(line) for line in (b"1\n", b"2\n")] == [b"1\n", b"2\n"]
    with pytest.raises((ConnectionResetError, AssertionError)):
        assert client.ask(b"3\n") == b"3\n"

    assert len(server.heard) == heard


def test_skip_counts_over_all_connections_of_a_port(
    server: LineServer, port: Port, connect: Connect
) -> None:
    first, second = connect(port), connect(port)
    port.break_next(Fault.AFTER, skip=1)

    assert first.ask(b"1\n") == b"1\n"
    assert second.ask(b"2\n") == b""
    assert first.ask(b"3\n") == b"3\n"


def test_several_exchanges_can_be_broken_at_once(port: Port, connect: Connect) -> None:
    port.break_next(Fault.AFTER)
    port.break_next(Fault.MIDDLE, skip=1)

    assert connect(port).ask(b"123\n") == b""
    assert connect(port).ask(b"123\n") == b"12"
    assert connect(port).ask(b"123\n") == b"123\n"


def test_a_request_in_many_pieces_is_one_exchange(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    port.break_next(Fault.AFTER, skip=1)
    line = b"x" * (8 * MEGABYTE) + b"\n"

    assert client.ask(line) == line
    assert client.ask(b"two\n") == b""


def test_what_the_server_says_first_is_no_answer(
    server: LineServer, port: Port, connect: Connect
) -> None:
    server.greeting = b"welcome\n"
    port.break_next(Fault.AFTER)
    client = connect(port)

    assert client.read() == b"welcome\n"
    assert client.ask(b"one\n") == b""


def test_healing_disarms_what_has_not_happened(
    server: LineServer, port: Port, connect: Connect
) -> None:
    port.break_next(Fault.BEFORE)
    port.break_next(Fault.AFTER, skip=3)
    port.heal()
    client = connect(port)

    assert [client.ask(b"%d\n" % n) for n in range(5)] == [b"%d\n" % n for n in range(5)]


def test_healing_spares_the_answer_that_is_awaited(
    server: LineServer, port: Port, connect: Connect
) -> None:
    healed = threading.Event()

    def answer(line: bytes) -> bytes:
        assert healed.wait(10)
        return line

    server.answer = answer
    client = connect(port)
    port.break_next(Fault.AFTER)
    client.sock.sendall(b"one\n")
    until(lambda: server.heard, "the request arrives")
    port.heal()
    healed.set()

    assert client.read() == b"one\n"


def test_breaking_one_port_leaves_the_others_alone(proxy: Proxy, connect: Connect) -> None:
    mine, other = proxy.open(), proxy.open()
    client = connect(other)
    client.ask(b"one\n")

    mine.break_next(Fault.AFTER)
    mine.cut()

    assert client.ask(b"two\n") == b"two\n"
    assert connect(mine).ask(b"three\n") == b""


def test_cutting_resets_what_is_open_and_lets_new_connections_in(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    client.ask(b"one\n")

    port.cut()

    with pytest.raises(ConnectionResetError):
        client.read()
    until(lambda: server.ends, "the server notices")
    assert server.ends == ["reset"]
    assert connect(port).ask(b"two\n") == b"two\n"


def test_a_closed_port_refuses(port: Port, connect: Connect) -> None:
    client = connect(port)
    client.ask(b"one\n")

    port.close()
    port.close()

    with pytest.raises(ConnectionResetError):
        client.read()
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_a_client_that_says_no_more_is_still_answered(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    client.sock.sendall(b"one\ntwo\n")
    client.sock.shutdown(socket.SHUT_WR)

    found = b"".join(iter(client.read, b""))

    assert found == b"one\ntwo\n"
    until(lambda: server.ends == ["closed"], "the server sees an orderly end")
    until(lambda: not port.links, "the link is gone")


def test_a_server_that_says_no_more_still_hears(connect: Connect) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, Proxy("127.0.0.1", listener.getsockname()[1]) as proxy:
        client = connect(proxy.open())
        sock, _ = listener.accept()
        with sock:
            sock.shutdown(socket.SHUT_WR)
            assert client.read() == b""
            client.sock.sendall(b"one\n")

            assert sock.recv(10) == b"one\n"


def test_half_a_connection_costs_no_work(server: LineServer, port: Port, connect: Connect) -> None:
    spent = 0.0

    def answer(line: bytes) -> bytes:
        nonlocal spent
        began = time.process_time()
        threading.Event().wait(0.3)
        spent = time.process_time() - began
        return line

    server.answer = answer
    client = connect(port)
    client.sock.sendall(b"one\n")
    client.sock.shutdown(socket.SHUT_WR)

    assert client.read() == b"one\n"
    assert spent < 0.1


def test_a_server_that_ends_first_is_heard_to_the_end(proxy: Proxy, connect: Connect) -> None:
    content = b"x" * (4 * MEGABYTE) + b"\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        with Proxy("127.0.0.1", listener.getsockname()[1]) as brief:
            client = connect(brief.open())

            assert client.read() == content
            assert client.sock.recv(1) == b""
        thread.join()


def test_a_client_that_is_killed_resets_the_server(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    client.ask(b"one\n")

    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.sock.close()

    until(lambda: server.ends, "the server notices")
    assert server.ends == ["reset"]
    until(lambda: not port.links, "the link is gone")


def test_a_slow_reader_slows_the_sender_down(port: Port, connect: Connect) -> None:
    size = 32
    block = b"x" * (MEGABYTE - 1) + b"\n"
    client = connect(port)
    sent = 0
    held = 0

    def send() -> None:
        nonlocal sent
        for _ in range(size):
            client.sock.sendall(block)
            sent += 1

    client.sock.settimeout(60)
    sender = threading.Thread(target=send)
    tracemalloc.start()
    try:
        sender.start()
        _await_standstill(lambda: sent)
        stuck = sent
        received = 0
        while received < size * MEGABYTE:
            received += len(client.sock.recv(1 << 16))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        sender.join()

    assert stuck < size
    # The server's lines, and the chunks of two directions.
    assert held < 6 * MEGABYTE + 2 * CHUNK


def _await_standstill(look: Callable[[], int]) -> None:
    """Return when a number has not changed for a while; it is no proof that it never will."""
    seen, since = look(), time.monotonic()

    def is_still() -> bool:
        nonlocal seen, since
        if look() != seen:
            seen, since = look(), time.monotonic()
        return time.monotonic() - since > 0.5

    until(is_still, "a standstill")


def test_many_connections_are_served_at_once(port: Port, connect: Connect) -> None:
    clients = [connect(port) for _ in range(50)]

    for number, client in enumerate(clients):
        client.sock.sendall(b"%d\n" % number)

    assert [client.read() for client in clients] == [b"%d\n" % n for n in range(50)]


def test_a_server_that_is_down_looks_reset_until_it_is_up(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        number = reserved.getsockname()[1]
    with Proxy("127.0.0.1", number) as proxy:
        port = proxy.open()

        with pytest.raises(ConnectionResetError):
            connect(port).read()

        with socket.create_server(("127.0.0.1", number)) as listener:
            client = connect(port)
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"up\n")
                assert client.read() == b"up\n"


def test_the_next_address_of_a_name_is_tried(
    server: LineServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        closed = reserved.getsockname()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
        for address in (closed, ("127.0.0.1", server.port))
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    with Proxy("name", 1) as proxy:
        assert connect(proxy.open()).ask(b"one\n") == b"one\n"


def test_a_name_without_an_address_is_our_error() -> None:
    with pytest.raises(ConnectionFailed, match=r"cannot resolve 'no\.such\.host\.invalid'"):
        Proxy("no.such.host.invalid", 1)


def test_what_has_happened_cannot_be_broken(port: Port) -> None:
    with pytest.raises(ValueError, match="0 is the next"):
        port.break_next(Fault.AFTER, skip=-1)


def test_a_closed_proxy_opens_no_port(proxy: Proxy) -> None:
    proxy.close()

    with pytest.raises(ValueError, match="make a new one"):
        proxy.open()


def test_nothing_is_left_after_the_end() -> None:
    threads, descriptors = threading.active_count(), _descriptors()
    server = LineServer()
    with Proxy("127.0.0.1", server.port) as proxy:
        clients = []
        for port in [proxy.open() for _ in range(5)]:
            for fault in Fault:
                clients.append(LineClient(port.number))
                port.break_next(fault)
                with contextlib.suppress(ConnectionResetError):
                    clients[-1].ask(b"one\n")
            clients.append(LineClient(port.number))
            clients[-1].ask(b"two\n")
        port.close()
    proxy.close()

    for client in clients:
        client.sock.close()
    server.close()
    assert threading.active_count() == threads
    assert _descriptors() == descriptors


def test_the_end_of_a_proxy_resets_its_clients(server: LineServer, connect: Connect) -> None:
    with Proxy("127.0.0.1", server.port) as proxy:
        client = connect(proxy.open())
        client.ask(b"one\n")

    with pytest.raises(ConnectionResetError):
        client.read()


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_hushed_link_tells_neither_end(
    server: LineServer, port: Port, connect: Connect, leave: str
) -> None:
    client = connect(port)
    port.hush_next(skip=1)
    assert client.ask(b"one\n") == b"one\n"

    client.sock.sendall(b"two\n")
    until(lambda: len(server.heard) == 2, "the request arrives")
    if leave == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    else:
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.read()
    client.sock.close()
    other = connect(port)
    assert other.ask(b"three\n") == b"three\n"

    # The proxy's one thread has seen the client go before it saw the other come.
    assert server.ends == []
    assert server.heard == [b"one\n", b"two\n", b"three\n"]
    port.cut()
    until(lambda: server.ends == ["reset", "reset"], "the server is told in the end")


def test_what_is_said_on_a_hushed_link_goes_nowhere(
    server: LineServer, port: Port, connect: Connect
) -> None:
    client = connect(port)
    port.hush_next()
    client.sock.sendall(b"one\n")
    until(lambda: server.heard, "the request arrives")

    client.sock.sendall(b"x" * (4 * CHUNK) + b"two\n")

    assert connect(port).ask(b"three\n") == b"three\n"
    assert server.heard == [b"one\n", b"three\n"]


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
