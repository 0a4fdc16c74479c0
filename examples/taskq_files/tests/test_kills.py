"""Processes that are killed at random instants lose nothing and leave no lock.

`TASKQ_FILES_KILLS=200 pytest tests/test_kills.py` kills 200 of them.
"""

import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from taskq.plugins import Plugins

KILLS = int(os.environ.get("TASKQ_FILES_KILLS", "8"))
AT_ONCE = 4
VICTIM = Path(__file__).with_name("victim.py")
SIZES = (10, 200_000)
"""Of an envelope, in bytes. What takes long to write is often half written."""


def test_kills_at_random_instants_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random()
    killed = acked = 0

    while killed < KILLS:
        url = f"files://{tmp_path}?waste=200000&namespace=after-{killed}"
        said: defaultdict[str, set[str]] = defaultdict(set)
        victims = [start(url, f"v{n}", SIZES[n % 2]) for n in range(AT_ONCE)]
        for victim in victims:
            kill(victim, chance, said)
            killed += 1
        check(url, said)
        acked += len(said["acked"])

    assert acked > killed


def start(url: str, name: str, size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(VICTIM), url, name, str(size)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )


def kill(victim: subprocess.Popen[str], chance: random.Random, said: dict[str, set[str]]) -> None:
    """Kill a process some lines after it has begun to work; take in what it said."""
    assert victim.stdout is not None
    lines = [victim.stdout.readline() for _ in range(chance.randrange(1, 30))]
    try:
        victim.wait(chance.random() * 0.003)
    except subprocess.TimeoutExpired:
        victim.kill()
    lines += victim.communicate()[0].splitlines()
    assert victim.returncode == -9, lines
    for line in lines:
        word, *ids = line.split()
        said[word].update(ids)


def check(url: str, said: dict[str, set[str]]) -> None:
    """Compare what there is with what was said."""
    broker, results = Plugins().open_broker(url), Plugins().open_results(url)
    ids = said["send"]
    there = set(broker.locate([*ids, *(f"{id}-next" for id in ids)]))
    done = set(results.fetch([*ids]))

    assert said["sent"] - said["ack"] <= there
    assert said["acked"] <= done
    assert not said["lost"]
    for id in said["ack"]:
        # All effects of an ack, or none.
        assert (id in there, id in done, f"{id}-next" in there) in {
            (True, False, False),
            (False, True, True),
        }, id
