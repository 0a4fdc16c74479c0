"""Every sentence of SQL there is, as one table per dialect.

The broker speaks by the names below and never asks which database it talks to.
Placeholders are written `:name`, so a parameter set is a dictionary; `:array`
stands for many values in the dialect's own form (`Dialect.array`). States are
the numbers of `taskq_sql.tables`; every read of many rows is one range of
``taskq_message_place``, and every change of many is bounded by `:limit`.
"""

from __future__ import annotations

import dataclasses
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What a dialect says. Times are whole microseconds of the server's clock."""

    begin: str
    """Opens a transaction that may write, and takes the locks it needs to."""
    has_schema: str
    """Returns a row if `taskq_schema` exists."""
    send: str
    """Inserts a message, unless its id exists as a message or an unexpired result."""
    outlook: str
    """Returns of one queue: anything ready, the first due time, the first lease end."""
    select_ready: str
    lease: str
    select_lost: str
    move: str
    """Puts one leased message into another state and raises its counters."""
    promote: str
    select_held: str
    """Returns seq, id and token of those ids that are leased."""
    extend: str
    delete: str
    next_queue: str
    count: str
    oldest_ready: str
    locate: str
    select_dead: str
    requeue: str
    requeue_results: str
    purge: str
    purge_dead: str
    expire_dead: str
    beat: str
    unlist: str
    forget_workers: str
    select_workers: str
    store: str
    fetch: str
    forget: str
    expire: str


SQLITE: Final = Statements(
    begin="BEGIN IMMEDIATE",
    has_schema="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'taskq_schema'",
    send="""
        INSERT INTO taskq_message
            (namespace, id, queue, state, rank, at, head, priority,
             max_deliveries, sent, expires, envelope)
        SELECT :namespace, :id, :queue, :state, :rank, :at, 0, :priority,
             :max_deliveries, :sent, :expires, :envelope
        WHERE NOT EXISTS (
            SELECT 1 FROM taskq_result
            WHERE namespace = :namespace AND id = :id AND expires > :sent)
        ON CONFLICT DO NOTHING""",
    outlook="""
        SELECT
            EXISTS (SELECT 1 FROM taskq_message
                WHERE namespace = :namespace AND queue = :queue AND state = 1),
            (SELECT min(at) FROM taskq_message
                WHERE namespace = :namespace AND queue = :queue AND state = 0 AND rank = 0),
            (SELECT min(at) FROM taskq_message
                WHERE namespace = :namespace AND queue = :queue AND state = 2 AND rank = 0)""",
    select_ready="""
        SELECT seq, id, envelope, priority, max_deliveries, expires,
               retries, losses, releases, run, first_released
        FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 1
        ORDER BY rank, at, seq LIMIT :limit""",
    lease="""
        UPDATE taskq_message SET state = 2, rank = 0, at = :until, token = :token
        WHERE seq IN (SELECT value FROM json_each(:array))""",
    select_lost="""
        SELECT seq, priority, losses, max_deliveries FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 2 AND rank = 0 AND at <= :now
        ORDER BY at, seq LIMIT :limit""",
    move="""
        UPDATE taskq_message
        SET state = :state, rank = :rank, at = :at, head = :head, token = NULL,
            retries = retries + :retries, losses = losses + :losses,
            releases = releases + :releases, run = run + :run,
            first_released = coalesce(first_released, :first_released),
            envelope = coalesce(:envelope, envelope), code = :code, detail = :detail
        WHERE seq = :seq""",
    promote="""
        UPDATE taskq_message
        SET state = 1, rank = 9 - priority, at = CASE head WHEN 1 THEN 0 ELSE at END, head = 0
        WHERE seq IN (
            SELECT seq FROM taskq_message
            WHERE namespace = :namespace AND queue = :queue
              AND state = 0 AND rank = 0 AND at <= :now
            ORDER BY at, seq LIMIT :limit)""",
    select_held="""
        SELECT m.seq, m.id, m.token FROM json_each(:array) AS wanted
        CROSS JOIN taskq_message AS m
        WHERE m.namespace = :namespace AND m.id = wanted.value AND m.state = 2""",
    extend="""
        UPDATE taskq_message SET at = :until
        WHERE seq IN (SELECT value FROM json_each(:array))""",
    delete="DELETE FROM taskq_message WHERE seq IN (SELECT value FROM json_each(:array))",
    next_queue="""
        SELECT min(queue) FROM taskq_message WHERE namespace = :namespace AND queue > :queue""",
    count="""
        SELECT queue, state, count(*) FROM taskq_message
        WHERE namespace = :namespace GROUP BY queue, state ORDER BY queue, state""",
    oldest_ready="""
        SELECT sent FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 1
        ORDER BY rank, at, seq LIMIT 1""",
    locate="""
        SELECT m.id, m.state FROM json_each(:array) AS wanted
        CROSS JOIN taskq_message AS m WHERE m.namespace = :namespace AND m.id = wanted.value""",
    select_dead="""
        SELECT id, envelope, priority, max_deliveries, code, detail, at,
               retries, losses, releases, run
        FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 3 AND rank = 0
          AND at >= :died AND (at > :died OR id > :id)
        ORDER BY at, id LIMIT :limit""",
    requeue="""
        UPDATE taskq_message
        SET state = 1, rank = 9 - priority, at = :now, run = run + 1,
            retries = 0, losses = 0, releases = 0, first_released = NULL,
            code = NULL, detail = NULL
        WHERE seq IN (
            SELECT m.seq FROM json_each(:array) AS wanted CROSS JOIN taskq_message AS m
            WHERE m.namespace = :namespace AND m.id = wanted.value
              AND m.queue = :queue AND m.state = 3)""",
    requeue_results="""
        DELETE FROM taskq_result
        WHERE namespace = :namespace AND id IN (
            SELECT m.id FROM json_each(:array) AS wanted CROSS JOIN taskq_message AS m
            WHERE m.namespace = :namespace AND m.id = wanted.value
              AND m.queue = :queue AND m.state = 3)""",
    purge="""
        DELETE FROM taskq_message WHERE seq IN (
            SELECT seq FROM taskq_message
            WHERE namespace = :namespace AND queue = :queue AND state = :state LIMIT :limit)""",
    purge_dead="""
        DELETE FROM taskq_message WHERE seq IN (
            SELECT m.seq FROM json_each(:array) AS wanted CROSS JOIN taskq_message AS m
            WHERE m.namespace = :namespace AND m.id = wanted.value
              AND m.queue = :queue AND m.state = 3)""",
    expire_dead="""
        DELETE FROM taskq_message WHERE seq IN (
            SELECT seq FROM taskq_message
            WHERE namespace = :namespace AND queue = :queue
              AND state = 3 AND rank = 0 AND at < :before
            ORDER BY at, seq LIMIT :limit)""",
    beat="""
        INSERT INTO taskq_worker (namespace, worker, incarnation, expires, beat)
        VALUES (:namespace, :worker, :incarnation, :expires, :beat)
        ON CONFLICT (namespace, worker, incarnation)
        DO UPDATE SET expires = excluded.expires, beat = excluded.beat""",
    unlist="""
        DELETE FROM taskq_worker
        WHERE namespace = :namespace AND worker = :worker AND incarnation = :incarnation""",
    forget_workers="DELETE FROM taskq_worker WHERE namespace = :namespace AND expires <= :now",
    select_workers="""
        SELECT beat FROM taskq_worker WHERE namespace = :namespace AND expires > :now
        ORDER BY worker, incarnation""",
    store="""
        INSERT INTO taskq_result (namespace, id, run, state, ttl, expires, payload)
        VALUES (:namespace, :id, :run, :state, :ttl, :expires, :payload)
        ON CONFLICT (namespace, id) DO UPDATE
        SET run = excluded.run, state = excluded.state, ttl = excluded.ttl,
            expires = excluded.expires, payload = excluded.payload
        WHERE taskq_result.run <= excluded.run OR taskq_result.expires <= :now""",
    fetch="""
        SELECT r.id, r.run, r.state, r.payload, r.ttl FROM json_each(:array) AS wanted
        CROSS JOIN taskq_result AS r
        WHERE r.namespace = :namespace AND r.id = wanted.value AND r.expires > :now""",
    forget="""
        DELETE FROM taskq_result
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))""",
    expire="""
        DELETE FROM taskq_result
        WHERE namespace = :namespace AND id IN (
            SELECT id FROM taskq_result WHERE namespace = :namespace AND expires <= :now
            ORDER BY expires LIMIT :limit)""",
)
