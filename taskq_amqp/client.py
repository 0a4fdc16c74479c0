"""All that one client has in one process, joined together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from taskq.clock import Clock
from taskq.contract.results import ResultRecord
from taskq_amqp.catalog import Catalog
from taskq_amqp.census import Census
from taskq_amqp.claims import Claims
from taskq_amqp.holdings import Holdings
from taskq_amqp.leases import Leases
from taskq_amqp.letters import Letters
from taskq_amqp.names import Names
from taskq_amqp.options import Options
from taskq_amqp.overview import Overview
from taskq_amqp.posting import Post
from taskq_amqp.registry import Registry
from taskq_amqp.settling import Settling
from taskq_amqp.transport.lines import Lines

Store: TypeAlias = Callable[[Sequence[ResultRecord]], None]


class Client:
    """The parts of a broker. Thread-safe; a forked child makes its own, `afresh`."""

    def __init__(self, options: Options, clock: Clock, store: Store) -> None:
        self.pid = os.getpid()
        self._given = options, clock, store
        self.names = names = Names(options.url.namespace)
        self.lines = lines = Lines(options)
        self.holdings = Holdings()
        self.catalog = catalog = Catalog(lines, names)
        self.post = post = Post(lines, catalog, names, clock)
        common = lines, names, catalog, post, self.holdings
        self.leases = Leases(*common, clock, options.consumer_timeout)
        self.claims = Claims(*common, self.leases, clock)
        self.settling = Settling(lines, post, self.claims, self.holdings, self.leases, clock, store)
        self.census = Census(lines, names, self.holdings)
        self.letters = Letters(lines, names, catalog, post, clock)
        self.registry = Registry(lines, names, catalog, clock)
        self.overview = Overview(lines, names, catalog, self.census, self.letters)

    def afresh(self) -> Client:
        """Return one that has nothing open, as much at an end as this one is."""
        child = Client(*self._given)
        child.lines.closed = self.lines.closed
        child.claims.ended = self.claims.ended
        return child

    def close(self) -> None:
        self.claims.end()
        self.lines.close()
        self.holdings.clear()

    def abandon(self) -> None:
        """End as the death of the process would: without a word to the server."""
        self.claims.end()
        self.lines.abandon()
