"""What a runner tells that is not ours: of a task it has done, or of a turn in somebody's session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from locum.policy.board import Board, Event, EventKind
from locum.policy.chain import bump, succeeded
from locum.policy.failure import Failure, FailureKind
from locum.policy.gate import Place
from locum.policy.plan import Plan
from locum.policy.usage import Payer, Tokens, Usage

_NO_MORE_RETRIES = 1 << 16  # whoever tells of a failure has given up: nobody is there to try again in place


@dataclass(frozen=True, slots=True)
class Report:
    """One piece of work that has ended. `id` is its own, unique within `agent`; told again, it changes nothing.

    `place` None: it is not known whose tier it used. `tokens` None: what it used is not known. `usages` are those that
    are still to be counted. `cost_micros` is what the runner says it has cost, in millionths of a US dollar.
    """

    agent: str
    id: str
    place: Place | None
    tokens: Tokens | None = None
    usages: Sequence[Usage] = ()
    failure: Failure | None = None
    session: str | None = None
    model: str | None = None
    provider: str | None = None
    cost_micros: int | None = None
    in_person: bool = False
    """Whether a person's own session tells of itself: the model that it asks for is the person's choice."""

    @property
    def task(self) -> str:
        """What it is called where tasks are named: all turns of a session are one piece of work."""
        return f"{self.agent}:{self.session or self.id}"

    @property
    def payer(self) -> Payer:
        """Whose usage it is what this work has spent."""
        return payer_of(self.agent, self.place, self.session, self.model)


def payer_of(agent: str, place: Place | None, session: str | None, model: str | None = None) -> Payer:
    """Who pays for a session of `agent` at that place."""
    if place is None:
        return Payer(agent, model=model, session=session)
    tier = place.tier
    return Payer(agent, place.chain.name, tier.name, tier.account, model or tier.model, session)


def outcome(board: Board, plan: Plan, report: Report, now_ms: int, jitter: float) -> tuple[Event, ...]:
    """What the end of this work means for its chain; for work of nobody's tier, nothing."""
    if report.place is None:
        return ()
    chain, tier = report.place.chain, report.place.tier
    if report.failure is None:
        return (succeeded(chain, tier, report.task, now_ms),)
    if report.in_person and report.failure.kind is FailureKind.MODEL_UNAVAILABLE:
        failed = (report.task, report.failure.kind, report.failure.evidence)
        return (Event(EventKind.FAILED, chain.name, now_ms, tier.name, *failed),)  # a slip of theirs, not the tier's
    retries = _NO_MORE_RETRIES
    step = bump(board, plan, chain, tier, report.failure, now_ms, task=report.task, retries=retries, jitter=jitter)
    return step.events
