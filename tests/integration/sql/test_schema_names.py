"""What tables are called is what the URL says, wherever they are named."""

from __future__ import annotations

import dataclasses
import re

import pytest

from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.url import Url
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.dialects.pyformat import pyformat
from taskq_sql.naming import LONGEST_NAME, LONGEST_PREFIX, Names
from taskq_sql.statements import Statements, renamed
from taskq_sql.statements.mysql import MYSQL
from taskq_sql.statements.postgresql import POSTGRESQL
from taskq_sql.statements.sqlite import SQLITE
from taskq_sql.tables import Tables, tables

SPOKEN = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL}
POSTGRES = "postgresql://localhost/shop"


def sentences(statements: Statements) -> dict[str, str]:
    return {field.name: getattr(statements, field.name) for field in dataclasses.fields(statements)}


def names_in(made: Tables) -> tuple[set[str], set[str]]:
    found = made.metadata.tables.values()
    return {table.name for table in found}, {
        str(index.name) for table in found for index in table.indexes
    }


@pytest.mark.parametrize("spoken", SPOKEN)
def test_every_name_in_a_sentence_is_one_of_a_table_or_an_index(spoken: str) -> None:
    known_tables, known_indexes = names_in(tables())

    for sentence in sentences(SPOKEN[spoken]).values():
        for name in re.findall(r"taskq_\w+", sentence):
            assert name in (known_indexes if name.count("_") > 1 else known_tables), sentence


@pytest.mark.parametrize("spoken", SPOKEN)
def test_a_prefix_changes_the_names_and_nothing_else(spoken: str) -> None:
    written, said = SPOKEN[spoken], renamed(SPOKEN[spoken], Names("shop_"))

    for name, sentence in sentences(said).items():
        assert "taskq_" not in sentence
        assert sentence.replace("shop_", "taskq_") == getattr(written, name)


def test_a_schema_stands_before_tables_and_not_before_indexes() -> None:
    written = dataclasses.replace(
        POSTGRESQL, fetch="SELECT :taskq_a, 'mytaskq_b' FROM taskq_result -- taskq_result_expires"
    )

    said = renamed(written, Names("shop_", "user"))

    assert said.fetch == (
        "SELECT :taskq_a, 'mytaskq_b' FROM \"user\".shop_result -- shop_result_expires"
    )
    assert said.has_schema == "SELECT 1 WHERE to_regclass('\"user\".shop_schema') IS NOT NULL"
    assert pyformat(said).fetch.startswith("SELECT %(taskq_a)s, 'mytaskq_b'")


def test_sentences_are_renamed_once_however_many_clients_there_are() -> None:
    url = Url.parse(f"{POSTGRES}?prefix=shop_&schema=jobs")

    assert dialect_of(url).statements is dialect_of(url).statements
    assert dialect_of(url).statements is not dialect_of(Url.parse(POSTGRES)).statements


def test_no_name_is_longer_than_a_server_takes() -> None:
    # PostgreSQL names the counter of a table that is numbered by itself.
    longest = Names("p" * LONGEST_PREFIX)
    known_tables, known_indexes = names_in(tables(longest))
    counters = {f"{longest.index(name)}_seq_seq" for name in ("message", "outbox")}

    assert max(map(len, known_tables | known_indexes | counters)) == LONGEST_NAME


@pytest.mark.parametrize("base", ["sqlite:///a.db", POSTGRES, "mariadb://localhost/shop"])
@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("", "no plain name; write a-z, 0-9 and _"),
        ("Shop_", "no plain name"),
        ("9shop", "no digit first"),
        ("shop-", "no plain name"),
        ("sh%20op", "no plain name"),
        ("shop_%0A", "no plain name"),
        ("%25(x)s", "no plain name"),
        ("x';drop", "no plain name"),
        ("ſhop_", "no plain name"),
        ("p" * (LONGEST_PREFIX + 1), "49 characters, and databases take 48; shorten it"),
        ("sqlite_shop", "keep for themselves"),
        ("pg_shop", "keep for themselves"),
    ],
)
def test_a_prefix_that_is_no_plain_name_is_refused(base: str, prefix: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(words)):
        dialect_of(Url.parse(f"{base}?prefix={prefix}"))


@pytest.mark.parametrize("schema", ["", "Jobs", "a.b", 'a"b', "pg_jobs", "s" * 64])
def test_a_schema_that_is_no_plain_name_is_refused(schema: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="URL option schema="):
        dialect_of(Url.parse(POSTGRES).replace(query={"schema": schema}))


@pytest.mark.parametrize("base", ["sqlite:///a.db", "mariadb://localhost/a", "mysql://localhost/a"])
def test_only_postgresql_knows_schemas(base: str) -> None:
    with pytest.raises(UnknownOption, match="schema"):
        dialect_of(Url.parse(f"{base}?schema=jobs"))


@pytest.mark.parametrize("base", [POSTGRES, "mariadb://localhost/shop"])
def test_installations_beside_each_other_wait_for_nothing_of_each_other(base: str) -> None:
    keys = {dialect_of(Url.parse(f"{base}{end}")).key for end in ("", "?prefix=a_", "?prefix=b_")}

    assert len(keys) == 3
