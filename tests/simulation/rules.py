"""The rules of the simulation: what no worker may do, whatever goes wrong around it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

Rule: TypeAlias = Literal[
    # Claims
    "a stopping worker claims nothing",
    "no more is held than allowed",
    "one message with a loss is held, for a free slot",
    "what was lost before is started at once, or given back",
    "what does not start is given back",
    # Runs
    "nothing starts without a lease",
    "what has expired is not run",
    "a task is told before its lease ends",
    "no task is told of a loss without one",
    "what a task sent exists",
    # Leases
    "a lease is lost for a reason only",
    "a lost lease is extended no more",
    # Conclusions
    "nothing is concluded before it has run",
    "it is concluded as it ran",
    "a dead letter says why",
    "a retry waits as its task says",
    "the result is stored with its conclusion",
    "only a worker that ends gives back what runs, and tells it",
    # Workers
    "what dies of a bug is named, and nothing else dies",
    "a worker that lives is listed",
    "a worker that stops holds nothing back",
    "a worker that ended holds nothing",
    "a worker that ended leaves no lease",
    "a worker that ended is not listed",
    # Senders
    "sent is sent",
    "unsent is not sent",
    # Tasks, from their beginning to their end
    "what has ended is not accepted again",
    "a task ends once",
    "all that is due is done",
    "no task is lost",
    "a dead letter is kept",
    "the result is that of the run that counted",
    "nothing is left",
]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


class RuleBroken(AssertionError):
    """A worker broke a rule."""

    def __init__(self, rule: Rule, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule
