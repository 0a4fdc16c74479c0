"""Notifications of PostgreSQL, through psycopg 3."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Notify, sql

from taskq_sql.listener import Deaf


class PostgresqlEar:
    """A connection that has said LISTEN. Its session must be its own: no transaction pooler."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._heard: set[str] = set()
        # While it says something itself, the driver takes in what comes.
        connection.add_notify_handler(self._note)

    def _note(self, notify: Notify) -> None:
        self._heard.add(notify.channel)

    def fileno(self) -> int:
        return self._connection.fileno()

    def listen(self, channel: str) -> None:
        self._say(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def notify(self, channel: str) -> None:
        self._say(sql.SQL("NOTIFY {}").format(sql.Identifier(channel)))

    def _say(self, sentence: sql.Composed) -> None:
        try:
            self._connection.execute(sentence)
        except psycopg.Error as error:
            raise Deaf(str(error).partition("\n")[0]) from error

    def heard(self) -> set[str]:
        server = self._connection.pgconn
        try:
            server.consume_input()
            while (notify := server.notifies()) is not None:
                self._heard.add(notify.relname.decode())
        except psycopg.Error as error:
            raise Deaf(str(error).partition("\n")[0]) from error
        heard, self._heard = self._heard, set()
        return heard

    def close(self) -> None:
        self._connection.close()
