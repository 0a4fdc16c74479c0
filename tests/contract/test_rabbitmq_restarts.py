"""A RabbitMQ server of the test's own, restarted in the midst of random sequences.

By turns it is killed, stopped, and its broker is stopped and started inside the
process; what queues there are is written down before it is killed.
"""

import pytest

from taskq.testing.machine import profile
from taskq_amqp.target import AmqpTarget
from tests.contract.restarts import Restarts
from tests.rabbitmq_servers import RabbitmqServer


class Turns:
    """Restarts the server in one way after the other."""

    def __init__(self, server: RabbitmqServer) -> None:
        self.server = server
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        match self.times % 3:
            case 1:
                self.server.flush()
                self.server.kill()
                self.server.start()
            case 2:
                self.server.bounce()
            case _:
                self.server.stop()
                self.server.start()


@pytest.fixture(scope="module")
def bouncer():
    with RabbitmqServer() as server:
        yield Turns(server)


@pytest.fixture(scope="module")
def target(bouncer):
    return AmqpTarget(bouncer.server.url, restart=bouncer)


class TestRabbitmqRestarts(Restarts):
    sequences = profile("default", max_examples=30, database=None)
    fewest = 3
