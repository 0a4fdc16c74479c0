"""``python -m tests.simulation SEED…``: tell what happens in the simulation of each seed."""

from __future__ import annotations

import logging
import sys

from .seeds import run_seed

if __name__ == "__main__":
    logging.disable()
    for seed in map(int, sys.argv[1:]):
        print(run_seed(seed).story())
