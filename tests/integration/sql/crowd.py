"""A crowded database, and meters that count what a sentence reads in it.

Each meter runs a sentence in a transaction that it rolls back, so every sentence
meets the same rows.
"""

from __future__ import annotations

import abc
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from psycopg.sql import SQL, Literal

from taskq.clock import SystemClock
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects import Parameters
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import Database, open_database
from taskq_sql.session import Session
from tests.sql_servers import MariadbServer, PostgresqlServer

NAMESPACES: Final = 2
QUEUES: Final = 4
NOW: Final = 1_700_000_000_000_000
FAR: Final = 4 * NOW
"""By then everything is due, lost, expired and old."""


class Crowd(NamedTuple):
    """How many messages there are, in all namespaces and queues together."""

    ready: int
    others: int
    """Of each other state, and results, half of which are expired."""

    @property
    def messages(self) -> int:
        return self.ready + 3 * self.others


class Reading(NamedTuple):
    """What a sentence read."""

    rows: float
    """Rows and entries of indexes examined; for SQLite, steps of its machine."""
    plan: str


class Meter(abc.ABC):
    """A database filled with a crowd."""

    kinds: tuple[str, ...]
    """The kinds of statistics its optimizer can be given."""
    unit = 1.0
    """What `Reading.rows` may grow by for each row that a sentence has to look at."""
    numbers: str
    """What stands between INSERT and its SELECT so that there are `numbers` from 1 to {last}."""
    concat = "'m' || n"

    def __init__(self, url: str, crowd: Crowd) -> None:
        self.crowd = crowd
        self.url = Url.parse(url).replace(query={**Url.parse(url).query, "timeout": "300"})
        self.dialect = dialect_of(self.url)
        if not self.dialect.creates:
            schema.make(self.dialect)
        self.database: Database = open_database(self.url, SystemClock())
        self.database.check()

    def fill(self) -> None:
        """Send the crowd, round robin over namespaces, queues and priorities."""
        ready, others = self.crowd
        edges = [ready + number * others for number in range(3)]
        state = (
            f"CASE WHEN n <= {edges[0]} THEN 1 WHEN n <= {edges[1]} THEN 0 "
            f"WHEN n <= {edges[2]} THEN 2 ELSE 3 END"
        )
        # Integer division is spelled differently everywhere.
        turn = f"(n - n % {NAMESPACES}) % {NAMESPACES * QUEUES}"
        # Priorities stay the same over as many rows as there are pairs of the others.
        level = f"CASE WHEN n <= {ready} THEN (n - n % 8) % 80 / 8 ELSE 0 END"
        namespace = f"CASE WHEN n % {NAMESPACES} = 0 THEN 'n0' ELSE 'n1' END"
        queue = f"CASE {turn} WHEN 0 THEN 'q0' WHEN 2 THEN 'q1' WHEN 4 THEN 'q2' ELSE 'q3' END"
        token = f"CASE WHEN n > {edges[1]} AND n <= {edges[2]} THEN 'lease' END"
        code = f"CASE WHEN n > {edges[2]} THEN 'failed' END"
        # Texts for bytes are what each of them takes.
        self.run(
            "INSERT INTO taskq_message (namespace, id, queue, state, level, at, head, priority,"
            " max_deliveries, sent, token, code, envelope)"
            f" {self.numbers.format(last=self.crowd.messages)}"
            f" SELECT {namespace}, {self.concat}, {queue}, {state}, {level}, {NOW} + n, 0, 5, 5,"
            f" {NOW}, {token}, {code}, 'an envelope' FROM numbers"
        )
        self.run(
            "INSERT INTO taskq_result (namespace, id, run, state, ttl, expires, payload)"
            f" {self.numbers.format(last=2 * others)}"
            f" SELECT {namespace}, {self.concat.replace('m', 'r', 1)}, 0, 'SUCCESS', 1,"
            f" CASE WHEN n <= {others} THEN {NOW} ELSE {FAR} * 2 END + n, 'a payload' FROM numbers"
        )
        self.run(
            "INSERT INTO taskq_outbox (namespace, id, queue, state, priority, max_deliveries,"
            f" envelope) {self.numbers.format(last=2 * others)}"
            f" SELECT {namespace}, {self.concat}, 'q1', CASE WHEN n <= {others} THEN 0 ELSE 1 END,"
            " 5, 5, 'an envelope' FROM numbers"
        )
        self.run(
            "INSERT INTO taskq_worker (namespace, worker, incarnation, expires, beat)"
            f" {self.numbers.format(last=20)}"
            f" SELECT 'n0', {self.concat}, 'i', {NOW} + n, 'a beat' FROM numbers"
        )

    def run(self, sentence: str) -> None:
        # Drivers of servers take a single one for a placeholder.
        spelled = sentence if self.url.scheme == "sqlite" else sentence.replace("%", "%%")
        self.database.read(lambda session: session.connection.exec_driver_sql(spelled))

    def ids(self, state: int, count: int, namespace: str = "n0") -> list[tuple[int, str]]:
        """Return numbers and ids of some messages in this state."""
        query = (
            f"SELECT seq, id FROM taskq_message WHERE namespace = '{namespace}' AND queue = 'q1'"
            f" AND state = {state} ORDER BY level DESC, at DESC LIMIT {count}"
        )
        return [
            (seq, id) for seq, id in self.database.read(lambda session: session.rows(query, {}))
        ]

    @abc.abstractmethod
    def learn(self, kind: str) -> None:
        """Give the optimizer statistics of a kind: outdated ones, none ever, or fresh ones."""

    @abc.abstractmethod
    def read(self, name: str, common: Parameters, rows: list[Parameters] | None) -> Reading:
        """Carry out a sentence once, or for each of `rows`."""

    def carry_out(
        self, session: Session, sentence: str, common: Parameters, rows: list[Parameters] | None
    ) -> None:
        if rows is not None:
            session.each(sentence, rows, **common)
        else:
            found = session.connection.exec_driver_sql(sentence, common)
            if found.returns_rows:
                found.fetchall()


class PostgresqlMeter(Meter):
    kinds = ("outdated", "never", "never, prepared", "fresh", "fresh, prepared")
    numbers = "WITH numbers AS (SELECT n FROM generate_series(1, {last}) AS n)"
    generic = False
    """Whether plans are made for any parameters, as for a statement prepared and often used."""

    def fill(self) -> None:
        self.run("ALTER TABLE taskq_message SET (autovacuum_enabled = off)")
        self.run("ALTER TABLE taskq_result SET (autovacuum_enabled = off)")
        self.run("ALTER TABLE taskq_outbox SET (autovacuum_enabled = off)")
        whole = self.crowd
        self.crowd = Crowd(0, 300)
        super().fill()
        self.run("ANALYZE")
        self.run("DELETE FROM taskq_message")
        self.run("DELETE FROM taskq_result")
        self.run("DELETE FROM taskq_outbox")
        self.run("DELETE FROM taskq_worker")
        self.crowd = whole
        super().fill()

    def learn(self, kind: str) -> None:
        self.generic = "prepared" in kind
        if kind == "never":
            self.run("DELETE FROM pg_statistic WHERE starelid = 'taskq_message'::regclass")
            self.run(
                "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname LIKE 'taskq_%'"
            )
        elif kind == "fresh":
            self.run("VACUUM ANALYZE")

    def read(self, name: str, common: Parameters, rows: list[Parameters] | None) -> Reading:
        sentence = getattr(self.dialect.statements, name)
        if name == "begin" or not sentence:
            return Reading(0.0, "")
        parameters = dict(common)
        for key in rows[0] if rows else ():
            parameters[key] = [row[key] for row in rows or ()]
        used = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sentence)))
        numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${used.index(m[1]) + 1}", sentence)
        values = SQL(", ").join(Literal(parameters[key]) for key in used)
        call = SQL("EXECUTE it({})").format(values) if used else SQL("EXECUTE it")
        kind = "force_generic_plan" if self.generic else "force_custom_plan"
        steps = [
            SQL("BEGIN"),
            SQL("SET LOCAL plan_cache_mode = {}").format(SQL(kind)),
            SQL("PREPARE it AS ") + SQL(numbered),
            SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + call,
        ]

        def work(session: Session) -> Any:
            driver: Any = session.connection.connection.driver_connection
            try:
                ((found,),) = [driver.execute(step) for step in steps][-1].fetchall()
            finally:
                driver.execute("ROLLBACK")
                driver.execute("DEALLOCATE it")
            return found

        found = self.database.read(work)
        plan = found[0]["Plan"]
        return Reading(sum(map(_scanned, _nodes(plan))), str(plan))

    def __str__(self) -> str:
        return "postgresql"


_NO_TABLE: Final = {"Function Scan", "Subquery Scan", "CTE Scan", "Bitmap Index Scan"}
"""Scans of no table, and one whose rows the scan above it counts."""


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


def _scanned(node: dict[str, Any]) -> float:
    """Return how many rows of a table a part of a plan has looked at."""
    kind = node["Node Type"]
    if "Scan" not in kind or kind in _NO_TABLE:
        return 0.0
    removed = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


class MariadbMeter(Meter):
    kinds = ("never", "fresh")
    numbers = "SELECT * FROM (SELECT seq AS n FROM seq_1_to_{last}) AS numbers WHERE 1 UNION"
    concat = "concat('m', n)"

    def run(self, sentence: str) -> None:
        # The sequence engine has the numbers, under a name for each length.
        found = re.search(r"SELECT \* FROM \((SELECT seq AS n FROM \w+)\).*UNION", sentence)
        if found:
            sentence = sentence.replace(found[0], "")
            sentence = sentence.removesuffix("numbers") + f"({found[1]}) AS numbers"
        super().run(sentence)

    def fill(self) -> None:
        for table in ("taskq_message", "taskq_result", "taskq_outbox", "taskq_worker"):
            self.run(f"ALTER TABLE {table} STATS_AUTO_RECALC = 0")
        super().fill()

    def learn(self, kind: str) -> None:
        if kind == "fresh":
            self.run("ANALYZE TABLE taskq_message, taskq_result, taskq_outbox, taskq_worker")

    def read(self, name: str, common: Parameters, rows: list[Parameters] | None) -> Reading:
        def work(session: Session) -> float:
            before = self._reads(session)
            self.carry_out(session, sentence, common, rows)
            count = self._reads(session) - before
            raise _Undone(count)

        sentence = getattr(self.dialect.statements, name)
        if name == "begin" or not sentence:
            return Reading(0.0, "")
        try:
            count = self.database.transact(work)
        except _Undone as undone:
            count = undone.count
        return Reading(count, self._plan(sentence, common | (rows or [{}])[0]))

    def _reads(self, session: Session) -> float:
        ((_, found),) = session.rows("SHOW SESSION STATUS LIKE 'Rows_read'", {})
        return float(found)

    def _plan(self, sentence: str, parameters: Parameters) -> str:
        if not sentence.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            return ""
        explain = f"EXPLAIN FORMAT=JSON {sentence}"
        rows = self.database.read(lambda session: session.rows(explain, parameters))
        return "\n".join(row[0] for row in rows)

    def __str__(self) -> str:
        return "mariadb"


class SqliteMeter(Meter):
    kinds = ("never", "fresh")
    unit = 60.0
    numbers = (
        "WITH RECURSIVE numbers(n) AS "
        "(SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"
    )

    def learn(self, kind: str) -> None:
        if kind == "fresh":
            self.run("ANALYZE")

    def read(self, name: str, common: Parameters, rows: list[Parameters] | None) -> Reading:
        sentence = getattr(self.dialect.statements, name)
        if name == "begin" or not sentence:
            return Reading(0.0, "")
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        def work(session: Session) -> None:
            driver: Any = session.connection.connection.driver_connection
            driver.set_progress_handler(step, 1)
            self.carry_out(session, sentence, common, rows)
            driver.set_progress_handler(None, 0)
            raise _Undone(steps)

        with contextlib.suppress(_Undone):
            self.database.transact(work)
        explain = f"EXPLAIN QUERY PLAN {sentence}"
        parameters = common | (rows or [{}])[0]
        plan = self.database.read(lambda session: session.rows(explain, parameters))
        return Reading(steps, "\n".join(row[3] for row in plan))

    def __str__(self) -> str:
        return "sqlite"


class _Undone(Exception):
    """Rolls back what was only measured."""

    def __init__(self, count: float) -> None:
        super().__init__()
        self.count = count


@contextlib.contextmanager
def crowded(kind: str, crowd: Crowd, folder: Path) -> Iterator[Meter]:
    """Yield a meter on a crowded database of its own."""
    with contextlib.ExitStack() as stack:
        meter: Meter
        if kind == "postgresql":
            server = stack.enter_context(PostgresqlServer(fsync=False))
            meter = PostgresqlMeter(server.url, crowd)
        elif kind == "mariadb":
            options = ("--innodb-buffer-pool-size=256M", "--innodb-flush-log-at-trx-commit=0")
            other = stack.enter_context(MariadbServer(*options, fsync=False))
            meter = MariadbMeter(other.url, crowd)
        else:
            meter = SqliteMeter(f"sqlite:///{folder / 'crowd.db'}?synchronous=off", crowd)
        stack.callback(lambda: meter.database.close())
        meter.fill()
        yield meter
