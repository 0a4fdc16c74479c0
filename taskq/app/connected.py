"""What an application has open: its clients of its broker and of its result store."""

from __future__ import annotations

import logging

from taskq.app.forklock import ForkLock
from taskq.app.settings import Settings, default_broker_url, from_environment
from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.contract.transaction import Transactions
from taskq.errors import UnknownScheme
from taskq.plugins import Plugins
from taskq.url import Url

log = logging.getLogger(__name__)


class Connected:
    """Opens each client at its first use. Thread-safe, and usable in children after a fork."""

    def __init__(self, name: str, conf: Settings, plugins: Plugins, clock: Clock) -> None:
        self.name = name
        self.conf = conf
        self.plugins = plugins
        self.clock = clock
        self._lock = ForkLock()
        self._broker: Broker | None = None
        self._results: Results | None = None
        self._transactions: Transactions | None = None

    @property
    def broker(self) -> Broker:
        """The application's client of its broker; opened at first use."""
        if self._broker is None:
            with self._lock():
                if self._broker is None:
                    self._broker = self.open_broker()
        return self._broker

    @property
    def results(self) -> Results:
        """The application's client of its result store; opened at first use."""
        if self._results is None:
            with self._lock():
                if self._results is None:
                    self._results = self.open_results()
        return self._results

    @property
    def transactions(self) -> Transactions:
        """The application's way into transactions of its callers; opened at first use."""
        if self._transactions is None:
            with self._lock():
                if self._transactions is None:
                    self._transactions = self.plugins.open_transactions(
                        self.broker_url, clock=self.clock
                    )
        return self._transactions

    @property
    def opened(self) -> bool:
        """Whether it has a client of its broker or its result store at present."""
        return any((self._broker, self._results, self._transactions))

    @property
    def broker_url(self) -> Url:
        """The URL of the broker, wherever it was named."""
        named = self.conf.broker_url or from_environment("broker_url")
        if named is not None:
            return Url.parse(named)
        return Url.parse(default_broker_url(self.name))

    @property
    def result_url(self) -> Url:
        """The URL of the result store."""
        named = self.conf.result_url or from_environment("result_url")
        return self.broker_url if named is None else Url.parse(named)

    @property
    def results_with_broker(self) -> bool:
        """Whether results live where tasks do, so that one step can change both."""
        return self.result_url == self.broker_url

    def open_broker(self) -> Broker:
        """Return a new client of the broker, owned by the caller.

        Raises:
            UnknownScheme: no installed plugin handles the URL; says what to do.
        """
        url = self.broker_url
        unnamed = self.conf.broker_url is None and from_environment("broker_url") is None
        try:
            broker = self.plugins.open_broker(url, clock=self.clock)
        except UnknownScheme:
            if not unnamed:
                raise
            raise UnknownScheme(
                f"application {self.name!r} names no broker. Either give it one, such as "
                "broker='redis://localhost' or TASKQ_BROKER_URL, or install the embedded one: "
                "pip install 'taskq-core[sql]'"
            ) from None
        if unnamed:
            log.info("no broker named; using the embedded one: %s", url)
        return broker

    def open_results(self) -> Results:
        """Return a new client of the result store, owned by the caller."""
        return self.plugins.open_results(self.result_url, clock=self.clock)

    def close(self) -> None:
        """Close what was opened; the next use opens it again."""
        with self._lock():
            broker, self._broker = self._broker, None
            results, self._results = self._results, None
            transactions, self._transactions = self._transactions, None
        for client in (transactions, broker, results):
            if client is not None:
                client.close()
