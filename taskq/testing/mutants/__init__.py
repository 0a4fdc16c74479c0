"""Broken in-memory brokers: each breaks one law, and the kit has to notice.

A law without a mutant is a law nobody knows to be tested. Each mutant changes
one private step of `taskq.memory`; add one with every law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskq.testing.mutants import claiming, failing, operating, results, settling, unnoticed


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong, and the law it breaks."""

    law: str
    broken: type
    examples_only: bool = False
    """Random sequences do not find it in a few seconds, or never do."""

    faulty: bool = False
    """It goes wrong only where connections break or the server is restarted."""

    @property
    def name(self) -> str:
        return self.broken.__name__


MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant("L1", claiming.LosesEverySeventh),
    Mutant("L1", failing.RestartForgetsTheReady, faulty=True),
    Mutant("L2", claiming.MisnamesWhatWasSent, examples_only=True),
    Mutant("L2", failing.CallsTheUnknownUnsent, faulty=True),
    Mutant("L2", failing.CallsTheUnsentSent, faulty=True),
    Mutant("L2", failing.BrokenSendNamesNobody, faulty=True),
    Mutant("L3", claiming.LeasesTooShort),
    Mutant("L3", failing.RestartEndsLeases, faulty=True),
    Mutant("L4", settling.IgnoresTokens),
    Mutant("L4", settling.AcksById),
    Mutant("L4", claiming.TokenReused),
    Mutant("L4", settling.ExtendRevivesLostLeases, examples_only=True),
    Mutant("L4", settling.ResultThoughLost),
    Mutant("L4", settling.SuccessorsThoughLost),
    Mutant("L5", claiming.DestructiveRead),
    Mutant("L5", claiming.LooksAtOneLostMessage),
    Mutant("L5", settling.NoBackoff, examples_only=True),
    Mutant("L5", settling.BackoffAtOnce),
    Mutant("L5", unnoticed.LooksInAllQueues),
    Mutant("L6", claiming.PromotesEarly),
    Mutant("L7", claiming.NeverPromotesInAClaim),
    Mutant("L7", settling.DelayedRetryIsDropped),
    Mutant("L8", claiming.LeastUrgentFirst),
    Mutant("L8", claiming.QueuesReversed),
    Mutant("L8", claiming.PromotesAfterTheClaim),
    Mutant("L9", claiming.NewestFirst),
    Mutant("L9", claiming.LastInFirstOut),
    Mutant("L10", settling.ReclaimsToTheTail),
    Mutant("L10", settling.ReleaseToTheTail, examples_only=True),
    Mutant("L10", settling.RetryToTheHead, examples_only=True),
    Mutant("L10", unnoticed.PromotesInTheOrderSent, examples_only=True),
    Mutant("L11", settling.RetryNotCounted),
    Mutant("L11", settling.RetryKeepsItsRun),
    Mutant("L11", settling.LossNotCounted),
    Mutant("L11", settling.LossesCountReleases),
    Mutant("L12", settling.OneDeliveryTooMany),
    Mutant("L12", settling.OneDeliveryTooFew),
    Mutant("L13", settling.AckLeavesTheMessage),
    Mutant("L13", operating.PurgedComeBack),
    Mutant("L14", claiming.LowersPriorities),
    Mutant("L14", settling.RetryKeepsItsEnvelope),
    Mutant("L14", settling.RetryEmptiesTheEnvelope),
    Mutant("L15", claiming.ResendOverwrites),
    Mutant("L15", claiming.ResendAfterResult, examples_only=True),
    Mutant("L16", settling.SuccessorsForgotten),
    Mutant("L16", unnoticed.SuccessorsBeforeTheirAck, examples_only=True),
    Mutant("L17", unnoticed.SuccessorsRepeatTheirBatch),
    Mutant("L17", settling.SecondSettlementHolds),
    Mutant("L17", settling.OneLostLosesAll),
    Mutant("L18", claiming.IgnoresTimeLimits),
    Mutant("L18", claiming.DropsTheExpired),
    Mutant("L18", claiming.NeverSaysExpired),
    Mutant("L19", operating.NewestDeadFirst),
    Mutant("L19", operating.ListsAllTheDead),
    Mutant("L19", operating.ListsTheSamePage, examples_only=True),
    Mutant("L19", operating.RequeueDoesNothing),
    Mutant("L19", operating.RequeueKeepsCounters, examples_only=True),
    Mutant("L18", operating.RequeueForgetsTheExpiry, examples_only=True),
    Mutant("L19", operating.RequeueKeepsResults, examples_only=True),
    Mutant("L20", operating.PurgeTakesTheLeased),
    Mutant("L20", operating.PurgeIgnoresStates),
    Mutant("L21", operating.StatsForgetTheLeased),
    Mutant("L22", operating.LocateInvents),
    Mutant("L23", operating.WorkersLiveForEver, examples_only=True),
    Mutant("L24", claiming.InterruptIsNotSticky),
    Mutant("L24", claiming.InterruptStopsSettling, examples_only=True),
    Mutant("L25", operating.WorksAfterClose),
    Mutant("L25", unnoticed.NothingCanBeSentAfterClose, examples_only=True),
    Mutant("L26", operating.PollsOneQueue),
    Mutant("L26", operating.RecoversNothing),
    Mutant("L27", operating.LeavesACounter),
    Mutant("L28", claiming.NeverWakes, examples_only=True),
    Mutant("L28", unnoticed.WakesOneForABatch, examples_only=True),
    Mutant("L28", unnoticed.WaitsByWorking, examples_only=True),
    Mutant("L29", operating.DropsAllTheDead),
    Mutant("L29", operating.DropsMoreThanItsLimit, examples_only=True),
    Mutant("L29", operating.DropsMoreThanItTells, examples_only=True),
    Mutant("L30", failing.LostAnswerMeansNothingHappened, faulty=True),
    Mutant("L30", failing.LostClaimMeansNothingHappened, faulty=True),
    Mutant("L30", failing.HalfARetryIsCounted, faulty=True),
    Mutant("L30", failing.ExtendsNothingWhenRepeated, faulty=True),
    Mutant("L31", failing.NeverConnectsAgain, faulty=True),
    Mutant("L31", failing.FailsThreeTimes, faulty=True),
    Mutant("R1", results.ReadOnce),
    Mutant("R2", results.LowerRunOverwrites),
    Mutant("R2", unnoticed.LastRunOfABatchWins, examples_only=True),
    Mutant("R3", results.ResultsLiveForEver),
    Mutant("R3", results.ExpireCountsWhatItKeeps),
    Mutant("R3", unnoticed.IgnoresResultsWithoutTtl, examples_only=True),
    Mutant("R4", results.WaitNeverWakes, examples_only=True),
    Mutant("R4", results.WaitReturnsRetries, examples_only=True),
    Mutant("R5", results.ForgetsNothing, examples_only=True),
    Mutant("R6", results.FetchesOne),
    Mutant("R7", results.ResultsWorkAfterClose, examples_only=True),
    Mutant("R8", results.TruncatesPayloads),
    Mutant("R9", failing.LostStoreMeansNothingHappened, faulty=True),
    Mutant("R9", failing.ResultsNeverConnectAgain, faulty=True),
    Mutant("R9", failing.RestartForgetsResults, faulty=True),
)
