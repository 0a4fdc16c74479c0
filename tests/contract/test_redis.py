from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance
from tests.servers import SHARED_REDIS, find_redis

TARGET = Plugins().target(find_redis() or SHARED_REDIS)


class TestRedisBroker(BrokerConformance):
    target = TARGET


class TestRedisResults(ResultsConformance):
    target = TARGET
