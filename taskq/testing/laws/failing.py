"""Examples of what holds when connections break, and when the server is restarted."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Final

from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, State
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import BrokerError, OutcomeUnknown, SendError
from taskq.testing.faults import Fault
from taskq.testing.laws.case import Case, beat, item, law, record
from taskq.testing.record import NotApplicable

SKIPS: Final = (0, 1, 2, 3)
"""A call may take several exchanges; each of the first ones is broken once."""
LARGE: Final = 1200
LARGE_SKIPS: Final = 8
"""So much that a server is asked several times, and how far that is broken."""


def _breaks(case: Case) -> list[tuple[Fault, int]]:
    return [(fault, skip) for fault in sorted(case.target.faults) for skip in SKIPS]


def _nothing_happened(error: BrokerError | None) -> bool:
    return error is not None and not isinstance(error, OutcomeUnknown | SendError)


class FailingLaws:
    """L2, L30, L31, and L1, L3 to L5 beyond a broken call."""

    @law("L2", "L31")
    def test_a_broken_send_tells_what_became_of_each_message(self, case: Case) -> None:
        case.breakable()
        watcher = case.other()
        for fault, skip in _breaks(case):
            ids = [f"{fault}{skip}-{number}" for number in range(5)]
            error = case.breaking(
                case.broker, fault, partial(case.broker.send, [item(id) for id in ids]), skip=skip
            )
            sent, unsent = _told(case, error, ids)
            _stand(case, watcher, ids, present=sent, absent=unsent)
            case.goes_on("L31", case.broker.stats)

    @law("L2")
    def test_a_large_send_that_breaks_half_way_names_what_was_sent(self, case: Case) -> None:
        case.breakable()
        case.needs("locate")
        watcher = case.other()
        for skip in range(LARGE_SKIPS):
            ids = [f"{skip}-{number:04}" for number in range(LARGE)]
            batch = [item(id) for id in ids]
            error = case.breaking(
                case.broker, Fault.BEFORE, partial(case.broker.send, batch), skip=skip
            )
            sent, unsent = _told(case, error, ids)
            found = watcher.locate(ids)
            case.check("L2", all(id in found for id in sent), "not all that was sent exists")
            case.check("L2", not any(id in found for id in unsent), "some that was unsent exists")
            case.goes_on("L31", case.broker.stats)

    @law("L1", "L2", "L15")
    def test_what_was_not_surely_sent_can_be_sent_again(self, case: Case) -> None:
        case.breakable()
        case.needs("unique_ids")
        for fault, skip in _breaks(case):
            batch = [item(f"{fault}{skip}-{number}") for number in range(5)]
            case.breaking(case.broker, fault, partial(case.broker.send, batch), skip=skip)
            case.goes_on("L31", partial(case.broker.send, batch))
        ids = Counter(delivery.id for delivery in case.claim(limit=1000))
        expected = {f"{f}{s}-{number}" for f, s in _breaks(case) for number in range(5)}
        case.same("L1", set(ids), expected, "claimed")
        case.same("L15", max(ids.values()), 1, "copies")

    @law("L1", "L5", "L30")
    def test_what_a_broken_claim_took_comes_back(self, case: Case) -> None:
        case.breakable()
        watcher = case.other()
        for fault, skip in _breaks(case):
            queue = f"{fault}{skip}"
            case.send("a" + queue, "b" + queue, queue=queue)
            error = case.breaking(
                case.broker,
                fault,
                partial(case.broker.reserve, [queue], limit=5, lease=30),
                skip=skip,
            )
            if error is None:
                continue
            if _nothing_happened(error):
                found = {line.queue: line for line in watcher.stats()}[queue]
                case.same("L30", (found.ready, found.processing), (2, 0), "ready and leased")
            got = _gather(case, watcher, queue)
            case.same("L5", sorted(d.id for d in got), ["a" + queue, "b" + queue], "came back")

    @law("L30", "L31")
    def test_a_broken_settlement_is_done_or_not_done(self, case: Case) -> None:
        case.breakable()
        case.needs("timed_leases")
        watcher = case.other()
        for fault, skip in _breaks(case):
            queue = f"{fault}{skip}"
            ids = [f"{kind}-{queue}" for kind in ("ack", "dead", "release", "retry")]
            case.send(*ids, queue=queue)
            ack, dead, release, retry = case.claim(queue)
            batch: list[Settlement] = [
                Ack(ack, record(ack.id), (item(f"next-{queue}", queue="next-" + queue),)),
                Dead(dead, "failed"),
                Release(release, 20.0),
                Retry(retry, 20.0),
            ]
            error = case.breaking(case.broker, fault, partial(case.broker.settle, batch), skip=skip)
            if _nothing_happened(error):
                found = {line.queue: line for line in watcher.stats()}[queue]
                case.same("L30", found.processing, len(ids), "leased")
            if error is not None:
                case.goes_on("L31", case.broker.stats)
                lost = [delivery.id for delivery in case.broker.settle(batch)]
                case.check("L30", isinstance(error, OutcomeUnknown) or not lost, f"lost: {lost}")
            _settled(case, watcher, ids)
            case.kept("L30", [ack.id], record(ack.id))
            case.same("L30", len(case.claim("next-" + queue, broker=watcher)), 1, "successors")
            case.advance(21)
            again = {d.id: (d.retries, d.releases, d.losses) for d in case.claim(queue)}
            case.same("L30", again, {retry.id: (1, 0, 0), release.id: (0, 1, 0)}, "came again")

    @law("L1", "L13", "L16", "L30", "L31")
    def test_a_broken_settlement_loses_nothing(self, case: Case) -> None:
        case.breakable()
        watcher = case.other()
        for fault, skip in _breaks(case):
            queue = f"{fault}{skip}"
            ids = [f"{kind}-{queue}" for kind in ("ack", "dead", "release", "retry")]
            case.send(*ids, queue=queue)
            ack, dead, release, retry = case.claim(queue)
            batch: list[Settlement] = [
                Ack(ack, send=(item("next-" + queue, queue="next-" + queue),)),
                Dead(dead, "failed"),
                Release(release, 20.0),
                Retry(retry, 20.0),
            ]
            lost: list[Delivery] = []
            settle = partial(_settle, case.broker, batch, lost)
            error = case.breaking(case.broker, fault, settle, skip=skip)
            case.goes_on("L31", case.broker.stats)
            if error is not None:
                settle()

            came = Counter(delivery.id for delivery in _gather(case, watcher, queue))
            letters = {letter.message.id for letter in watcher.dead_letters(queue)}
            followed = bool(_gather(case, watcher, "next-" + queue))

            gone = ack.id not in came
            case.check("L13", gone or ack in lost, "what was acked came")
            case.check("L1", came.keys() >= {release.id, retry.id}, f"of two came only {came}")
            case.check(
                "L1", dead.id in came.keys() | letters, "what died is neither dead nor alive"
            )
            case.check("L16", followed or not gone, "an ack was done without its successor")
            twice = [id for id, times in came.items() if times > 1]
            case.check("L30", not (twice and _nothing_happened(error)), f"came twice: {twice}")
        case.target.crash(case.broker)
        queues = [f"{fault}{skip}" for fault, skip in _breaks(case)]
        for _ in range(2):
            case.same("L13", watcher.reserve(queues, limit=100, lease=30), [], "all is concluded")
            case.advance(41)

    @law("L3", "L30", "L31")
    def test_a_broken_extension_can_be_repeated(self, case: Case) -> None:
        case.breakable()
        watcher = case.other()
        for fault, skip in _breaks(case):
            queue = f"{fault}{skip}"
            case.send(queue, queue=queue)
            held = case.claim(queue, lease=10, broker=case.broker)
            error = case.breaking(
                case.broker, fault, partial(case.broker.extend, held, lease=60), skip=skip
            )
            if error is not None:
                case.goes_on("L31", case.broker.stats)
            lost = case.broker.extend(held, lease=60).lost
            # Which of its connections was cut, a client of a tied lease finds out here.
            case.check("L30", lost == [] or (case.tied and error is not None), f"lost: {lost}")
            case.look(queue, lease=60, broker=watcher)
            case.advance(50)
            case.same("L3", case.claim(queue, broker=watcher), [], "claimed by another")
            if not lost:
                case.settle("L3", *map(Ack, held))

    @law("L23", "L30", "L31")
    def test_broken_heartbeats_lists_and_upkeep_can_be_repeated(self, case: Case) -> None:
        case.breakable()
        broker = case.broker
        case.kill("m")
        for fault, skip in _breaks(case):
            sign = beat("w", "i", done=skip)
            case.breaking(broker, fault, partial(broker.send_heartbeat, sign, ttl=60), skip=skip)
            case.goes_on("L31", partial(broker.send_heartbeat, sign, ttl=60))
            case.same("L23", broker.list_alive_workers(), [sign], "alive")
            for call in (
                broker.poll_schedule,
                broker.recover_expired,
                broker.list_alive_workers,
                partial(broker.dead_letters, "q"),
                partial(broker.expire_dead, older_than=1000),
                partial(broker.purge, "q"),
            ):
                case.breaking(broker, fault, call, skip=skip)
                case.goes_on("L31", call)
            case.same("L30", len(broker.dead_letters("q")), 1, "dead letters")

    @law("L30")
    def test_a_large_purge_that_breaks_half_way_does_not_deny_it(self, case: Case) -> None:
        case.breakable()
        watcher = case.other()
        for skip in range(LARGE_SKIPS):
            case.broker.send([item(f"{skip}-{number}") for number in range(LARGE)])
            error = case.breaking(
                case.broker, Fault.BEFORE, partial(case.broker.purge, "q"), skip=skip
            )
            if _nothing_happened(error):
                found = {line.queue: line for line in watcher.stats()}["q"]
                case.same("L30", found.ready, LARGE, "ready")
            case.goes_on("L31", partial(case.broker.purge, "q"))
            case.same("L30", watcher.stats(), [], "queues")

    @law("L1", "L31")
    def test_one_client_does_not_notice_that_another_is_cut(self, case: Case) -> None:
        case.breakable()
        other = case.other()
        for fault, skip in _breaks(case):
            case.breaking(case.broker, fault, case.broker.stats, skip=skip)
            other.send([item(f"{fault}{skip}")])
            case.same("L31", len(other.reserve(["q"], limit=5, lease=30)), 1, "claimed")

    @law("L1", "L3", "L31")
    def test_a_restart_of_the_server_loses_nothing(self, case: Case) -> None:
        if not case.target.restarts:
            raise NotApplicable("the target cannot restart its server")
        case.kill("dead", law="L1")
        case.send("held", "done", "first", "second")
        case.send("later", delay=40)
        case.send("urgent", priority=9, queue="r")
        held, done = case.claim(limit=2)
        case.settle("L1", Ack(done, record("done")))

        case.target.restart()

        case.goes_on("L31", case.broker.stats)
        case.same(
            "L1", [letter.message.id for letter in case.broker.dead_letters("q")], ["dead"], "dead"
        )
        case.kept("L1", ["done"], record("done"))
        # Leases that are tied to a connection have ended with it.
        lost = case.broker.settle([Ack(held)])
        case.check("L3", not lost or case.tied, f"lost: {lost}")
        case.comes("L1", "first", "second")
        case.same("L1", [d.id for d in case.claim("r")], ["urgent"], "claimed")
        case.stays("L6")
        case.advance(41)
        expected = {"later", "first", "second", *(delivery.id for delivery in lost)}
        case.same("L1", {d.id for d in case.claim()}, expected, "claimed")


def _settle(broker: Broker, batch: list[Settlement], lost: list[Delivery]) -> None:
    lost[:] = broker.settle(batch)


def _gather(case: Case, watcher: Broker, queue: str) -> list[Delivery]:
    """Conclude all that comes of a queue in two minutes; return it.

    What the first client holds it takes back; what has lost its holder is let rest.
    """
    found: list[Delivery] = []
    for _ in range(3):
        got = watcher.reserve([queue], limit=100, lease=30)
        watcher.settle([Ack(delivery) for delivery in got])
        found += got
        case.advance(41)
        case.broker.recover_expired()
    got = watcher.reserve([queue], limit=100, lease=30)
    watcher.settle([Ack(delivery) for delivery in got])
    return found + got


def _told(case: Case, error: BrokerError | None, ids: list[str]) -> tuple[list[str], list[str]]:
    """Return which ids a broken send says to be sent and unsent."""
    if error is None:
        return ids, []
    case.check("L2", isinstance(error, SendError), f"send raises {error!r}, which names no id")
    if not isinstance(error, SendError):
        return [], []
    told = [*error.sent, *error.unsent, *error.unknown]
    case.same("L2", sorted(told), ids, "ids in the error")
    return list(error.sent), list(error.unsent)


def _stand(
    case: Case, watcher: Broker, ids: list[str], *, present: list[str], absent: list[str]
) -> None:
    """Put to the test that some messages came to exist, and others did not."""
    if case.target.capabilities.locate:
        found = Counter(list(watcher.locate(ids)))
    else:
        got = watcher.reserve(["q"], limit=1000, lease=30)
        found = Counter(delivery.id for delivery in got)
        watcher.settle([Ack(delivery) for delivery in got])
    missing = [id for id in present if not found[id]]
    wrong = [id for id in found if id in absent or id not in ids or found[id] > 1]
    case.same("L2", (missing, wrong), ([], []), "sent and missing, unsent and there")


def _settled(case: Case, watcher: Broker, ids: list[str]) -> None:
    """Put to the test that each is where its settlement puts it."""
    if case.target.capabilities.locate:
        found = watcher.locate(ids)
        states = dict(zip(ids[1:], (State.DEAD, State.SCHEDULED, State.SCHEDULED), strict=True))
        case.same("L30", found, states, "states")


class FailingResultsLaws:
    """R9."""

    @law("R9")
    def test_a_broken_store_can_be_repeated(self, case: Case) -> None:
        case.breakable()
        results, reader = case.results(), case.results()
        for fault, skip in _breaks(case):
            records = [record(f"{fault}{skip}-{number}") for number in range(3)]
            ids = [one.id for one in records]
            error = case.breaking(results, fault, partial(results.store, records), skip=skip)
            if _nothing_happened(error):
                case.same("R9", reader.fetch(ids), {}, "fetched")
            case.goes_on("R9", partial(results.store, records))
            case.same("R9", sorted(reader.fetch(ids)), ids, "fetched")

    @law("R9")
    def test_a_large_store_that_breaks_half_way_does_not_deny_it(self, case: Case) -> None:
        case.breakable()
        results, reader = case.results(), case.results()
        for skip in range(LARGE_SKIPS):
            records = [record(f"{skip}-{number}") for number in range(LARGE)]
            ids = [one.id for one in records]
            error = case.breaking(results, Fault.BEFORE, partial(results.store, records), skip=skip)
            if _nothing_happened(error):
                case.same("R9", reader.fetch(ids), {}, "fetched")
            case.goes_on("R9", partial(results.store, records))
            case.same("R9", len(reader.fetch(ids)), LARGE, "fetched")

    @law("R9")
    def test_a_store_goes_on_after_any_broken_call(self, case: Case) -> None:
        case.breakable()
        results = case.results()
        results.store([record("a")])
        for fault, skip in _breaks(case):
            for call in (
                partial(results.fetch, ["a"]),
                partial(results.wait, ["a"], timeout=1),
                partial(results.forget, ["b"]),
                results.expire,
            ):
                case.breaking(results, fault, call, skip=skip)
                case.goes_on("R9", call)
            case.same("R9", list(results.fetch(["a"])), ["a"], "fetched")

    @law("R9")
    def test_results_outlive_a_restart_of_the_server(self, case: Case) -> None:
        if not case.target.restarts:
            raise NotApplicable("the target cannot restart its server")
        results = case.results()
        results.store([record("a")])

        case.target.restart()

        case.goes_on("R9", partial(results.fetch, ["a"]))
        case.same("R9", list(results.fetch(["a"])), ["a"], "fetched")
