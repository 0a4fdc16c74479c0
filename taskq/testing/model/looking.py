"""The checks of what an inspector shows: states, counts, dead letters.

What is seen also tells what nobody could know before, and is taken in: whether
a lost message was reclaimed, whether a call whose answer was lost was carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from taskq.contract.delivery import DeadLetter, QueueStats, State
from taskq.testing.model.entry import Entry, Span, Where
from taskq.testing.model.spec import Spec
from taskq.testing.record import Ledger


def check_located(spec: Spec, ids: Collection[str], found: dict[str, State], now: Span) -> None:
    """Compare the states of messages with those there can be. Law: L22."""
    check = spec.ledger.check
    for id in ids:
        state, entry = found.get(id), spec.entries.get(id)
        if entry is None:
            check("L22", state is None, f"{id} does not exist, but is {state}")
        elif id not in spec.copies:
            spec.narrow(id, partial(_locate, state, now))
    check("L22", set(found) <= set(ids), "locate returned ids nobody asked for")


def _locate(state: State | None, now: Span, entry: Entry, ledger: Ledger) -> None:
    """Compare the state of a message with those it can be in."""
    allowed = entry.states(now)
    if not allowed:
        ledger.check("L22", state is None, f"{entry.id} does not exist, but is {state}")
    elif state is None:
        what = f"{entry.id} is missing; it ought to be {_names(allowed)}"
        ledger.check("L22", not entry.sure, what)
        entry.where = Where.GONE
    else:
        ledger.check("L22", state in allowed, f"{entry.id} is {state}, not {_names(allowed)}")
        _seen(entry, state, now)


def _names(states: frozenset[State]) -> str:
    return " or ".join(sorted(states))


def _seen(entry: Entry, state: State, now: Span) -> None:
    """Take in what the state of a message gives away."""
    entry.sure = True
    if entry.ghost is not None:
        if state in {State.PROCESSING, State.DEAD}:
            entry.unmask(real=True)
        elif entry.ghost.pending(now):
            entry.unmask(real=False)
    if entry.lapsed(now) and state is not State.PROCESSING:
        entry.reclaim(now)


def check_counted(spec: Spec, stats: Sequence[QueueStats], now: Span) -> None:
    """Compare the counts of all queues with those there can be. Law: L21."""
    names = [line.queue for line in stats]
    spec.ledger.check("L21", names == sorted(set(names)), f"queues are not sorted: {names}")
    lines = {line.queue: line for line in stats}
    for queue in {entry.message.queue for entry in spec.entries.values()} | set(names):
        _check_line(spec, lines.get(queue) or QueueStats(queue, 0, 0, 0, 0), now)


def _check_line(spec: Spec, line: QueueStats, now: Span) -> None:
    blurred = sum(spec.copies[e.id].most for e in spec.of([line.queue]) if e.id in spec.copies)
    every = [spec.ways(e.id) for e in spec.of([line.queue]) if e.id not in spec.copies]
    allowed = [_allowed(ways, now) for ways in every]
    for state in State:
        found: int = getattr(line, state.value)
        least = sum(states == {state} and sure for states, sure in allowed)
        most = sum(state in states for states, _ in allowed) + blurred
        spec.ledger.check(
            "L21",
            least <= found <= most,
            f"{line.queue} has {found} {state}, not {least} to {most}",
        )
    total = line.ready + line.scheduled + line.processing + line.dead
    least = sum(bool(states) and sure for states, sure in allowed)
    most = sum(bool(states) for states, _ in allowed) + blurred
    what = f"{line.queue} has {total}, not {least} to {most}"
    spec.ledger.check("L21", least <= total <= most, what)


def _allowed(ways: Sequence[Entry], now: Span) -> tuple[frozenset[State], bool]:
    """Return in which states a message may be counted, and whether it is in one of them."""
    each = [way.states(now) for way in ways]
    sure = all(states and way.sure for states, way in zip(each, ways, strict=True))
    return frozenset().union(*each), sure


def check_letters(spec: Spec, queue: str, letters: Sequence[DeadLetter], now: Span) -> None:
    """Compare the whole list of a queue's dead letters with what it ought to be.

    Laws: L11 to L14, L19.
    """
    check = spec.ledger.check
    by_id: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        by_id.setdefault(letter.message.id, []).append(letter)
    died = [letter.died for letter in letters]
    check("L19", died == sorted(died), f"dead letters of {queue} are not in order")
    known = {entry.id for entry in spec.of([queue])}
    for id, found in by_id.items():
        check("L19", id in known, f"{id} was never sent to {queue}")
        check("L19", len(found) == 1 or id in spec.copies, f"{id} of {queue} is listed twice")
    for entry in spec.of([queue]):
        listed = by_id.get(entry.id, [])
        if entry.id in spec.copies:
            spec.copies[entry.id].seen_dead(listed, spec.ledger)
        else:
            spec.narrow(entry.id, partial(_list, listed, now))


def _list(listed: Sequence[DeadLetter], now: Span, entry: Entry, ledger: Ledger) -> None:
    """Compare a message with what is listed of it among the dead letters."""
    states = entry.states(now)
    if listed:
        law = "L13" if entry.where is Where.GONE else "L19"
        ledger.check(law, State.DEAD in states, f"{entry.id} is listed as dead")
        _seen(entry, State.DEAD, now)
        _check_letter(entry, listed[0], ledger)
    elif states == {State.DEAD} and not entry.sure:
        entry.where = Where.GONE
    elif states == {State.DEAD}:
        law = "L12" if entry.code == "worker_lost" else "L19"
        ledger.check(law, False, f"{entry.id} is not among the dead letters")


def _check_letter(entry: Entry, letter: DeadLetter, ledger: Ledger) -> None:
    check = ledger.check
    if entry.code == "worker_lost":
        check("L12", letter.code == entry.code, f"{entry.id}: code {letter.code}")
    check(
        "L19",
        letter.code == entry.code and letter.detail == (entry.detail or letter.detail),
        f"{entry.id} died of {letter.code}: {letter.detail}, not of {entry.code}",
    )
    counters = (letter.retries, letter.losses, letter.releases, letter.run)
    check("L11", counters == entry.counters, f"{entry.id}: {letter}")
    check("L14", letter.message == entry.message, f"{entry.id}: {letter.message}")
    check("L19", entry.died.holds(letter.died), f"{entry.id}: died {letter.died}")
