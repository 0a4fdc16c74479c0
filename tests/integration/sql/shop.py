"""A program whose tasks go to Redis by way of the outbox in its own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

import taskq_sql
from taskq import TaskQ
from taskq.clock import VirtualClock
from taskq.contract.delivery import Delivery
from taskq.ids import new_id
from taskq.plugins import Plugins
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.outbox.relay import Relay
from tests.integration.sql.databases import empty_database
from tests.servers import shared_redis

DRIVERS: Final = {
    "sqlite": ("sqlite",),
    "postgresql": ("postgresql+psycopg", "postgresql+psycopg2"),
    "mariadb": ("mariadb+pymysql", "mysql+pymysql"),
}
OpenShop = Callable[..., "Shop"]


def _note(value: str) -> str:
    return value


class Shop:
    """A program with a database of its own, whose broker is Redis."""

    def __init__(self, database: Url, broker: Url, engine: Engine) -> None:
        self.database = database
        self.engine = engine
        self.clock = VirtualClock()
        self.app = TaskQ("shop", broker=broker.reveal(), clock=self.clock)
        self.note = self.app.task(name="note")(_note)

    def relay(self, **options: Any) -> Relay:
        return Relay(self.database, self.app.broker_url, clock=self.clock, **options)

    def carry(self, **options: Any) -> int:
        with self.relay(**options) as relay:
            return relay.drain()

    def arrived(self) -> list[Delivery]:
        """Return what the broker has that may start, in its order."""
        return self.app.broker.reserve(["default"], limit=2000, lease=3600)

    def ids(self) -> list[str]:
        return [delivery.id for delivery in self.arrived()]

    def send(self, *values: str, **options: Any) -> list[str]:
        """Send tasks in a transaction of their own; return their ids."""
        with Session(self.engine) as session:
            sent = [self.note.apply_async((v,), session=session, **options) for v in values]
            session.commit()
        return [result.id for result in sent]

    def rows(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM taskq_outbox")).scalar_one())


def engine_url(url: Url, driver: str) -> Any:
    plain = url.replace(query={} if url.scheme == "mariadb" else url.query)
    return make_url(plain.reveal()).set(drivername=driver)


@contextmanager
def shops(folder: Path) -> Iterator[OpenShop]:
    """Lend a function that opens programs, each with an empty database and an empty namespace."""
    with ExitStack() as stack:

        def opener(
            kind: str, driver: str | None = None, *, tables: bool = True, broker: str | None = None
        ) -> Shop:
            database = stack.enter_context(empty_database(kind, folder))
            if tables and kind != "sqlite":
                schema.make(dialect_of(database))
            engine = create_engine(engine_url(database, driver or DRIVERS[kind][0]))
            taskq_sql.prepare(engine)
            stack.callback(engine.dispose)
            url = Url.parse(broker or shared_redis()).replace(namespace=f"outbox-{new_id()}")
            if broker is None:
                stack.callback(lambda: Plugins().target(url).wipe())
            shop = Shop(database, url, engine)
            stack.callback(shop.app.close)
            return shop

        yield opener
