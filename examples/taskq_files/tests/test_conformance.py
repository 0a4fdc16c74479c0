"""The contract, put to the test: `pytest`."""

from taskq.testing import BrokerConformance


class TestFiles(BrokerConformance):
    """The laws of a broker and of its results."""

    target = "files:///tmp/taskq-files-tests"
