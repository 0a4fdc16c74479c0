"""A Redis server of the test's own, restarted in the midst of random sequences.

Every second time it is killed; its log is flushed with every write, so that
nothing may be missing afterwards.
"""

import pytest

from taskq.testing.machine import profile
from taskq_redis.target import RedisTarget
from tests.contract.restarts import Bouncer, Restarts
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def bouncer(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis"), fsync="always") as server:
        yield Bouncer(server)


@pytest.fixture(scope="module")
def target(bouncer):
    return RedisTarget(bouncer.server.url, restart=bouncer)


class TestRedisRestarts(Restarts):
    sequences = profile("default", max_examples=50, database=None)
