"""A MariaDB server of the test's own, restarted in the midst of random sequences.

Every second time it is killed; it flushes every commit, so that nothing may be
missing afterwards.
"""

import pytest

from taskq.testing.machine import profile
from taskq_sql.target import ServerTarget
from tests.contract.restarts import Bouncer, Restarts
from tests.sql_servers import MariadbServer


@pytest.fixture(scope="module")
def bouncer():
    with MariadbServer() as server:
        yield Bouncer(server)


@pytest.fixture(scope="module")
def target(bouncer):
    return ServerTarget(bouncer.server.url, restart=bouncer)


class TestMariadbRestarts(Restarts):
    sequences = profile("smoke", max_examples=30, database=None)
