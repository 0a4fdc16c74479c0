"""The distributions belong together, and the bundle is their union."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import taskq
import taskq_amqp
import taskq_redis
import taskq_sql

ROOT = Path(__file__).parents[2]
MEMBERS = ("taskq", "taskq_amqp", "taskq_redis", "taskq_sql")
MODULES = [path for member in MEMBERS for path in sorted((ROOT / member).rglob("*.py"))]


def project(folder: str) -> dict[str, Any]:
    text = (ROOT / folder / "pyproject.toml").read_text()
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def name_of(requirement: str) -> str:
    return re.split(r"[\s\[<>=~!;]", requirement, maxsplit=1)[0].lower()


def test_all_versions_are_one() -> None:
    versions = {project(member)["version"] for member in MEMBERS} | {project(".")["version"]}

    packages = (taskq, taskq_amqp, taskq_redis, taskq_sql)
    assert versions == {package.__version__ for package in packages}
    assert len(versions) == 1


def test_the_bundle_depends_on_what_its_members_depend_on() -> None:
    own = {project(member)["name"] for member in MEMBERS}
    union = {line for member in MEMBERS for line in project(member)["dependencies"]}

    assert {line for line in union if name_of(line) not in own} == set(project(".")["dependencies"])


def test_the_bundle_has_the_scripts_and_entry_points_of_its_members() -> None:
    points: dict[str, dict[str, str]] = {}
    for member in MEMBERS:
        for group, entries in project(member).get("entry-points", {}).items():
            points.setdefault(group, {}).update(entries)

    assert project(".")["entry-points"] == points
    assert project(".")["scripts"] == project("taskq")["scripts"]


def test_every_extra_of_the_core_names_a_member_or_the_kit() -> None:
    extras = project("taskq")["optional-dependencies"]

    brought = {name: [name_of(line) for line in lines] for name, lines in extras.items()}
    assert brought.pop("testing") == ["hypothesis", "pytest"]
    assert brought == {
        "amqp": ["taskq-amqp"],
        "redis": ["taskq-redis"],
        "sql": ["taskq-sql"],
        "postgresql": ["taskq-sql"],
        "mysql": ["taskq-sql"],
    }


def test_the_public_names_are_these() -> None:
    assert sorted(taskq.__all__) == [
        "AsyncResult",
        "EnqueueError",
        "MaxRetriesExceededError",
        "Request",
        "Retry",
        "Signature",
        "Task",
        "TaskError",
        "TaskQ",
        "TaskRevokedError",
        "TaskqError",
        "TimeoutError",
        "current_request",
    ]
    assert all(hasattr(taskq, name) for name in taskq.__all__)


@pytest.mark.parametrize("member", MEMBERS)
def test_each_package_says_that_it_is_typed(member: str) -> None:
    assert (ROOT / member / "py.typed").exists()
    assert (ROOT / member / "README.md").read_text().startswith("# ")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_is_one_room(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text)), "a module has a docstring"
    assert text.count("\n") <= 450, "a module over 450 lines is two modules"
