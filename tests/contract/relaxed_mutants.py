"""Broken relaxed brokers: each is wrong about connections, and the kit has to notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery, Extension, QueueStats
from taskq.contract.settlement import Retry, Settlement
from taskq.errors import ConnectionFailed, OutcomeUnknown
from taskq.memory.server import Entry
from taskq.testing.mutants import Mutant
from tests.contract.relaxed import RelaxedBroker
from tests.contract.relaxed_client import Broken, Held


class CutComesAtOnce(RelaxedBroker):
    def _lost_by_others(self, fresh: Sequence[Entry]) -> list[Entry]:
        return []


class CutComesAtOnceThoughCounted(RelaxedBroker):
    def _let_rest(self, found: Sequence[Entry], lease: Seconds) -> None:
        self._take_back([held for held in self._held.values() if held.entry in found])


class CutNeverComesBack(RelaxedBroker):
    def cut(self) -> None:
        with self._server.changed:
            self._server.ack(self._consuming, list(self._consuming.values()))
            self._held.clear()


class CutIsDeadAtOnce(RelaxedBroker):
    def _lose(self, entry: Entry, rest: Seconds) -> None:
        if rest:
            entry.losses = entry.message.max_deliveries
        super()._lose(entry, rest)


class CutIsNotCounted(RelaxedBroker):
    def _lose(self, entry: Entry, rest: Seconds) -> None:
        if not rest:
            super()._lose(entry, rest)
            return
        twin = self._server.duplicate(entry)
        twin.returned = True
        self._server.put(twin, self._now() + rest)


class CutJoinsTheTail(RelaxedBroker):
    def _lose(self, entry: Entry, rest: Seconds) -> None:
        super()._lose(entry, rest)
        for other in self._server.messages.values():
            other.returned = other.returned and not other.losses


class RestsForNoTime(RelaxedBroker):
    def _let_rest(self, found: Sequence[Entry], lease: Seconds) -> None:
        super()._let_rest(found, 0.0)


class RestsForHalfALease(RelaxedBroker):
    def _let_rest(self, found: Sequence[Entry], lease: Seconds) -> None:
        super()._let_rest(found, lease / 2)


class RestsWithoutABackoff(RelaxedBroker):
    def _lose(self, entry: Entry, rest: Seconds) -> None:
        twin = self._server.duplicate(entry)
        if not rest or twin.losses + 1 == twin.message.max_deliveries:
            super()._lose(entry, rest)
            return
        twin.losses += 1
        twin.run += 1
        twin.returned = True
        self._server.put(twin, self._now() + rest)


class EndsLeasesOfOthers(RelaxedBroker):
    def _lapsed(self, queues: Sequence[str]) -> list[Held]:
        for client in self._server.clients:
            assert isinstance(client, RelaxedBroker)
            if client is not self:
                for token, held in list(client._held.items()):
                    if held.entry.message.queue in queues and held.until <= self._now():
                        self._held[token] = client._held.pop(token)
                        id = held.entry.message.id
                        self._consuming[id] = client._consuming.pop(id)
        return super()._lapsed(queues)


class RecoversNothingOfItsOwn(RelaxedBroker):
    def recover_expired(self, *, limit: int = 1000) -> int:
        return 0


class TakesNothingBackInAClaim(RelaxedBroker):
    claiming = False

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        self.claiming = True
        try:
            return super().reserve(queues, limit=limit, lease=lease, wait=wait)
        finally:
            self.claiming = False

    def _lapsed(self, queues: Sequence[str]) -> list[Held]:
        return [] if self.claiming else super()._lapsed(queues)


class EndsItsOwnByTimeAlone(RelaxedBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        self._take_back(self._lapsed(list(self._server.queues)))
        return super().settle(settlements)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        self._take_back(self._lapsed(list(self._server.queues)))
        return super().extend(deliveries, lease=lease)


class AcksBeforeTheCopy(RelaxedBroker):
    def _move(self, entries: Sequence[Entry], copies: Sequence[Callable[[], None]]) -> None:
        self._ack(entries)
        self._publish(copies)


class SettlesWhatWasCut(RelaxedBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        super().settle(settlements)
        return []


class ForgetsAcksAfterABreak(RelaxedBroker):
    broken = False

    def _ack(self, entries: Sequence[Entry]) -> None:
        if self.broken:
            for token in [t for t, held in self._held.items() if held.entry in entries]:
                del self._held[token]
            return
        try:
            super()._ack(entries)
        except Broken:
            self.broken = True
            raise


class RetriesTwice(RelaxedBroker):
    def _effects(self, entry: Entry, settlement: Settlement) -> list[Callable[[], None]]:
        effects = super()._effects(entry, settlement)
        return effects * 2 if isinstance(settlement, Retry) else effects


class CopiesMeanNothingHappened(RelaxedBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        try:
            return super().settle(settlements)
        except OutcomeUnknown as error:
            raise ConnectionFailed(str(error)) from error


class StatsForgetTheCut(RelaxedBroker):
    def stats(self) -> list[QueueStats]:
        hidden = {id: self._server.messages[id] for id in self._server.given_back}
        for id in hidden:
            del self._server.messages[id]
        try:
            return super().stats()
        finally:
            self._server.messages.update(hidden)


MUTANTS: Final = (
    Mutant("L3", CutComesAtOnce),
    Mutant("L3", CutComesAtOnceThoughCounted),
    Mutant("L5", CutNeverComesBack),
    Mutant("L5", CutIsDeadAtOnce),
    Mutant("L11", CutIsNotCounted),
    Mutant("L10", CutJoinsTheTail),
    Mutant("L3", RestsForNoTime),
    Mutant("L3", RestsForHalfALease),
    Mutant("L5", RestsWithoutABackoff, examples_only=True),
    Mutant("L5", EndsLeasesOfOthers),
    Mutant("L26", RecoversNothingOfItsOwn),
    Mutant("L5", TakesNothingBackInAClaim),
    Mutant("L3", EndsItsOwnByTimeAlone),
    Mutant("L1", AcksBeforeTheCopy, faulty=True),
    Mutant("L4", SettlesWhatWasCut),
    Mutant("L13", ForgetsAcksAfterABreak, faulty=True),
    Mutant("L11", RetriesTwice),
    Mutant("L30", CopiesMeanNothingHappened, faulty=True),
    Mutant("L21", StatsForgetTheCut, faulty=True),
)
