"""Every block of README.md and docs/ runs, or says why not."""

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.docs.pages import APART, EXECUTED, REDIS, ROOT, Block, Runner, blocks, pages
from tests.servers import shared_redis

SHOWN_ONLY = {"text", "ini", "toml", "yaml", "json", "sql"}
DIRECTIVES = {"{generated}", "{eval-rst}", "{toctree}"}
LANGUAGES = EXECUTED | SHOWN_ONLY | DIRECTIVES
BLOCKS = {str(path.relative_to(ROOT)): blocks(path) for path in pages()}
RUN = {page: found for page, found in BLOCKS.items() if any(block.runs for block in found)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in os.environ if name.startswith("TASKQ_")]:
        monkeypatch.delenv(name)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def redis_url() -> Iterator[str]:
    server, namespace = shared_redis(), f"docs-{uuid.uuid4().hex}"
    yield f"{server}?namespace={namespace}"
    with redis.Redis.from_url(server) as client:
        for key in client.scan_iter(f"{{taskq:{namespace}}}:*"):
            client.delete(key)


def _needs_redis(found: list[Block]) -> bool:
    return any(block.runs and REDIS.search(block.text) for block in found)


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_do_what_it_says(
    page: str, request: pytest.FixtureRequest, folder: Path
) -> None:
    url = request.getfixturevalue("redis_url") if _needs_redis(RUN[page]) else ""
    runner = Runner(folder, url)

    try:
        for block in RUN[page]:
            if block.runs:
                runner.run(block)
    finally:
        complaints = runner.close()

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
