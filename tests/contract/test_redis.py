from taskq.testing import BrokerConformance
from tests.servers import SHARED_REDIS, find_redis


class TestRedis(BrokerConformance):
    target = find_redis() or SHARED_REDIS
