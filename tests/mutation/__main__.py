"""``python -m tests.mutation``: break a backend in every small way, and see who notices."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.mutation.equivalents import StaleEntry, check_fresh, load_equivalents
from tests.mutation.mutant import Key, Mutant
from tests.mutation.runner import Runner, Unfit
from tests.mutation.subjects import ROOT, SUBJECTS, Subject
from tests.mutation.verdict import ENOUGH, Verdict, keep, share, summary

RESULTS: Final = ROOT / "build" / "mutants.json"


def main() -> int:
    """Return 0 if enough of each backend's mutants were caught, else 1."""
    options = _options()
    names = options.target or sorted(SUBJECTS)
    try:
        reasons = load_equivalents()
        check_fresh(reasons, [m for subject in SUBJECTS.values() for m in subject.mutants()])
        return max(_one(SUBJECTS[name], options, reasons) for name in names)
    except (StaleEntry, Unfit) as error:
        print(error, file=sys.stderr)
        return 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("mutants", description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(SUBJECTS))
    parser.add_argument(
        "--only", metavar="PATTERN", default="", help="a regular expression on what --list shows"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--list", action="store_true", help="show the mutants and run none")
    parser.add_argument(
        "--doubt", action="store_true", help="run those said to be equivalent, and only those"
    )
    return parser.parse_args()


def _one(subject: Subject, options: argparse.Namespace, reasons: Mapping[Key, str]) -> int:
    chosen = [one for one in subject.mutants() if re.search(options.only, one.name)]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return 0
    if options.doubt:
        return _doubt(subject, [one for one in chosen if one.key in reasons], options.jobs)
    verdicts = [
        Verdict(one, "", "equivalent", because=reasons[one.key])
        for one in chosen
        if one.key in reasons
    ]
    verdicts += _run(subject, [one for one in chosen if one.key not in reasons], options.jobs)
    keep(RESULTS, subject.name, verdicts)
    print("\n".join(summary(subject.name, verdicts)))
    return 0 if share(verdicts) >= ENOUGH else 1


def _doubt(subject: Subject, mutants: Sequence[Mutant], jobs: int) -> int:
    wrong = [verdict for verdict in _run(subject, mutants, jobs) if verdict.caught]
    for verdict in wrong:
        print(f"not equivalent: {verdict.line()}\n{verdict.error}\n{verdict.diff}")
    print(f"{subject.name}: {len(mutants) - len(wrong)} of {len(mutants)} may be equivalent")
    return 1 if wrong else 0


def _run(subject: Subject, mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    if not mutants:
        return
    with tempfile.TemporaryDirectory(prefix="taskq-mutants-") as folder:
        runner = Runner(subject, Path(folder), jobs=max(1, min(jobs, len(mutants))))
        try:
            started = time.monotonic()
            steps = runner.measure()
            print(f"{subject.name}, unbroken: {len(steps)} steps in {sum(steps.values()):.1f} s")
            for number, verdict in enumerate(runner.run(mutants), 1):
                print(f"{number:4}/{len(mutants)} {verdict.line()}", flush=True)
                yield verdict
            print(f"{len(mutants)} mutants in {time.monotonic() - started:.0f} s")
        finally:
            runner.close()


if __name__ == "__main__":
    sys.exit(main())
