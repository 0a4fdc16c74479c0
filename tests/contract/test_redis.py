from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance

TARGET = Plugins().target("redis://127.0.0.1:6379/15")


class TestRedisBroker(BrokerConformance):
    target = TARGET


class TestRedisResults(ResultsConformance):
    target = TARGET
