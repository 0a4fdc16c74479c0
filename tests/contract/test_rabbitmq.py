"""The kit on a server of its own: it may open more files than one that was started by hand."""

import pytest

from taskq.testing import BrokerConformance
from taskq.url import Url
from taskq_amqp.target import AmqpTarget
from tests.rabbitmq_servers import SHARED_RABBITMQ, RabbitmqServer


@pytest.fixture(scope="module", autouse=True)
def node():
    with RabbitmqServer() as node:
        TestRabbitmq.target.url = Url.parse(node.url)
        yield node


class TestRabbitmq(BrokerConformance):
    target = AmqpTarget(SHARED_RABBITMQ)
