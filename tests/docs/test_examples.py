"""Every block of README.md and docs/ runs, or says why not."""

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.ahead import Answers, begin, processes
from tests.docs.pages import APART, EXECUTED, REDIS, ROOT, Runner, blocks, pages
from tests.servers import find_redis, shared_redis

SHOWN_ONLY = {"text", "ini", "toml", "yaml", "json", "sql"}
DIRECTIVES = {"{generated}", "{eval-rst}", "{literalinclude}", "{toctree}"}
LANGUAGES = EXECUTED | SHOWN_ONLY | DIRECTIVES
BLOCKS = {str(path.relative_to(ROOT)): blocks(path) for path in pages()}
AT_ONCE = 2
RUN = {page: found for page, found in BLOCKS.items() if any(block.runs for block in found)}


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Work in an empty folder, from which modules can be imported meanwhile."""
    known = set(sys.modules)
    with tempfile.TemporaryDirectory(prefix="taskq-docs-") as name, contextlib.chdir(name):
        sys.path.insert(0, name)
        try:
            yield Path(name)
        finally:
            sys.path.remove(name)
            for module in set(sys.modules) - known:
                if str(getattr(sys.modules[module], "__file__", "")).startswith(name):
                    del sys.modules[module]


@contextlib.contextmanager
def own_namespace(server: str) -> Iterator[str]:
    """Lend the URL of an empty namespace."""
    namespace = f"docs-{uuid.uuid4().hex}"
    yield f"{server}?namespace={namespace}"
    with redis.Redis.from_url(server) as client:
        for key in client.scan_iter(f"{{taskq:{namespace}}}:*"):
            client.delete(key)


def run(page: str, server: str | None) -> list[str]:
    """Run the blocks of a page; return the complaints. `server` is a Redis server, or None."""
    for name in [name for name in os.environ if name.startswith("TASKQ_")]:
        del os.environ[name]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        url = stack.enter_context(own_namespace(server)) if server and _needs_redis(page) else ""
        runner = Runner(folder, url)
        try:
            for block in RUN[page]:
                if block.runs:
                    runner.run(block)
        finally:
            complaints = runner.close()
    return complaints


def _needs_redis(page: str) -> bool:
    return any(block.runs and REDIS.search(block.text) for block in RUN[page])


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[Answers[str, list[str]]]:
    """Return the complaints of each page: much of the time it waits for its workers."""
    server = find_redis() if any(map(_needs_redis, RUN)) else None
    with processes(AT_ONCE) as pool:
        yield begin(pool, request, "page", partial(run, server=server))


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_do_what_it_says(page: str, found: Answers[str, list[str]]) -> None:
    if _needs_redis(page):
        shared_redis()

    complaints = found[page].result()

    assert not complaints


@pytest.mark.parametrize("page", BLOCKS)
def test_a_block_that_is_not_run_says_why(page: str) -> None:
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, f"{block}: give the block a language"
        assert block.not_run != "", f"{block}: not run, without a reason"
        assert block.not_run is None or block.language in EXECUTED, f"{block}: would never run"


@pytest.mark.parametrize("section", sorted(APART))
def test_the_readme_has_one_line_to_copy(section: str) -> None:
    (block,) = [block for block in BLOCKS["README.md"] if block.section == section]

    assert block.language == "sh"
    assert len(block.text.splitlines()) == 1
    assert not block.text.startswith("$")
