"""Tasks that exist exactly if a transaction of the program's was committed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    Table,
    create_engine,
    event,
    make_url,
    orm,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import taskq_sql
from taskq import TaskQ
from taskq.app.request import Request, enter, leave
from taskq.clock import VirtualClock
from taskq.errors import ImproperlyConfigured, LeaseLost, NotSupported
from taskq.testing.stepper import Ran, SteppedWorker
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from tests.integration.sql.databases import KINDS, empty_database

DRIVERS = {
    "sqlite": ("sqlite",),
    "postgresql": ("postgresql+psycopg", "postgresql+psycopg2"),
    "mariadb": ("mariadb+pymysql", "mysql+pymysql"),
}
ASYNC_DRIVERS = {
    "sqlite": ("sqlite+aiosqlite",),
    "postgresql": ("postgresql+asyncpg", "postgresql+psycopg"),
    "mariadb": ("mariadb+asyncmy",),
}
ROWS = text("SELECT count(*) FROM business")
ROW = text("INSERT INTO business VALUES (:id)")


class Program:
    """A program with a table of its own in the database that is its broker."""

    def __init__(self, url: Url, engine: Engine, **settings: Any) -> None:
        self.url = url
        self.engine = engine
        self.clock = VirtualClock(frozen=True)
        self.app = TaskQ("shop", broker=url.reveal(), clock=self.clock, **settings)
        self.returned: list[Any] = []
        self.app.task(name="note")(self.returned.append)

    def sent(self) -> int:
        return sum(line.ready + line.scheduled for line in self.app.broker.stats())

    def work(self) -> list[Ran]:
        worker = SteppedWorker(self.app)
        try:
            return worker.run_until_idle()
        finally:
            worker.crash()  # says no goodbye, but closes its event loop

    def rows(self) -> int:
        with self.engine.connect() as connection:
            return connection.execute(ROWS).scalar_one()


def engine_url(url: Url, driver: str) -> Any:
    options = {} if url.scheme == "mariadb" else url.query
    plain = url.replace(scheme=driver.partition("+")[0], query=options).reveal()
    return make_url(plain).set(drivername=driver)


def make(url: Url, driver: str) -> Engine:
    engine = create_engine(engine_url(url, driver))
    taskq_sql.prepare(engine)
    return engine


def set_up(url: Url) -> None:
    schema.make(dialect_of(url))


@pytest.fixture(params=[(kind, driver) for kind in KINDS for driver in DRIVERS[kind]], ids=str)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    kind, driver = request.param
    with empty_database(kind, tmp_path) as url:
        set_up(url)
        engine = make(url, driver)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE business (id INTEGER PRIMARY KEY)"))
        program = Program(url, engine)
        yield program
        program.app.close()
        engine.dispose()


@contextlib.contextmanager
def program_on(kind: str, folder: Path, **settings: Any) -> Iterator[Program]:
    """Lend a program with the driver that comes with the backend."""
    with empty_database(kind, folder) as url:
        set_up(url)
        engine = make(url, DRIVERS[kind][0])
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE business (id INTEGER PRIMARY KEY)"))
        program = Program(url, engine, **settings)
        yield program
        program.app.close()
        engine.dispose()


@pytest.fixture(params=KINDS)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """Yield a program on each kind of database in turn."""
    with program_on(request.param, tmp_path) as program:
        yield program


# -- Sending


def test_a_task_exists_once_its_session_is_committed(program: Program) -> None:
    with Session(program.engine) as session:
        session.execute(ROW, {"id": 1})
        sent = program.app.tasks["note"].apply_async(("a",), session=session)
        assert program.sent() == 0
        session.commit()

    assert [ran.delivery.id for ran in program.work()] == [sent.id]
    assert (program.returned, program.rows()) == (["a"], 1)


def test_a_task_is_gone_with_its_transaction(program: Program) -> None:
    with Session(program.engine) as session:
        session.execute(ROW, {"id": 1})
        program.app.tasks["note"].apply_async(("a",), session=session)
        session.rollback()

    assert (program.sent(), program.rows()) == (0, 0)


def test_a_connection_does_as_well(program: Program) -> None:
    with program.engine.begin() as connection:
        program.app.send_task("note", ("a",), connection=connection)
    with program.engine.connect() as connection:
        program.app.send_task("note", ("b",), connection=connection)

    program.work()
    assert program.returned == ["a"]


def test_calls_in_bulk_are_one_transaction_and_keep_their_order(program: Program) -> None:
    note = program.app.tasks["note"]
    with Session(program.engine) as session:
        program.app.bulk([note.s(number) for number in range(1200)], session=session)
        note.s(1200).apply_async(session=session)
        session.commit()

    program.work()
    assert program.returned == list(range(1201))


def test_all_options_of_a_call_hold(program: Program) -> None:
    note = program.app.tasks["note"]
    options: dict[str, Any] = {"priority": 9, "queue": "mail", "headers": {"who": "me"}}
    with Session(program.engine) as session:
        note.apply_async(("late",), session=session, countdown=60, queue="mail")
        note.apply_async(("gone",), session=session, expires=30, countdown=60, queue="mail")
        first = note.apply_async(("b",), session=session, task_id="chosen", **options)
        note.apply_async(("twice",), session=session, task_id="chosen", **options)
        session.commit()

    broker = program.app.broker
    (delivery,) = broker.reserve(["mail"], limit=10, lease=60)
    assert (delivery.id, delivery.message.priority, first.id) == ("chosen", 9, "chosen")
    assert broker.reserve(["mail"], limit=10, lease=60) == []
    program.clock.advance(61)
    late = broker.reserve(["mail"], limit=10, lease=60)
    assert sorted(one.expired for one in late if one.id != "chosen") == [False, True]


def test_a_savepoint_takes_its_tasks_back(plain: Program) -> None:
    note = plain.app.tasks["note"]
    with Session(plain.engine) as session:
        note.apply_async(("kept",), session=session)
        with session.begin_nested() as savepoint:
            note.apply_async(("dropped",), session=session)
            savepoint.rollback()
        session.commit()

    plain.work()
    assert plain.returned == ["kept"]


def test_a_scoped_session_is_a_session(plain: Program) -> None:
    session = scoped_session(sessionmaker(plain.engine))
    plain.app.tasks["note"].apply_async(("a",), session=session)
    session.commit()
    session.remove()

    assert plain.sent() == 1


def test_a_commit_wakes_who_waits_in_the_same_process(plain: Program) -> None:
    broker = plain.app.broker
    looks = threading.Event()
    found: list[Any] = []

    def wait() -> None:
        broker.reserve(["default"], limit=1, lease=30)
        looks.set()
        found.extend(broker.reserve(["default"], limit=1, lease=30, wait=60))

    waiting = threading.Thread(target=wait)
    waiting.start()
    looks.wait()
    with Session(plain.engine) as session:
        plain.app.tasks["note"].apply_async(("a",), session=session)
        session.commit()
    waiting.join()

    assert len(found) == 1


def test_a_sqlite_file_gets_its_tables_with_the_first_transaction(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url:
        program = Program(url, make(url, "sqlite"))
        with Session(program.engine) as session:
            for _ in range(2):
                program.app.tasks["note"].apply_async(("a",), session=session)
            session.rollback()
        with program.engine.connect() as connection:
            assert not connection.exec_driver_sql("SELECT 1 FROM sqlite_master").all()
        with Session(program.engine) as session:
            program.app.tasks["note"].apply_async(("b",), session=session)
            session.commit()

        program.work()
        assert program.returned == ["b"]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_sends_nothing_again(kind: str, level: str, tmp_path: Path) -> None:
    with program_on(kind, tmp_path) as program:
        engine = create_engine(program.engine.url, isolation_level=level)
        note = program.app.tasks["note"]
        with Session(engine) as session:
            session.execute(ROWS)
            note.apply_async(("first",), task_id="chosen")
            program.work()
            note.apply_async(("again",), task_id="chosen", session=session)
            session.commit()
        engine.dispose()

        assert (program.work(), program.returned) == ([], ["first"])


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_to_send_what_exists_holds_up_nobody(kind: str, tmp_path: Path) -> None:
    with program_on(kind, tmp_path, enqueue_timeout=2) as program:
        note = program.app.tasks["note"]
        note.apply_async(("first",), task_id="chosen")
        with Session(program.engine) as session:
            note.apply_async(("again",), task_id="chosen", session=session)
            for number in range(3):
                note.delay(number)
            program.work()

            assert program.returned == ["first", 0, 1, 2]


# -- What cannot be


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_without_tables_is_told_of_with_the_cure(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        program = Program(url, make(url, DRIVERS[kind][0]))
        with (
            Session(program.engine) as session,
            pytest.raises(ImproperlyConfigured, match="taskq sql upgrade"),
        ):
            program.app.tasks["note"].apply_async(("a",), session=session)
        program.engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_of_another_database_is_refused(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ours, other = (stack.enter_context(empty_database(kind, tmp_path)) for _ in range(2))
        for url in (ours, other):
            set_up(url)
        program = Program(ours, make(other, DRIVERS[kind][0]))
        session = stack.enter_context(Session(program.engine))
        with pytest.raises(ImproperlyConfigured, match="in another database than the broker"):
            program.app.tasks["note"].apply_async(("a",), session=session)
        session.commit()
        session.close()

        assert program.sent() == 0
        program.app.close()
        program.engine.dispose()


def test_a_session_of_another_kind_of_database_is_refused(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url:
        program = Program(Url.parse("postgresql://nobody@localhost/none"), make(url, "sqlite"))
        with (
            Session(program.engine) as session,
            pytest.raises(ImproperlyConfigured, match="of sqlite, and the broker is postgresql"),
        ):
            program.app.tasks["note"].apply_async(("a",), session=session)


def test_what_is_no_transaction_is_refused_with_the_cure(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url:
        program = Program(url, make(url, "sqlite"))
        note = program.app.tasks["note"]
        with pytest.raises(TypeError, match="an Engine has no transaction"):
            note.apply_async(("a",), session=program.engine)
        with pytest.raises(TypeError, match="a str is no transaction"):
            note.apply_async(("a",), session="session")
        with pytest.raises(TypeError, match="session or connection, not both"):
            note.apply_async(session="one", connection="other")
        engine = create_async_engine(engine_url(url, "sqlite+aiosqlite"))
        with pytest.raises(TypeError, match="AsyncSession is of asyncio: await aapply_async"):
            note.apply_async(("a",), session=AsyncSession(engine))


@pytest.mark.parametrize("where", ["engine", "connection"])
def test_a_connection_that_commits_by_itself_is_refused(plain: Program, where: str) -> None:
    level = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(plain.engine.url, **(level if where == "engine" else {}))
    with engine.connect() as connection:
        if where == "connection":
            connection = connection.execution_options(**level)
        with pytest.raises(ImproperlyConfigured, match="is in AUTOCOMMIT"):
            plain.app.tasks["note"].apply_async(("a",), connection=connection)
    engine.dispose()


# -- Coroutines


@pytest.mark.parametrize(
    ("kind", "driver"), [(kind, driver) for kind in KINDS for driver in ASYNC_DRIVERS[kind]]
)
@pytest.mark.parametrize("committed", [True, False])
def test_coroutines_send_in_their_transactions(
    kind: str, driver: str, committed: bool, tmp_path: Path
) -> None:
    async def send(program: Program, engine: AsyncEngine) -> None:
        note = program.app.tasks["note"]
        async with AsyncSession(engine) as session:
            await note.aapply_async(("session",), session=session)
            await program.app.abulk([note.s("bulk")], session=session)
            await program.app.asend_task("note", ("name",), session=session)
            await (session.commit() if committed else session.rollback())
        async with AsyncConnection(engine) as connection:
            await note.aapply_async(("connection",), connection=connection)
            await (connection.commit() if committed else connection.rollback())
        await engine.dispose()

    with empty_database(kind, tmp_path) as url:
        set_up(url)
        engine = create_async_engine(engine_url(url, driver))
        taskq_sql.prepare(engine)
        program = Program(url, engine.sync_engine)
        asyncio.run(send(program, engine))

        program.work()
        assert program.returned == (["session", "bulk", "name", "connection"] * committed)
        program.app.close()


# -- Completing


def define_effect(program: Program, **options: Any) -> Any:
    @program.app.task(bind=True, name="effect", **options)
    def effect(self: Any, id: int, fail: str = "") -> str:
        with Session(program.engine) as session, self.complete(session) as done:
            session.execute(ROW, {"id": id})
            done.value = f"row {id}"
            if fail == "inside":
                raise ValueError("inside")
        if fail == "after":
            raise ValueError("after")
        return "not looked at"

    return effect


def test_the_effect_and_the_end_of_a_task_are_one(program: Program) -> None:
    result = define_effect(program).delay(1)

    (ran,) = program.work()

    assert program.rows() == 1
    assert result.get(timeout=5) == "row 1"
    assert program.app.broker.stats() == []
    assert program.app.broker.settle([ran.settlement]) == [ran.delivery]


def test_a_block_that_raises_has_no_effect_and_the_task_is_retried(plain: Program) -> None:
    result = define_effect(plain, max_retries=1, retry_backoff=1).delay(1, "inside")

    (ran,) = plain.work()

    assert isinstance(ran.error, ValueError)
    assert plain.rows() == 0
    assert result.state == "RETRY"
    assert [line.scheduled for line in plain.app.broker.stats()] == [1]


def test_the_message_is_locked_after_all_else_was_written(plain: Program) -> None:
    """The worker renews all leases at once, and would wait for a long flush."""
    registry = orm.registry()
    business = Table("business", registry.metadata, Column("id", Integer, primary_key=True))

    @registry.mapped
    class Business:
        __table__ = business

    said: list[str] = []

    @plain.app.task(bind=True, name="mapped")
    def mapped(self: Any) -> None:
        event.listen(plain.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
        with Session(plain.engine) as session, self.complete(session):
            session.add(Business(id=1))

    mapped.delay()
    plain.work()

    written = next(n for n, text in enumerate(said) if text.startswith("INSERT INTO business"))
    locked = next(n for n, text in enumerate(said) if "taskq_message" in text)
    assert written < locked
    assert plain.rows() == 1


def test_what_is_raised_after_the_block_changes_nothing(
    plain: Program, caplog: pytest.LogCaptureFixture
) -> None:
    result = define_effect(plain, max_retries=1).delay(1, "after")

    plain.work()

    assert (plain.rows(), result.get(timeout=5)) == (1, "row 1")
    assert "raised when it was completed" in caplog.text
    assert plain.app.broker.stats() == []


def test_a_run_that_lost_its_lease_has_no_effect(plain: Program) -> None:
    seen: list[BaseException] = []

    @plain.app.task(bind=True, name="slow")
    def slow(self: Any) -> None:
        if self.request.losses == 0:
            # The lease ends, and somebody else claims the message.
            plain.clock.advance(3600)
            assert len(plain.app.broker.reserve(["default"], limit=1, lease=1)) == 1
        try:
            with Session(plain.engine) as session, self.complete(session):
                session.execute(ROW, {"id": 1})
        except LeaseLost as error:
            seen.append(error)
            raise

    slow.delay()
    plain.work()
    assert plain.rows() == 0
    assert "was lost before it was completed" in str(seen[0])

    # Reclaimed, it rests for a moment after its second loss.
    for _ in range(2):
        plain.clock.advance(3600)
        plain.work()
    assert plain.rows() == 1
    assert plain.app.broker.stats() == []


def test_a_task_is_completed_once(plain: Program) -> None:
    @plain.app.task(bind=True, name="twice")
    def twice(self: Any) -> None:
        for _ in range(2):
            with Session(plain.engine) as session, self.complete(session):
                pass

    twice.delay()
    (ran,) = plain.work()

    assert isinstance(ran.error, ImproperlyConfigured)
    assert plain.app.broker.stats() == []


def test_a_result_elsewhere_is_stored_after_the_commit(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url, empty_database("sqlite", tmp_path) as other:
        program = Program(url, make(url, "sqlite"), results=other.reveal())
        with program.engine.begin() as connection:
            connection.execute(text("CREATE TABLE business (id INTEGER PRIMARY KEY)"))
        result = define_effect(program).delay(1)
        program.work()

        assert result.get(timeout=5) == "row 1"


def test_what_cannot_be_a_result_is_known_before_the_commit(plain: Program) -> None:
    @plain.app.task(bind=True, name="odd")
    def odd(self: Any) -> None:
        with Session(plain.engine) as session, self.complete(session) as done:
            session.execute(ROW, {"id": 1})
            done.value = object()

    odd.delay()
    (ran,) = plain.work()

    assert ran.error is not None
    assert plain.rows() == 0


def test_a_task_that_is_called_only_commits(plain: Program) -> None:
    assert define_effect(plain)(1) == "not looked at"
    assert plain.rows() == 1


def test_an_eager_task_commits_and_gives_its_value(plain: Program) -> None:
    effect = define_effect(plain)
    plain.app.conf.task_always_eager = True

    assert effect.delay(1).get() == "row 1"
    assert plain.rows() == 1


@pytest.mark.parametrize(
    ("kind", "driver"), [(kind, driver) for kind in KINDS for driver in ASYNC_DRIVERS[kind]]
)
def test_coroutines_complete_in_their_transactions(kind: str, driver: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        set_up(url)
        blocking = make(url, DRIVERS[kind][0])
        with blocking.begin() as connection:
            connection.execute(text("CREATE TABLE business (id INTEGER PRIMARY KEY)"))
        program = Program(url, blocking)

        @program.app.task(bind=True, name="effect")
        async def effect(self: Any, id: int, fail: bool = False) -> None:
            engine = create_async_engine(engine_url(url, driver))
            taskq_sql.prepare(engine)
            try:
                async with AsyncSession(engine) as session, self.complete(session) as done:
                    await session.execute(ROW, {"id": id})
                    done.value = id
                    if fail:
                        raise ValueError
            finally:
                await engine.dispose()

        first, _ = effect.delay(1), effect.delay(2, fail=True)
        program.work()

        assert (first.get(timeout=5), program.rows()) == (1, 1)
        program.app.close()
        blocking.dispose()


def test_what_cannot_be_completed_is_told_before_the_block() -> None:
    app = TaskQ("shop", broker="redis://localhost")
    task: Any = app.task(name="effect", bind=True)(lambda self: self)
    token = enter(Request(id="1", task="effect", conclude=lambda *_: None))
    try:
        with pytest.raises(NotSupported, match="needs the broker in the session's database"):
            task.complete(Session())
    finally:
        leave(token)
        app.close()


def test_only_a_transaction_completes(plain: Program) -> None:
    with pytest.raises(TypeError, match="Engine is no transaction"):
        plain.app.tasks["note"].complete(plain.engine)


# -- Where there are no transactions


def test_in_memory_a_task_is_sent_and_completed_at_once(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url:
        program = Program(Url.parse("memory://"), make(url, "sqlite"))
        with program.engine.begin() as connection:
            connection.execute(text("CREATE TABLE business (id INTEGER PRIMARY KEY)"))
        effect = define_effect(program)
        with Session(program.engine) as session:
            result = effect.apply_async((1,), session=session)
            session.commit()

        program.work()
        assert (result.get(timeout=5), program.rows()) == ("row 1", 1)
