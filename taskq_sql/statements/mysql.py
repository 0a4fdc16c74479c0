"""What MySQL and MariaDB are told, at READ COMMITTED.

Neither knows `UPDATE … RETURNING`, and neither bounds a change by a subquery of
its own table: what is to be changed is selected with a lock first, and changed
by primary key. Each sentence that locks names its index: the optimizer would
sometimes choose another way, and lock all that it passes.

A read that locks sees what is committed while it goes on: of a batch that is
sent meanwhile it would skip the first and take the last. It also locks, for a
moment, the message behind its range, so that others would skip that. So a
snapshot tells which come first (`candidates`), and they are locked by primary
key. Of the ready ones it looks at more than it takes (`:window`) once there were
too few: those at the front may be on their way to others. What the first look has
locked (`:array`) it keeps: a lock on what is not claimed would hide it from others.

What is found in another state, once it is locked, is free again as soon as the
next is looked up, and only then. Where it may have become ready, 0 is the last to
be looked up, which no message is.

`ON DUPLICATE KEY UPDATE` changes columns from left to right, and each sees what
was changed before it: what decides comes last. That `expires` less `ttl` is now,
the row itself says.
"""

from __future__ import annotations

from typing import Final

from taskq_sql.statements import Statements

MYSQL: Final = Statements(
    begin="START TRANSACTION",
    has_schema="""
        SELECT 1 FROM information_schema.tables
        WHERE table_schema = database() AND table_name = 'taskq_schema'""",
    select_schema="SELECT number, reader FROM taskq_schema",
    select_identity="SELECT identity FROM taskq_schema",
    send="""
        INSERT INTO taskq_message
            (namespace, id, queue, state, level, at, head, priority,
             max_deliveries, sent, expires, token, envelope)
        VALUES (:namespace, :id, :queue, :state, :level, :at, :head, :priority,
             :max_deliveries, :sent, :expires, :token, :envelope)
        ON DUPLICATE KEY UPDATE seq = seq""",
    select_concluded="""
        SELECT id FROM taskq_result
        WHERE namespace = :namespace AND id IN :array AND expires > :sent""",
    unsend="""
        DELETE taskq_message FROM taskq_message FORCE INDEX (taskq_message_id)
        WHERE namespace = :namespace AND id IN :array AND token = :token""",
    outlook="""
        SELECT
            EXISTS (SELECT 1 FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 1),
            (SELECT min(at) FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 0 AND level = 0),
            (SELECT min(at) FROM taskq_message WHERE namespace = :namespace
                AND queue = :queue AND state = 2 AND level = 0)""",
    select_ready="""
        SELECT STRAIGHT_JOIN seq, id, envelope, priority, max_deliveries, expires, retries,
            losses, releases, run, first_released, level, at
        FROM (SELECT seq AS candidate FROM taskq_message FORCE INDEX (taskq_message_place)
              WHERE namespace = :namespace AND queue = :queue AND state = 1
                ORDER BY level, at, seq LIMIT :window) AS candidates
        JOIN taskq_message FORCE INDEX (PRIMARY) ON seq = candidate
        WHERE state = 1 AND seq NOT IN :array
        LIMIT :limit FOR UPDATE SKIP LOCKED""",
    select_next="",
    lease="""
        UPDATE taskq_message FORCE INDEX (PRIMARY)
            SET state = 2, level = 0, at = :until, token = :token
        WHERE seq IN :array""",
    select_lost="""
        SELECT STRAIGHT_JOIN seq, priority, losses, max_deliveries
        FROM ((SELECT seq AS candidate FROM taskq_message FORCE INDEX (taskq_message_place)
               WHERE namespace = :namespace AND queue = :queue AND state = 2 AND level = 0
                 AND at <= :now ORDER BY at, seq LIMIT :limit)
              UNION ALL SELECT 0) AS candidates
        JOIN taskq_message FORCE INDEX (PRIMARY) ON seq = candidate
        WHERE state = 2 AND level = 0 AND at <= :now
        LIMIT :limit FOR UPDATE SKIP LOCKED""",
    select_due="""
        SELECT STRAIGHT_JOIN seq
        FROM ((SELECT seq AS candidate FROM taskq_message FORCE INDEX (taskq_message_place)
               WHERE namespace = :namespace AND queue = :queue AND state = 0 AND level = 0
                 AND at <= :now ORDER BY at, seq LIMIT :limit)
              UNION ALL SELECT 0) AS candidates
        JOIN taskq_message FORCE INDEX (PRIMARY) ON seq = candidate
        WHERE state = 0 AND level = 0 AND at <= :now
        LIMIT :limit FOR UPDATE SKIP LOCKED""",
    promote="""
        UPDATE taskq_message FORCE INDEX (PRIMARY)
        SET state = 1, level = 9 - priority, at = CASE head WHEN 1 THEN 0 ELSE at END
        WHERE seq IN :array""",
    move="""
        UPDATE taskq_message
        SET state = :state, level = :level, at = :at, head = :head, token = NULL,
            retries = retries + :retries, losses = losses + :losses,
            releases = releases + :releases, run = run + :run,
            first_released = coalesce(first_released, :first_released),
            envelope = coalesce(:envelope, envelope), code = :code, detail = :detail
        WHERE seq = :seq""",
    select_held="""
        SELECT seq, id, token FROM taskq_message FORCE INDEX (taskq_message_id)
        WHERE namespace = :namespace AND id IN :array AND state = 2 ORDER BY id FOR UPDATE""",
    delete_held="""
        DELETE taskq_message FROM taskq_message FORCE INDEX (taskq_message_id)
        WHERE namespace = :namespace AND id IN :array AND token = :token AND state = 2""",
    extend="UPDATE taskq_message FORCE INDEX (PRIMARY) SET at = :until WHERE seq IN :array",
    delete="DELETE taskq_message FROM taskq_message FORCE INDEX (PRIMARY) WHERE seq IN :array",
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
    locate="SELECT id, state FROM taskq_message WHERE namespace = :namespace AND id IN :array",
    select_dead="""
        SELECT STRAIGHT_JOIN id, envelope, priority, max_deliveries, code, detail, at,
               retries, losses, releases, run
        FROM (SELECT DISTINCT at AS instant FROM (
                SELECT at FROM taskq_message FORCE INDEX (taskq_message_place)
                WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
                  AND at >= :died AND (at > :died OR id > :id)
                ORDER BY at, seq LIMIT :limit) AS page) AS instants
        JOIN taskq_message FORCE INDEX (taskq_message_place) ON at = instant
        WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
          AND (at > :died OR id > :id)
        ORDER BY at, id LIMIT :limit""",
    select_dead_ids="""
        SELECT seq, id FROM taskq_message FORCE INDEX (taskq_message_id)
        WHERE namespace = :namespace AND id IN :array AND queue = :queue AND state = 3
        ORDER BY id FOR UPDATE""",
    select_old_dead="""
        SELECT STRAIGHT_JOIN seq
        FROM (SELECT seq AS candidate FROM taskq_message FORCE INDEX (taskq_message_place)
              WHERE namespace = :namespace AND queue = :queue AND state = 3 AND level = 0
                AND at < :before ORDER BY at, seq LIMIT :limit) AS candidates
        JOIN taskq_message FORCE INDEX (PRIMARY) ON seq = candidate
        WHERE state = 3 AND level = 0 AND at < :before
        LIMIT :limit FOR UPDATE SKIP LOCKED""",
    select_waiting="""
        SELECT STRAIGHT_JOIN seq
        FROM (SELECT seq AS candidate FROM taskq_message FORCE INDEX (taskq_message_place)
              WHERE namespace = :namespace AND queue = :queue AND state = :state
                ORDER BY level, at, seq LIMIT :limit) AS candidates
        JOIN taskq_message FORCE INDEX (PRIMARY) ON seq = candidate
        WHERE state = :state
        LIMIT :limit FOR UPDATE""",
    requeue="""
        UPDATE taskq_message FORCE INDEX (PRIMARY)
        SET state = 1, level = 9 - priority, at = :now, run = run + 1,
            retries = 0, losses = 0, releases = 0, first_released = NULL,
            code = NULL, detail = NULL
        WHERE seq IN :array""",
    beat="""
        INSERT INTO taskq_worker (namespace, worker, incarnation, expires, beat)
        VALUES (:namespace, :worker, :incarnation, :expires, :beat)
        ON DUPLICATE KEY UPDATE expires = VALUES(expires), beat = VALUES(beat)""",
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
        ON DUPLICATE KEY UPDATE
            state = IF(run <= VALUES(run) OR expires <= VALUES(expires) - VALUES(ttl),
                       VALUES(state), state),
            payload = IF(run <= VALUES(run) OR expires <= VALUES(expires) - VALUES(ttl),
                         VALUES(payload), payload),
            ttl = IF(run <= VALUES(run) OR expires <= VALUES(expires) - VALUES(ttl),
                     VALUES(ttl), ttl),
            run = IF(run <= VALUES(run) OR expires <= VALUES(expires) - VALUES(ttl),
                     VALUES(run), run),
            expires = IF(run = VALUES(run), VALUES(expires), expires)""",
    fetch="""
        SELECT id, run, state, payload, ttl FROM taskq_result
        WHERE namespace = :namespace AND id IN :array AND expires > :now""",
    select_expired="""
        SELECT id FROM taskq_result WHERE namespace = :namespace AND expires <= :now
        ORDER BY expires LIMIT :limit FOR UPDATE SKIP LOCKED""",
    forget="""
        DELETE taskq_result FROM taskq_result FORCE INDEX (PRIMARY)
            WHERE namespace = :namespace AND id IN :array""",
    notify="",
    post="""
        INSERT INTO taskq_outbox
            (namespace, id, queue, priority, max_deliveries, due, expires, envelope, state)
        VALUES (:namespace, :id, :queue, :priority, :max_deliveries, :due, :expires, :envelope,
            :state)""",
    look_outbox="""
        SELECT seq FROM taskq_outbox FORCE INDEX (taskq_outbox_place)
        WHERE namespace = :namespace AND state = 0 ORDER BY seq LIMIT 1""",
    bound_turn="SET SESSION wait_timeout = 20 /*M! , idle_transaction_timeout = 20 */",
    take_turn="""
        SELECT CASE
            WHEN IS_USED_LOCK(MD5(CONCAT(database(), '.taskq_outbox.', :namespace)))
                = CONNECTION_ID() THEN 1
            ELSE GET_LOCK(MD5(CONCAT(database(), '.taskq_outbox.', :namespace)), 0) END""",
    select_posted="""
        SELECT seq, id, queue, priority, max_deliveries, due, expires, envelope
        FROM taskq_outbox FORCE INDEX (taskq_outbox_place)
        WHERE namespace = :namespace AND state = 0 ORDER BY seq LIMIT :limit""",
    delete_posted="""
        DELETE taskq_outbox FROM taskq_outbox FORCE INDEX (PRIMARY) WHERE seq IN :array""",
    set_aside="UPDATE taskq_outbox SET state = 1, refused = :refused WHERE seq = :seq",
    count_posted="""
        SELECT state, count(*) FROM taskq_outbox WHERE namespace = :namespace
        GROUP BY state ORDER BY state""",
    select_refused="""
        SELECT seq, id, queue, refused FROM taskq_outbox FORCE INDEX (taskq_outbox_place)
        WHERE namespace = :namespace AND state = 1 AND seq > :seq ORDER BY seq LIMIT :limit""",
    repost="""
        UPDATE taskq_outbox FORCE INDEX (PRIMARY) SET state = 0, refused = NULL
        WHERE seq IN :array""",
)
