"""What a backend goes through while its server is restarted, whichever server it is."""

from __future__ import annotations

import pytest
from hypothesis import settings

from taskq.testing.laws.case import run_examples
from taskq.testing.machine import run_faulty_machine
from taskq.testing.record import Ledger
from taskq.testing.runner import BrokerLaws, StoreLaws
from taskq.testing.target import UrlTarget
from tests.servers import Server

FEWEST = 5


class Bouncer:
    """Restarts the server, in an orderly way and not, by turns."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        if self.times % 2:
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()


class Restarts:
    """The laws over restarts. A subclass brings the fixtures `target` and `bouncer`."""

    sequences: settings
    fewest = FEWEST
    """So many restarts there have to be in the sequences, at least."""

    @pytest.mark.parametrize("laws", [BrokerLaws(), StoreLaws()], ids=["broker", "results"])
    def test_the_examples_hold_over_restarts(
        self, target: UrlTarget, bouncer: Bouncer, laws: object
    ) -> None:
        ledger = Ledger(target.given.scheme)

        assert run_examples(laws, target, ledger, only=["L31", "R9"]) == {}
        assert bouncer.times
        assert ledger.times("L31") + ledger.times("R9") > FEWEST

    def test_random_sequences_keep_the_laws_over_restarts(
        self, target: UrlTarget, bouncer: Bouncer
    ) -> None:
        before = bouncer.times

        run_faulty_machine(target, Ledger(target.given.scheme), self.sequences)

        assert bouncer.times >= before + self.fewest
