"""The fixtures, in a project of a user's: its own settings, its own application."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

SHOP = """
from taskq import TaskQ

app = TaskQ("shop", broker="redis://nowhere.invalid:1")
plugins = app.plugins


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(max_retries=2)
def pay(amount: int) -> None:
    raise ConnectionError("the bank is closed")
"""
ONE_TEST = "def test_one(): pass"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with an application whose broker nobody can reach."""
    pytester.makepyfile(shop=SHOP)
    configure(pytester, 'taskq_app = "shop:app"')
    return pytester


def configure(project: pytest.Pytester, line: str) -> None:
    project.makepyprojecttoml(
        f"[tool.pytest.ini_options]\n{line}\npythonpath = ['.']\n"
        "addopts = '-p no:cacheprovider --strict-markers'\nfilterwarnings = ['error']"
    )


def check(project: pytest.Pytester, **expected: int) -> str:
    """Run the project's tests here; return what pytest wrote."""
    result = project.runpytest_inprocess()
    result.assert_outcomes(**expected)
    return str(result.stdout)


def flat(text: str) -> str:
    return " ".join(text.replace("\nE ", " ").split())


def test_each_test_of_a_project_has_a_sandbox_of_its_own(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_shop="""
        import asyncio, threading, unittest
        import pytest
        from shop import add, app, pay

        def test_a_task_runs(taskq_sandbox):
            result = add.delay(4, 5)
            assert taskq_sandbox.sent() == [add.s(4, 5)]
            taskq_sandbox.run()
            assert result.get() == 9

        def test_nothing_of_another_test_is_seen(taskq_sandbox):
            assert taskq_sandbox.sent() == []
            assert app.broker.stats() == []

        def test_without_asking_for_it():
            assert add.delay(4, 5).get(timeout=5) == 9

        def test_time(taskq_sandbox):
            pay.delay(7)
            with pytest.raises(ConnectionError):
                taskq_sandbox.travel(3600)
            assert [run.state for run in taskq_sandbox.travel(3600)] == []

        def test_eager():
            app.conf.task_always_eager = True
            assert add.delay(1, 2).get() == 3

        def test_not_eager_any_more():
            assert add.delay(1, 2).state == "PENDING"

        def test_coroutines(taskq_sandbox):
            async def main():
                result = await add.adelay(1, 2)
                return await result.aget(timeout=5)
            assert asyncio.run(main()) == 3

        class TestOld(unittest.TestCase):
            def test_it(self):
                self.assertEqual(add.delay(1, 1).get(timeout=5), 2)
        """,
        conftest="""
        import threading

        def pytest_sessionfinish():
            import shop
            assert shop.app.plugins is shop.plugins, "the application was left parked"
            assert not shop.app.opened
            assert [t.name for t in threading.enumerate()] == ["MainThread"]
        """,
    )

    result = project.runpytest_subprocess()

    result.assert_outcomes(passed=8)
    assert result.ret == 0


def test_a_failure_shows_the_task_and_not_the_way_to_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_shop="""
        from shop import pay
        def test_run(taskq_sandbox):
            pay.delay(7)
            taskq_sandbox.run()
            taskq_sandbox.travel(60)
        def test_get(taskq_sandbox):
            pay.delay(7)
            pay.apply_async((7,), countdown=60).get()
        """
    )

    text = check(project, failed=2)

    assert "the bank is closed" in text
    assert "raised by task shop.pay(7)" in text
    assert "travel(60)" in text
    # What is captured of the log shows all of it.
    shown = [line for line in text.splitlines() if "sandbox.py:" in line and "File" not in line]
    assert shown == []


def test_a_project_that_names_no_application_is_left_alone(pytester: pytest.Pytester) -> None:
    configure(pytester, "")
    pytester.makepyfile(
        shop=SHOP.replace("redis://nowhere.invalid:1", "memory://"),
        test_shop="""
        from shop import add, app
        def test_own():
            add.delay(1, 2)
            assert app.broker_url.scheme == "memory"
            app.close()
        """,
    )

    check(pytester, passed=1)


def loaded(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_it_pays_next_to_nothing_for_them() -> None:
    modules = loaded("taskq.testing.fixtures")

    absent = {"asyncio", "hypothesis", "taskq.testing.sandbox", "taskq.worker.executor"}
    assert not absent & (modules - loaded("pytest"))


def test_a_sandbox_needs_neither_pytest_nor_hypothesis() -> None:
    assert not {"hypothesis", "pytest"} & loaded("taskq.testing.sandbox")


def test_a_project_gives_the_fixture_a_name_of_its_own(project: pytest.Pytester) -> None:
    project.makepyfile(
        conftest="""
        import pytest
        @pytest.fixture
        def queue(taskq_sandbox): return taskq_sandbox
        """,
        test_it="""
        from shop import add
        def test_it(queue):
            add.delay(1, 2)
            assert [run.value for run in queue.run()] == [3]
        """,
    )

    check(project, passed=1)


def test_asking_for_a_sandbox_without_naming_the_application_tells_how(
    pytester: pytest.Pytester,
) -> None:
    configure(pytester, "")
    pytester.makepyfile("def test_it(taskq_sandbox): pass")

    assert 'such as taskq_app = "shop:app"' in flat(check(pytester, errors=1))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("shop.add", "there is no module 'shop.add'"),
        ("shop:add", "shop:add is a Task, not a TaskQ"),
        ("shop:nope", "shop:nope does not exist"),
        ("nosuch:app", "there is no module 'nosuch'"),
        ("shop/app.py", "'shop/app.py' is not the name of a module"),
    ],
)
def test_a_name_that_is_no_application_is_refused_with_the_cure(
    project: pytest.Pytester, spec: str, says: str
) -> None:
    configure(project, f'taskq_app = "{spec}"')
    project.makepyfile(ONE_TEST)

    text = flat(check(project, errors=1))

    assert f"taskq_app = '{spec}': {says}" in text
    assert "Write it as module:name, such as shop:app" in text
    assert "setting pythonpath" in text
    assert "another exception" not in text


def test_a_module_that_cannot_be_imported_says_itself_why(project: pytest.Pytester) -> None:
    project.makepyfile(shop="import nothing_of_the_kind")
    project.makepyfile(test_one=ONE_TEST)

    text = check(project, errors=1)

    assert "No module named 'nothing_of_the_kind'" in text
    assert 'shop.py", line 1' in text
    assert "Write it as" not in text


def test_the_name_of_the_module_is_enough_as_it_is_for_a_worker(project: pytest.Pytester) -> None:
    configure(project, 'taskq_app = "shop"')
    project.makepyfile(
        "from shop import add\ndef test_it(): assert add.delay(1, 2).get(timeout=5) == 3"
    )

    check(project, passed=1)


def test_included_modules_are_imported_as_by_a_worker(project: pytest.Pytester) -> None:
    project.makepyfile(
        shop=SHOP.replace('app = TaskQ("shop",', 'app = TaskQ("shop", include=["more"],'),
        more="from shop import app\napp.task(name='twice')(lambda x: 2 * x)",
        test_it="""
        from shop import app
        def test_it(): assert app.send_task("twice", [4]).get(timeout=5) == 8
        """,
    )

    check(project, passed=1)


def test_a_broker_opened_by_an_import_is_an_error_with_the_cure(project: pytest.Pytester) -> None:
    project.makepyfile(
        shop=SHOP.replace("redis://nowhere.invalid:1", "memory://"),
        test_shop="from shop import add\nadd.delay(1, 2)\ndef test_it(): pass",
    )

    text = flat(check(project, errors=1))

    assert "has opened memory:// before the first test" in text
    assert "Move that into a function" in text


def test_outside_of_tests_no_broker_is_opened(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_shop="""
        import pytest
        from taskq.errors import ImproperlyConfigured
        from shop import add, app

        @pytest.fixture(scope="session")
        def early():
            add.delay(1, 2)

        @pytest.fixture(scope="session")
        def late():
            yield
            with pytest.raises(ImproperlyConfigured, match="thread that a test has left behind"):
                add.delay(1, 2).get()
            with pytest.raises(ImproperlyConfigured, match="outside of a test"):
                app.results

        def test_refused(early): pass
        def test_fine(late): assert add.delay(1, 2).get(timeout=5) == 3
        """
    )

    text = flat(check(project, passed=1, errors=1))

    assert (
        "'shop' is used outside of a test, where it would reach redis://nowhere.invalid:1" in text
    )


def test_a_test_may_ask_for_the_real_broker(project: pytest.Pytester) -> None:
    project.makepyfile(
        shop=SHOP.replace("redis://nowhere.invalid:1", "memory://"),
        test_shop="""
        import pytest
        from shop import add, app, plugins

        clients = []

        @pytest.mark.taskq_real_broker
        def test_real():
            add.delay(1, 2)
            assert app.plugins is plugins
            assert app.broker_url.scheme == "memory"
            clients.append(app.broker)

        def test_sandbox_again():
            with pytest.raises(Exception, match="closed"):
                clients[0].stats()
            assert app.broker_url.scheme == "sandbox"

        @pytest.mark.taskq_real_broker
        def test_both(taskq_sandbox): pass
        """,
    )

    text = flat(check(project, passed=2, errors=1))

    assert "do not mark the test taskq_real_broker" in text


def test_the_fixture_and_the_setting_are_listed(project: pytest.Pytester) -> None:
    listed = project.runpytest_inprocess("--fixtures").stdout
    listed.fnmatch_lines(["taskq_sandbox*", "*The sandbox this test's application is in*"])

    project.runpytest_inprocess("--markers").stdout.fnmatch_lines(["*taskq_real_broker*"])
