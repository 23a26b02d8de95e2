"""Small worlds to try the chain in: its configurations, its states and all that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from locum.policy.board import Board, ChainState, Hold
from locum.policy.chain import (
    is_exhausted,
)
from locum.policy.failure import DEFAULT_TRIGGERS, HOUR, MINUTE, SECOND, Failure, FailureKind
from locum.policy.plan import (
    Brake,
    Budget,
    Chain,
    Plan,
    Target,
    Tier,
    account_target,
    model_target,
    rung_target,
    tier_target,
)
from locum.policy.window import Lifetime

NOW = 1_800_000_000_000
K = FailureKind
ALL = (
    Tier("t1", "claude-code", "max", "opus", guard="g1"),
    Tier("t2", "claude-code", "max", "sonnet", guard="g2"),
    Tier("t3", "codex", "chatgpt", guard="g3"),
    Tier("t4", "command", "house", guard="g4"),
)
SPARE = Tier("spare", "gemini", "google", guard="g5")


def world(count: int = 4, triggers: frozenset[FailureKind] = DEFAULT_TRIGGERS) -> Plan:
    """Chain `a` of that many tiers, and chain `b`, which lists a's first tier, another of its account, and its own."""
    cousin = Tier("cousin", "claude-code", "max", "opus")
    chains = (Chain("a", ALL[:count], triggers), Chain("b", (ALL[0], cousin, SPARE)))
    return Plan({chain.name: chain for chain in chains})


def budget_of(brake: Brake, owner: str = "a") -> Budget:
    """A budget of that brake."""
    return Budget(brake, owner, 100, Lifetime())


def placed(target: Target, kind: FailureKind, tier: Tier, until_ms: int | None) -> Hold:
    """A hold that somebody placed on `target` a minute ago."""
    return Hold(target, kind, NOW - MINUTE, until_ms, "before", "a", tier.name, 1, tier.guard)


def representative(tier: Tier, which: int) -> Hold:
    """One of six ways in which `tier` is held: each sort of target, each sort of end, one that has just run out."""
    model = model_target(tier.account, tier.model) if tier.model else tier_target(tier.name)
    return [
        placed(account_target(tier.account), K.AUTH_ERROR, tier, NOW + HOUR),
        placed(tier_target(tier.name), K.OPERATOR, tier, None),
        placed(model, K.USAGE_LIMIT, tier, NOW + 5 * SECOND),
        placed(rung_target("a", tier.name), K.TOKEN_BUDGET, tier, NOW + 24 * HOUR),
        placed(tier_target(tier.name), K.CRASH, tier, NOW + 1),
        placed(tier_target(tier.name), K.RATE_LIMIT, tier, NOW),
    ][which % 6]


def states(plan: Plan, failing: Tier) -> Iterator[Board]:
    """Every subset of held tiers, with holds of each sort, times what is remembered of the failing tier."""
    tiers = plan.chains["a"].tiers
    target = account_target(failing.account)
    memories = (
        Board(),
        Board(doubtful=frozenset(plan.chains["a"].targets(failing)), soft={failing.name: "task"}),
        Board(soft={failing.name: "another"}, strikes={(target, K.AUTH_ERROR): 3, (target, K.USAGE_LIMIT): 2}),
    )
    for held, turn, memory in product(product((False, True), repeat=len(tiers)), range(6), memories):
        if turn and not any(held):
            continue
        holds = [representative(tier, turn + place) for place, tier in enumerate(tiers) if held[place]]
        board = replace(memory, holds={hold.key: hold for hold in holds})
        full = [chain.name for chain in plan.chains.values() if is_exhausted(board, chain, NOW)]
        yield replace(board, chains={name: ChainState(exhausted=True) for name in full})


def failures() -> Iterator[tuple[Failure, int, Budget | None]]:
    """Every kind; and, where they matter, every sort of reset, model, retry and budget."""
    for kind in FailureKind:
        yield Failure(kind), 0, None
    for kind, reset in product((K.AUTH_ERROR, K.USAGE_LIMIT, K.RATE_LIMIT), (-HOUR, 60 * SECOND, 2 * HOUR, 900 * HOUR)):
        yield Failure(kind, reset_ms=NOW + reset), 0, None
    for kind, retries in product((K.OVERLOADED, K.SERVER_ERROR, K.NETWORK), (1, 2)):
        yield Failure(kind), retries, None
    yield Failure(K.RATE_LIMIT, reset_ms=NOW + SECOND), 1, None
    yield Failure(K.USAGE_LIMIT, model="claude-opus-4"), 0, None
    yield Failure(K.UNKNOWN, lost_session=True), 0, None
    yield Failure(K.OPERATOR, reset_ms=NOW + HOUR), 0, None
    for brake in Brake:
        yield Failure(K.TOKEN_BUDGET, reset_ms=NOW + 12 * HOUR), 0, budget_of(brake)


FAILURES = tuple(failures())
