"""Empty databases of a test's own, and what is in one."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from taskq.url import Url
from taskq_sql.dialects.choice import dialect_of
from tests.servers import missing
from tests.sql_servers import find_mariadb, find_postgresql

SERVERS: Final = {"postgresql": find_postgresql, "mariadb": find_mariadb}
KINDS: Final = ("sqlite", *SERVERS)
_ENDED: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"


@contextlib.contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[Url]:
    """Lend a database without tables; of a server that is missing, skip the test."""
    name = f"taskq_tests_{uuid.uuid4().hex}"
    if kind == "sqlite":
        yield Url.parse(f"sqlite:///{folder / name}.db")
        return
    found = SERVERS[kind]() or missing(kind, "no server, and no program to start one")
    url = Url.parse(found)
    with connected(url) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        try:
            yield url.replace(path=f"/{name}")
        finally:
            if kind == "postgresql":
                connection.exec_driver_sql(_ENDED.format(name=name))
            connection.exec_driver_sql(f"DROP DATABASE {name}")


@contextlib.contextmanager
def connected(url: Url) -> Iterator[Connection]:
    """Lend a connection that commits each statement."""
    engine = dialect_of(url).engine()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def contents(connection: Connection, schema: str | None) -> dict[str, list[tuple[object, ...]]]:
    """Return all that the database says of what is in it (on PostgreSQL: in the schema)."""
    match connection.dialect.name:
        case "sqlite":
            queries = _SQLITE
        case "postgresql":
            queries = {
                what: query.format(schema=f"'{schema or 'public'}'")
                for what, query in _POSTGRESQL.items()
            }
        case _:
            names = [name for (name,) in connection.exec_driver_sql("SHOW TABLES")]
            queries = {name: f"SHOW CREATE TABLE {name}" for name in names}
    return {
        what: sorted((tuple(row) for row in connection.exec_driver_sql(query)), key=repr)
        for what, query in queries.items()
    }


def statements(script: str) -> list[str]:
    """Return the statements of a script, in which none holds a semicolon."""
    code = re.sub(r"^--.*$", "", script, flags=re.MULTILINE)
    return [statement for part in code.split(";") if (statement := part.strip())]


_SQLITE: Final = {
    "columns": """
        SELECT m.name, p.cid, p.name, p.type, p."notnull", p.dflt_value, p.pk
        FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table'""",
    "indexes": """
        SELECT m.tbl_name, m.name, l."unique", l.origin, p.seqno, p.name, p.coll
        FROM sqlite_master AS m JOIN pragma_index_list(m.tbl_name) AS l ON l.name = m.name
        JOIN pragma_index_xinfo(m.name) AS p WHERE m.type = 'index'""",
}
_POSTGRESQL: Final = {
    "relations": """
        SELECT relname, relkind, relpersistence, reloptions FROM pg_class
        WHERE relnamespace = {schema}::regnamespace""",
    "columns": """
        SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, collname,
               pg_get_expr(adbin, adrelid), attstattarget, col_description(c.oid, attnum)
        FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid
        LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
        LEFT JOIN pg_collation AS o ON o.oid = attcollation
        WHERE relnamespace = {schema}::regnamespace AND attnum > 0 AND relkind = 'r'""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = {schema}",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = {schema}::regnamespace""",
}
