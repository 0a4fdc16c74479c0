"""What SQLite is told. A transaction that writes has the whole file to itself."""

from __future__ import annotations

from typing import Final

from taskq_sql.statements import Statements

SQLITE: Final = Statements(
    begin="BEGIN IMMEDIATE",
    has_schema="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'taskq_schema'",
    select_schema="SELECT number, reader FROM taskq_schema",
    select_identity="SELECT identity FROM taskq_schema",
    send="""
        INSERT INTO taskq_message
            (namespace, id, queue, state, level, at, head, priority,
             max_deliveries, sent, expires, envelope)
        SELECT :namespace, :id, :queue, :state, :level, :at, 0, :priority,
             :max_deliveries, :sent, :expires, :envelope
        WHERE NOT EXISTS (
            SELECT 1 FROM taskq_result
            WHERE namespace = :namespace AND id = :id AND expires > :sent)
        ON CONFLICT DO NOTHING""",
    select_concluded="""
        SELECT id FROM taskq_result
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND +expires > :sent""",
    unsend="""
        DELETE FROM taskq_message
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND token = :token""",
    outlook="""
        SELECT
            EXISTS (SELECT 1 FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 1),
            (SELECT min(at) FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 0 AND level = 0),
            (SELECT min(at) FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 2 AND level = 0)""",
    select_ready="""
        SELECT seq, id, envelope, priority, max_deliveries, expires,
               retries, losses, releases, run, first_released
        FROM taskq_message WHERE namespace = :namespace AND queue = :queue AND state = 1
        ORDER BY level, at, seq LIMIT :limit""",
    select_next="",
    lease="""
        UPDATE taskq_message SET state = 2, level = 0, at = :until, token = :token
        WHERE seq IN (SELECT value FROM json_each(:array))""",
    select_lost="""
        SELECT seq, priority, losses, max_deliveries FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 2 AND level = 0
          AND at <= :now
        ORDER BY at, seq LIMIT :limit""",
    select_due="""
        SELECT seq FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 0 AND level = 0
          AND at <= :now
        ORDER BY at, seq LIMIT :limit""",
    promote="""
        UPDATE taskq_message
        SET state = 1, level = 9 - priority, at = CASE head WHEN 1 THEN 0 ELSE at END
        WHERE seq IN (SELECT value FROM json_each(:array))""",
    move="""
        UPDATE taskq_message
        SET state = :state, level = :level, at = :at, head = :head, token = NULL,
            retries = retries + :retries, losses = losses + :losses,
            releases = releases + :releases, run = run + :run,
            first_released = coalesce(first_released, :first_released),
            envelope = coalesce(:envelope, envelope), code = :code, detail = :detail
        WHERE seq = :seq""",
    select_held="""
        SELECT seq, id, token FROM taskq_message
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND state = 2 ORDER BY id""",
    delete_held="""
        DELETE FROM taskq_message
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND token = :token AND state = 2""",
    extend="""
        UPDATE taskq_message SET at = :until WHERE seq IN (SELECT value
            FROM json_each(:array))""",
    delete="DELETE FROM taskq_message WHERE seq IN (SELECT value FROM json_each(:array))",
    next_queue="""
        SELECT min(queue) FROM taskq_message
        WHERE namespace = :namespace AND queue > :queue""",
    count="""
        SELECT queue, state, count(*) FROM taskq_message
        WHERE namespace = :namespace GROUP BY queue, state ORDER BY queue, state""",
    oldest_ready="""
        SELECT sent FROM taskq_message WHERE namespace = :namespace AND queue = :queue
            AND state = 1
        ORDER BY level, at, seq LIMIT 1""",
    locate="""
        SELECT id, state FROM taskq_message WHERE namespace = :namespace
            AND id IN (SELECT value FROM json_each(:array))""",
    select_dead="""
        SELECT id, envelope, priority, max_deliveries, code, detail, at,
               retries, losses, releases, run
        FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
          AND at >= :died AND (at > :died OR id > :id)
          AND at <= (
            SELECT max(at) FROM (
                SELECT at FROM taskq_message
                WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
                  AND at >= :died AND (at > :died OR id > :id)
                ORDER BY at, seq LIMIT :limit) AS page)
        ORDER BY at, id LIMIT :limit""",
    select_dead_ids="""
        SELECT seq, id FROM taskq_message
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND queue = :queue AND state = 3
        ORDER BY id""",
    select_old_dead="""
        SELECT seq FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
          AND at < :before
        ORDER BY at, seq LIMIT :limit""",
    select_waiting="""
        SELECT seq FROM taskq_message WHERE namespace = :namespace AND queue = :queue
            AND state = :state
        LIMIT :limit""",
    requeue="""
        UPDATE taskq_message
        SET state = 1, level = 9 - priority, at = :now, run = run + 1,
            retries = 0, losses = 0, releases = 0, first_released = NULL,
            code = NULL, detail = NULL
        WHERE seq IN (SELECT value FROM json_each(:array))""",
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
        SELECT id, run, state, payload, ttl FROM taskq_result
        WHERE namespace = :namespace AND id IN (SELECT value FROM json_each(:array))
          AND +expires > :now""",
    select_expired="""
        SELECT id FROM taskq_result WHERE namespace = :namespace AND expires <= :now
        ORDER BY expires LIMIT :limit""",
    forget="""
        DELETE FROM taskq_result WHERE namespace = :namespace
            AND id IN (SELECT value FROM json_each(:array))""",
    notify="",
    post="""
        INSERT INTO taskq_outbox
            (namespace, id, queue, priority, max_deliveries, due, expires, envelope, state)
        VALUES (:namespace, :id, :queue, :priority, :max_deliveries, :due, :expires, :envelope,
            :state)""",
    look_outbox="""
        SELECT seq FROM taskq_outbox WHERE namespace = :namespace AND state = 0
        ORDER BY seq LIMIT 1""",
    # A lock on a file beside this one is the turn: see `taskq_sql.outbox.turns`.
    bound_turn="SELECT 1",
    take_turn="SELECT 1",
    select_posted="""
        SELECT seq, id, queue, priority, max_deliveries, due, expires, envelope
        FROM taskq_outbox WHERE namespace = :namespace AND state = 0
        ORDER BY seq LIMIT :limit""",
    delete_posted="DELETE FROM taskq_outbox WHERE seq IN (SELECT value FROM json_each(:array))",
    set_aside="UPDATE taskq_outbox SET state = 1, refused = :refused WHERE seq = :seq",
    count_posted="""
        SELECT state, count(*) FROM taskq_outbox WHERE namespace = :namespace
        GROUP BY state ORDER BY state""",
    select_refused="""
        SELECT seq, id, queue, refused FROM taskq_outbox
        WHERE namespace = :namespace AND state = 1 AND seq > :seq ORDER BY seq LIMIT :limit""",
    repost="""
        UPDATE taskq_outbox SET state = 0, refused = NULL
        WHERE seq IN (SELECT value FROM json_each(:array))""",
)
