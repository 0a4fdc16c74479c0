"""A process that works until it is killed, and says before and after each call what it does.

A line is written at once, so all that is missing when it dies is the line after a call
that had perhaps been carried out.
"""

import os
import sys

from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Release, Retry
from taskq.plugins import Plugins

QUEUES = ("first", "next")


def say(word: str, *ids: str) -> None:
    os.write(1, f"{word} {' '.join(ids)}\n".encode())


def successor(id: str) -> Send:
    return Send(Message(f"{id}-next", "next", id.encode()))


def main(url: str, name: str, size: int) -> None:
    broker = Plugins().open_broker(url)
    for number in range(1_000_000):
        ids = [f"{name}-{number}-{part}" for part in range(3)]
        say("send", *ids)
        broker.send([Send(Message(id, "first", bytes(size))) for id in ids])
        say("sent", *ids)
        for at, held in enumerate(broker.reserve(QUEUES, limit=4, lease=3600)):
            if at == 1:
                broker.settle([Retry(held)])
            elif at == 2:
                broker.settle([Release(held)])
            elif at == 0 and held.message.queue == "first":
                say("ack", held.id)
                result = ResultRecord(held.id, held.run, "SUCCESS", b"done", 3600)
                lost = broker.settle([Ack(held, result, (successor(held.id),))])
                say("lost" if lost else "acked", held.id)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
