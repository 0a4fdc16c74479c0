"""What PostgreSQL is told, at READ COMMITTED.

Many rows travel as one array per column (`unnest`). A row that another
transaction has locked is judged anew once that has ended, so every lock is
taken by the sentence that decides; rows are locked in the order of `id`.

What comes first is asked for in the order of the index, even where any row would
do: whatever the statistics say, and they are always of another moment, nothing
but ``taskq_message_place`` then gives it without reading all there is. For the
same reason ids are looked up one by one in the unique index: `LATERAL` with a
lock, or with `OFFSET 0`, leaves the planner no other way.

A session keeps no state, since a pooler may hand over another one at any time; so
each transaction says anew how long it may pause. It also says that no table is to
be read from end to end: that is the quickest way through a small one, and a
prepared statement would keep to it when the table has grown, until the next vacuum.
"""

from __future__ import annotations

from typing import Final

from taskq_sql.statements import PAUSE, Statements

POSTGRESQL: Final = Statements(
    begin=f"""
        BEGIN ISOLATION LEVEL READ COMMITTED;
        SET LOCAL idle_in_transaction_session_timeout = '{PAUSE}s';
        SET LOCAL lock_timeout = '{PAUSE}s';
        SET LOCAL tcp_user_timeout = '{PAUSE}s';
        SET LOCAL enable_seqscan = off""",
    has_schema="SELECT 1 WHERE to_regclass('taskq_schema') IS NOT NULL",
    select_schema="SELECT number, reader FROM taskq_schema",
    select_identity="SELECT identity FROM taskq_schema",
    send="""
        INSERT INTO taskq_message
            (namespace, id, queue, state, level, at, head, priority,
             max_deliveries, sent, expires, token, envelope)
        SELECT CAST(:namespace AS text), v.id, v.queue, v.state, v.level, v.at, 0, v.priority,
               v.max_deliveries, CAST(:sent AS bigint), v.expires, CAST(:token AS text), v.envelope
        FROM unnest(CAST(:id AS text[]), CAST(:queue AS text[]), CAST(:state AS smallint[]),
                    CAST(:level AS smallint[]),
                    CAST(:at AS bigint[]), CAST(:priority AS smallint[]),
                    CAST(:max_deliveries AS integer[]),
                    CAST(:expires AS bigint[]), CAST(:envelope AS bytea[]))
            WITH ORDINALITY AS v(id, queue, state, level, at, priority, max_deliveries,
                                 expires, envelope, place)
        WHERE NOT EXISTS (
            SELECT 1 FROM taskq_result AS r
            WHERE r.namespace = CAST(:namespace AS text) AND r.id = v.id
              AND r.expires > CAST(:sent AS bigint)
            OFFSET 0)
        ORDER BY v.place
        ON CONFLICT (namespace, id) DO NOTHING""",
    select_concluded="""
        SELECT found.* FROM unnest(CAST(:array AS text[])) AS wanted(id)
        CROSS JOIN LATERAL (
            SELECT id FROM taskq_result
            WHERE namespace = :namespace AND id = wanted.id COLLATE "C" AND expires > :sent
            OFFSET 0) AS found""",
    unsend="""
        DELETE FROM taskq_message WHERE seq = ANY(ARRAY(
            SELECT found.seq FROM unnest(CAST(:array AS text[])) AS wanted(id)
            CROSS JOIN LATERAL (
                SELECT seq FROM taskq_message
                WHERE namespace = :namespace AND id = wanted.id COLLATE "C" AND token = :token
                OFFSET 0) AS found))""",
    outlook="""
        SELECT
            (SELECT 1 FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 1 ORDER BY level, at, seq LIMIT 1),
            (SELECT at FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 0 AND level = 0 ORDER BY at, seq LIMIT 1),
            (SELECT at FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 2 AND level = 0 ORDER BY at, seq LIMIT 1)""",
    select_ready="""
        SELECT seq, id, envelope, priority, max_deliveries, expires,
               retries, losses, releases, run, first_released, level, at
        FROM taskq_message WHERE namespace = :namespace AND queue = :queue AND state = 1
        ORDER BY level, at, seq LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""",
    select_next="""
        SELECT found.*
        FROM unnest(CAST(:levels AS smallint[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]))
            AS span(level, low, high)
        CROSS JOIN LATERAL (
            SELECT seq, id, envelope, priority, max_deliveries, expires,
                   retries, losses, releases, run, first_released, level, at
            FROM taskq_message WHERE namespace = :namespace AND queue = :queue AND state = 1
              AND level = span.level AND at BETWEEN span.low AND span.high
            ORDER BY at, seq LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) AS found
        LIMIT :limit""",
    lease="""
        UPDATE taskq_message SET state = 2, level = 0, at = :until, token = :token
        WHERE seq = ANY(:array)""",
    select_lost="""
        SELECT seq, priority, losses, max_deliveries FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 2 AND level = 0
          AND at <= :now
        ORDER BY at, seq LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""",
    select_due="""
        SELECT seq FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 0 AND level = 0
          AND at <= :now
        ORDER BY at, seq LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""",
    promote="""
        UPDATE taskq_message
        SET state = 1, level = 9 - priority, at = CASE head WHEN 1 THEN 0 ELSE at END
        WHERE seq = ANY(:array)""",
    move="""
        UPDATE taskq_message AS m
        SET state = v.state, level = v.level, at = v.at, head = v.head, token = NULL,
            retries = m.retries + v.retries, losses = m.losses + v.losses,
            releases = m.releases + v.releases, run = m.run + v.run,
            first_released = coalesce(m.first_released, v.first_released),
            envelope = coalesce(v.envelope, m.envelope), code = v.code, detail = v.detail
        FROM unnest(CAST(:seq AS bigint[]), CAST(:state AS smallint[]),
                    CAST(:level AS smallint[]), CAST(:at AS bigint[]),
                    CAST(:head AS smallint[]), CAST(:retries AS integer[]),
                    CAST(:losses AS integer[]),
                    CAST(:releases AS integer[]), CAST(:run AS integer[]),
                    CAST(:first_released AS bigint[]),
                    CAST(:envelope AS bytea[]), CAST(:code AS text[]), CAST(:detail AS bytea[]))
            AS v(seq, state, level, at, head, retries, losses, releases, run,
                 first_released, envelope, code, detail)
        WHERE m.seq = v.seq""",
    select_held="""
        SELECT found.* FROM (
            SELECT unnest(CAST(:array AS text[])) COLLATE "C" AS id ORDER BY id) AS wanted
        CROSS JOIN LATERAL (
            SELECT seq, id, token FROM taskq_message
            WHERE namespace = :namespace AND id = wanted.id AND state = 2
            FOR UPDATE) AS found""",
    delete_held="""
        DELETE FROM taskq_message WHERE seq = ANY(ARRAY(
            SELECT found.seq FROM (
                SELECT unnest(CAST(:array AS text[])) COLLATE "C" AS id ORDER BY id) AS wanted
            CROSS JOIN LATERAL (
                SELECT seq FROM taskq_message
                WHERE namespace = :namespace AND id = wanted.id
                  AND token = :token AND state + 0 = 2
                FOR UPDATE) AS found))""",
    extend="UPDATE taskq_message SET at = :until WHERE seq = ANY(:array)",
    delete="DELETE FROM taskq_message WHERE seq = ANY(:array)",
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
        SELECT found.* FROM unnest(CAST(:array AS text[])) AS wanted(id)
        CROSS JOIN LATERAL (
            SELECT id, state FROM taskq_message
            WHERE namespace = :namespace AND id = wanted.id COLLATE "C"
            OFFSET 0) AS found""",
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
        SELECT found.* FROM (
            SELECT unnest(CAST(:array AS text[])) COLLATE "C" AS id ORDER BY id) AS wanted
        CROSS JOIN LATERAL (
            SELECT seq, id FROM taskq_message
            WHERE namespace = :namespace AND id = wanted.id
              AND queue || '' = :queue AND state + 0 = 3
            FOR UPDATE) AS found""",
    select_old_dead="""
        SELECT seq FROM taskq_message
        WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
          AND at < :before
        ORDER BY at, seq LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""",
    select_waiting="""
        SELECT seq FROM taskq_message WHERE namespace = :namespace AND queue = :queue
            AND state = :state
        ORDER BY level, at, seq LIMIT :limit FOR UPDATE""",
    requeue="""
        UPDATE taskq_message
        SET state = 1, level = 9 - priority, at = :now, run = run + 1,
            retries = 0, losses = 0, releases = 0, first_released = NULL,
            code = NULL, detail = NULL
        WHERE seq = ANY(:array)""",
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
        INSERT INTO taskq_result AS r (namespace, id, run, state, ttl, expires, payload)
        SELECT CAST(:namespace AS text), v.id, v.run, v.state, v.ttl, v.expires, v.payload
        FROM unnest(CAST(:id AS text[]), CAST(:run AS integer[]), CAST(:state AS text[]),
                    CAST(:ttl AS bigint[]),
                    CAST(:expires AS bigint[]), CAST(:payload AS bytea[]))
            AS v(id, run, state, ttl, expires, payload)
        ORDER BY v.id
        ON CONFLICT (namespace, id) DO UPDATE
        SET run = excluded.run, state = excluded.state, ttl = excluded.ttl,
            expires = excluded.expires, payload = excluded.payload
        WHERE r.run <= excluded.run OR r.expires <= :now""",
    fetch="""
        SELECT found.* FROM unnest(CAST(:array AS text[])) AS wanted(id)
        CROSS JOIN LATERAL (
            SELECT id, run, state, payload, ttl FROM taskq_result
            WHERE namespace = :namespace AND id = wanted.id COLLATE "C" AND expires > :now
            OFFSET 0) AS found""",
    select_expired="""
        SELECT id FROM taskq_result WHERE namespace = :namespace AND expires <= :now
        ORDER BY expires LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""",
    forget="DELETE FROM taskq_result WHERE namespace = :namespace AND id = ANY(:array)",
    notify="SELECT pg_notify(:channel, '')",
    post="""
        INSERT INTO taskq_outbox
            (namespace, id, queue, priority, max_deliveries, due, expires, envelope, state)
        SELECT CAST(:namespace AS text), v.id, v.queue, v.priority, v.max_deliveries, v.due,
               v.expires, v.envelope, CAST(:state AS smallint)
        FROM unnest(CAST(:id AS text[]), CAST(:queue AS text[]), CAST(:priority AS smallint[]),
                    CAST(:max_deliveries AS integer[]), CAST(:due AS bigint[]),
                    CAST(:expires AS bigint[]), CAST(:envelope AS bytea[]))
            WITH ORDINALITY AS v(id, queue, priority, max_deliveries, due, expires, envelope, place)
        ORDER BY v.place""",
    look_outbox="""
        SELECT seq FROM taskq_outbox WHERE namespace = :namespace AND state <= 0
        ORDER BY state, seq LIMIT 1""",
    bound_turn="SELECT set_config('idle_in_transaction_session_timeout', '20s', true)",
    take_turn="""
        SELECT CAST(pg_try_advisory_xact_lock(hashtextextended(CAST(:namespace AS text),
            CAST(CAST(CAST('taskq_outbox' AS regclass) AS oid) AS bigint))) AS integer)""",
    select_posted="""
        SELECT seq, id, queue, priority, max_deliveries, due, expires, envelope
        FROM taskq_outbox WHERE namespace = :namespace AND state <= 0
        ORDER BY state, seq LIMIT :limit""",
    delete_posted="DELETE FROM taskq_outbox WHERE seq = ANY(:array)",
    set_aside="UPDATE taskq_outbox SET state = 1, refused = :refused WHERE seq = :seq",
    count_posted="""
        SELECT state, count(*) FROM taskq_outbox WHERE namespace = :namespace
        GROUP BY state ORDER BY state""",
    select_refused="""
        SELECT seq, id, queue, refused FROM taskq_outbox
        WHERE namespace = :namespace AND (state, seq) > (1, :seq)
        ORDER BY state, seq LIMIT :limit""",
    repost="UPDATE taskq_outbox SET state = 0, refused = NULL WHERE seq = ANY(:array)",
)
