"""What an operator should know about how a server is set up."""

from __future__ import annotations

import re
from typing import Final

from taskq.errors import NotSupported
from taskq_amqp.transport.lines import Lines

OLDEST: Final = (3, 10)


def inspect_server(lines: Lines, deadline: float) -> list[str]:
    """Return one sentence for each way in which the server keeps less than promised.

    Raises:
        NotSupported: the server is too old, or no RabbitMQ.
    """
    connection = lines.consumer(deadline)
    said = connection.properties
    product, version = _text(said.get("product", b"")), _text(said.get("version", b""))
    if product != "RabbitMQ":
        raise NotSupported(f"the server calls itself {product!r}; taskq needs RabbitMQ")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise NotSupported(f"RabbitMQ {version} is too old; taskq needs 3.10 or newer")
    sentences: list[str] = []
    if lines.options.tls_insecure:
        sentences.append("Anybody in between can read and change tasks: tls_insecure is set.")
    blocked = lines.publisher(deadline).channel.connection.blocked
    if blocked:
        sentences.append(f"Nothing can be sent now: the server is {blocked}.")
    return sentences


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
