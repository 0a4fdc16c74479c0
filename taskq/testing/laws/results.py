"""Examples of what a result store may be relied on for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from taskq.contract.results import ResultRecord, Results
from taskq.errors import Closed
from taskq.testing.laws.case import Case, expire_all, law, record

SOON = 1.0
MOSTLY = 0.5
"""What the median may take: too little for a wait that is never woken."""
WAITERS = 5


class ResultsLaws:
    """R1 to R8."""

    @law("R1")
    def test_a_record_is_read_by_anybody_any_number_of_times(self, case: Case) -> None:
        writer, reader = case.results(), case.results()
        kept = record("m", ttl=100)
        writer.store([kept])

        for results in (writer, reader):
            for _ in range(10):
                case.same("R1", results.fetch(["m"]).get("m"), kept, "fetched")
        case.advance(97)
        case.same("R1", reader.fetch(["m"]).get("m"), kept, "fetched after 97 s")

    @law("R2")
    def test_a_higher_run_is_never_replaced_by_a_lower_one(self, case: Case) -> None:
        results = case.results()
        highest = -1
        for run in (1, 0, 3, 2, 2, 7, 0, 6, 1, 9, 8, 3, 0, 9, 1, 2, 8, 12, 11, 4):
            results.store([record("m", run, payload=b"%d" % run)])
            highest = max(highest, run)
            found = results.fetch(["m"])["m"]
            case.same("R2", (found.run, found.payload), (highest, b"%d" % highest), "fetched")

    @law("R2")
    def test_a_record_of_the_same_run_replaces_the_old_one(self, case: Case) -> None:
        results = case.results()
        results.store([record("m", 1, state="RETRY"), record("m", 1, payload=b"new")])

        case.same("R8", results.fetch(["m"])["m"].payload, b"new", "payload")

    @law("R2")
    def test_a_higher_run_wins_within_a_batch(self, case: Case) -> None:
        results = case.results()
        results.store([record("m", run, payload=b"%d" % run) for run in (2, 4, 1, 3)])

        found = results.fetch(["m"])["m"]
        case.same("R2", (found.run, found.payload), (4, b"4"), "fetched")

    @law("R3", "R2")
    def test_a_record_without_any_ttl_is_absent_at_once(self, case: Case) -> None:
        results = case.results()
        results.store([record("new", ttl=0), record("old", 1)])
        case.same("R3", sorted(results.fetch(["new", "old"])), ["old"], "fetched")

        results.store([record("old", 0, ttl=0)])
        case.same("R2", results.fetch(["old"]).get("old"), record("old", 1), "fetched")
        results.store([record("old", 2, ttl=0)])
        case.same("R3", results.fetch(["old"]), {}, "fetched")

    @law("R3")
    def test_a_record_is_absent_after_its_ttl(self, case: Case) -> None:
        results = case.results()
        ids = [f"m{n}" for n in range(10)]
        results.store([record(id, ttl=20 + 10 * n) for n, id in enumerate(ids)])
        for n in range(10):
            case.advance(21 if n == 0 else 10)
            case.same("R3", sorted(results.fetch(ids)), ids[n + 1 :], f"fetched in step {n}")
            case.same("R3", results.wait([ids[n]], timeout=0), {}, f"waited for {ids[n]}")
        expire_all(results, case.ledger, 3)
        case.same("R3", results.fetch(ids), {}, "fetched at last")

    @law("R3", "R2")
    def test_after_its_ttl_a_record_hinders_no_lower_run(self, case: Case) -> None:
        results = case.results()
        results.store([record("m", 5, ttl=20)])
        case.advance(21)
        results.store([record("m", 1)])

        case.same("R3", results.fetch(["m"]).get("m"), record("m", 1), "fetched")

    @law("R3", "R2")
    def test_without_any_ttl_a_record_hinders_no_lower_run_in_its_batch(self, case: Case) -> None:
        results = case.results()
        results.store([record("m", 5, ttl=0), record("m", 1)])

        case.same("R3", results.fetch(["m"]).get("m"), record("m", 1), "fetched")

    @law("R4")
    def test_a_wait_ends_as_soon_as_a_final_record_is_stored(self, case: Case) -> None:
        waiters = [case.results() for _ in range(WAITERS)]
        writer = case.results()
        took: list[float] = []
        with ThreadPoolExecutor(WAITERS) as threads:
            for round_ in range(4):
                ids = [f"m{round_}-{n}" for n in range(WAITERS)]
                waiting = [
                    threads.submit(_wait, waiter, [id, "nobody"])
                    for waiter, id in zip(waiters, ids, strict=True)
                ]
                time.sleep(0.05)
                if round_ == 0:
                    # Not in each: whoever is woken by it might look late enough to find the next.
                    writer.store([record(id, state="RETRY") for id in ids])
                stored = time.monotonic()
                writer.store([record(id, 1) for id in ids])
                for id, answer in zip(ids, waiting, strict=True):
                    found, ended = answer.result(30)
                    took.append(ended - stored)
                    right = found == {id: record(id, 1)} and took[-1] < SOON
                    case.check("R4", right, f"{found} after {took[-1]:.3f} s")
        median = statistics.median(took)
        case.check("R4", median < MOSTLY, f"the median took {median:.3f} s")

    @law("R4")
    def test_a_wait_ends_in_time_without_a_final_record(self, case: Case) -> None:
        results = case.results()
        results.store([record("m", state="RETRY")])
        started = time.monotonic()

        found = results.wait(["m", "n"], timeout=0.2)

        took = time.monotonic() - started
        case.same("R4", found, {}, "found")
        case.check("R4", 0.15 < took < SOON, f"it took {took:.3f} s")

    @law("R4")
    def test_a_wait_returns_what_is_there_at_once(self, case: Case) -> None:
        results = case.results()
        results.store([record("a"), record("b", state="RETRY"), record("c")])

        found = results.wait(["a", "b", "c", "d"], timeout=0)

        case.same("R4", sorted(found), ["a", "c"], "found")

    @law("R5")
    def test_a_forgotten_record_is_absent(self, case: Case) -> None:
        results, other = case.results(), case.results()
        ids = [f"m{n}" for n in range(10)]
        results.store([record(id, 3) for id in ids])
        for n, id in enumerate(ids):
            results.forget([id, "nobody"])
            case.same("R5", sorted(other.fetch(ids)), ids[n + 1 :], "fetched")
            results.store([record("again", n)])
            results.forget(["again"])
            case.same("R5", other.fetch(["again"]), {}, "fetched")

    @law("R6")
    def test_a_fetch_returns_exactly_the_records_there_are(self, case: Case) -> None:
        results = case.results()
        kept = {f"m{n}": record(f"m{n}", n, payload=b"%d" % n) for n in range(12)}
        results.store(list(kept.values()))
        ids = list(kept)
        for n in range(12):
            asked = [*ids[:n], "nobody", *ids[:1]]
            case.same(
                "R6", results.fetch(asked), {id: kept[id] for id in {*ids[:n], ids[0]}}, "found"
            )
            case.same("R6", results.fetch([f"none{n}"]), {}, "found")
        case.same("R6", results.fetch([]), {}, "found")

    @law("R7")
    def test_after_close_every_method_of_a_store_raises_closed(self, case: Case) -> None:
        for _ in range(4):
            results = case.results()
            results.fetch(["m"])
            results.close()
            results.close()
            for name, call in _calls(results).items():
                case.check("R7", _raises_closed(call), f"{name} works after close")

    @law("R8")
    def test_a_record_comes_back_as_stored(self, case: Case) -> None:
        results = case.results()
        payloads = [b"", b"\x00", bytes(range(256)), b"x" * 100_000, "é✓".encode()]
        for n, payload in enumerate(payloads):
            for state in ("SUCCESS", "FAILURE", "RETRY", "REVOKED"):
                kept = record(f"m{n}-{state}", n * 1000, state=state, payload=payload)
                results.store([kept])
                found = results.fetch([kept.id]).get(kept.id)
                case.check("R8", _same(found, kept), f"{kept.id} is not as stored")


def _same(found: ResultRecord | None, kept: ResultRecord) -> bool:
    return found is not None and (found.id, found.run, found.state, found.payload) == (
        kept.id,
        kept.run,
        kept.state,
        kept.payload,
    )


def _wait(results: Results, ids: list[str]) -> tuple[dict[str, ResultRecord], float]:
    found = results.wait(ids, timeout=1.5)
    return found, time.monotonic()


def _calls(results: Results) -> dict[str, Callable[[], object]]:
    return {
        "store": lambda: results.store([record("m")]),
        "store of nothing": lambda: results.store([]),
        "fetch": lambda: results.fetch(["m"]),
        "fetch of nothing": lambda: results.fetch([]),
        "wait": lambda: results.wait(["m"], timeout=0),
        "forget": lambda: results.forget(["m"]),
        "forget of nothing": lambda: results.forget([]),
        "expire": results.expire,
    }


def _raises_closed(call: Callable[[], object]) -> bool:
    try:
        call()
    except Closed:
        return True
    return False
