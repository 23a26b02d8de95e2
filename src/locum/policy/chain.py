"""Which tier runs next, and the one way off a tier: `bump`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from locum.policy.board import Board, Event, EventKind, Hold, HoldKey, apply, fold
from locum.policy.failure import ANSWERS, Answer, Breadth, Failure, FailureKind, backoff_ms, hold_until_ms
from locum.policy.plan import (
    Brake,
    Budget,
    Chain,
    Plan,
    Target,
    Tier,
    account_target,
    chain_target,
    model_target,
    rung_target,
    tier_target,
)

JITTER_MS = 30_000
"""The longest random delay after a vendor's reset, so that not everybody comes back in the same second."""


CLOCK_STEP_MS = 60_000
"""How far in the future a hold may begin before the clock that placed it is no longer believed."""


class TierState(StrEnum):
    """How a tier stands in its chain."""

    READY = "ready"
    ACTIVE = "active"  # what `pick` would choose
    HELD = "held"
    PROBATION = "probation"


class Next(StrEnum):
    """What becomes of the task whose attempt failed."""

    RETRY = "retry"  # on the same tier, after `wait_ms`
    MOVE = "move"  # on whatever tier is picked next
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Step:
    """The answer to a failure: what is written to the log, and how the task goes on."""

    events: tuple[Event, ...]
    next: Next
    wait_ms: int = 0


def holds_on(board: Board, chain: Chain, tier: Tier, now_ms: int) -> tuple[Hold, ...]:
    """Every hold that keeps `tier` from being picked in `chain`, the latest to end last."""
    return tuple(sorted(_active(board, chain.targets(tier), now_ms), key=_ends))


def on_probation(board: Board, chain: Chain, tier: Tier, now_ms: int) -> bool:
    """Whether `tier` has come back from a hold that it has not yet disproved."""
    return bool(_doubts(board, chain, tier, now_ms))


def pick(
    board: Board, chain: Chain, now_ms: int, *, busy: Collection[Target] = (), avoid: Collection[str] = ()
) -> Tier | None:
    """The first tier of `chain` that may run a task now, None when there is none.

    `busy` are the targets of all tiers with a run in progress: a tier on probation takes one run at a time.
    `avoid` names tiers this task shall not try again.
    """
    for tier, targets in chain.rungs:
        if tier.name in avoid or _active(board, targets, now_ms):
            continue
        if busy and not _doubts(board, chain, tier, now_ms).isdisjoint(busy):
            continue
        return tier
    return None


def state_of(board: Board, chain: Chain, tier: Tier, now_ms: int, busy: Collection[Target] = ()) -> TierState:
    """How `tier` stands in `chain` at this moment."""
    if holds_on(board, chain, tier, now_ms):
        return TierState.HELD
    if on_probation(board, chain, tier, now_ms):
        return TierState.PROBATION
    return TierState.ACTIVE if pick(board, chain, now_ms, busy=busy) == tier else TierState.READY


def is_exhausted(board: Board, chain: Chain, now_ms: int) -> bool:
    """Whether every tier of `chain` is held."""
    return all(_active(board, targets, now_ms) for _, targets in chain.rungs)


def free_at_ms(board: Board, chain: Chain, now_ms: int, avoid: Collection[str] = ()) -> int | None:
    """The earliest moment at which some tier has no hold left; None when only a release can free one."""
    ends = []
    for tier in chain.tiers:
        if tier.name in avoid:
            continue
        holds = holds_on(board, chain, tier, now_ms)
        if not holds:
            return now_ms
        if holds[-1].until_ms is not None:
            ends.append(holds[-1].until_ms)
    return min(ends, default=None)


def bump(
    board: Board,
    plan: Plan,
    chain: Chain,
    tier: Tier,
    failure: Failure,
    now_ms: int,
    *,
    task: str | None = None,
    retries: int = 0,
    jitter: float = 0.0,
    budget: Budget | None = None,
) -> Step:
    """Answer a failure of `tier`: the only way a chain is taken off a tier, whatever the cause.

    `retries` is how often this task has already been retried in place on this tier; `jitter` a random number
    in [0, 1); `budget` the budget that was reached, for `token_budget`. The hold is placed on what failed and
    on nothing else, so that a late failure never costs another tier anything.
    """
    if failure.lost_session:
        return Step((), Next.RETRY)
    answer = ANSWERS[failure.kind]
    failed = Event(EventKind.FAILED, chain.name, now_ms, tier.name, task, failure.kind, failure.evidence)
    if answer.breadth is Breadth.NOTHING or not (chain.acts_on(failure.kind) or budget):
        return Step((failed,), Next.FAIL)
    if not holds_on(board, chain, tier, now_ms):
        wait_ms = _wait_in_place_ms(answer, failure, retries, now_ms, jitter)
        if wait_ms is not None:
            return Step((failed,), Next.RETRY, wait_ms)
    if answer.soft and task is not None and board.soft.get(tier.name) in (None, task):
        return Step((failed,), Next.MOVE)
    hold = _hold(board, chain, _as_now(plan, tier), failure, now_ms, jitter, budget)
    return Step(_placed(board, plan, chain, failed, hold), Next.MOVE)


def settle(board: Board, plan: Plan, now_ms: int) -> tuple[Event, ...]:
    """What the clock, a new login or a changed tier has ended since: `returned` and `released` events.

    A hold from the future was placed by a clock that was wrong: it keeps its length, counted from now.
    """
    early = [hold for hold in board.holds.values() if hold.since_ms > now_ms + CLOCK_STEP_MS]
    events = [
        Event(
            EventKind.EXTENDED,
            hold.chain,
            now_ms,
            hold.tier,
            reason="the clock was set back",
            hold=_moved(hold, now_ms),
        )
        for hold in early
    ]
    board = fold(board, events)
    for hold in sorted(board.holds.values(), key=_ends):
        tier = plan.tiers.get(hold.tier)
        if not hold.active(now_ms):
            kind, reason = EventKind.RETURNED, f"the {hold.kind} hold has ended"
        elif tier is not None and ANSWERS[hold.kind].guarded and tier.guard != hold.guard:
            kind, reason = EventKind.RELEASED, "its login or configuration has changed"
        else:
            continue
        ended = _ended(board, plan, hold, kind, reason, now_ms)
        events.extend(ended)
        board = fold(board, ended)
    return tuple(events)


def release(
    board: Board,
    plan: Plan,
    chain: Chain,
    now_ms: int,
    *,
    tier: Tier | None = None,
    kind: FailureKind | None = None,
    reason: str = "released by the operator",
) -> tuple[Event, ...]:
    """Lift holds of one tier, or of all tiers of `chain`: every kind, or only `kind`."""
    tiers = (tier,) if tier else chain.tiers
    keys: dict[HoldKey, Hold] = {}
    for each in tiers:
        for hold in holds_on(board, chain, each, now_ms):
            if kind in (None, hold.kind):
                keys[hold.key] = hold
    return lift(board, plan, keys.values(), now_ms, reason)


def lift(board: Board, plan: Plan, holds: Iterable[Hold], now_ms: int, reason: str) -> tuple[Event, ...]:
    """End exactly these holds before their time."""
    events: list[Event] = []
    for hold in holds:
        ended = _ended(board, plan, hold, EventKind.RELEASED, reason, now_ms)
        events.extend(ended)
        board = fold(board, ended)
    return tuple(events)


def succeeded(chain: Chain, tier: Tier, task: str, now_ms: int) -> Event:
    """A task was done on `tier`: it vouches for its tier, account and model."""
    return Event(EventKind.SUCCEEDED, chain.name, now_ms, tier.name, task, targets=chain.targets(tier))


def extended(hold: Hold, chain: Chain, now_ms: int, reason: str) -> Event:
    """A hold whose end was computed anew; `hold` is the new one."""
    return Event(EventKind.EXTENDED, chain.name, now_ms, hold.tier, reason=reason, hold=hold)


def _moved(hold: Hold, now_ms: int) -> Hold:
    until_ms = None if hold.until_ms is None else hold.until_ms - hold.since_ms + now_ms
    return replace(hold, since_ms=now_ms, until_ms=until_ms)


def _active(board: Board, targets: tuple[Target, ...], now_ms: int) -> list[Hold]:
    """The holds on any of `targets` that keep a tier from being picked."""
    placed = board.holds_by_target
    if placed.keys().isdisjoint(targets):  # nearly always: one bump may look at every chain there is
        return []
    return [hold for target in targets for hold in placed.get(target, ()) if hold.active(now_ms)]


def _ends(hold: Hold) -> tuple[bool, int]:
    return (hold.until_ms is None, hold.until_ms or 0)


def _doubts(board: Board, chain: Chain, tier: Tier, now_ms: int) -> set[Target]:
    """The targets of `tier` that are on probation."""
    if not board.doubtful and not board.holds:
        return set()
    placed = board.holds_by_target
    return {
        target
        for target in chain.targets(tier)
        if target in board.doubtful
        # A hold that ran out but whose return is not written yet: the clock was faster than the log.
        or any(ANSWERS[hold.kind].probation and not hold.active(now_ms) for hold in placed.get(target, ()))
    }


def _wait_in_place_ms(answer: Answer, failure: Failure, retries: int, now_ms: int, jitter: float) -> int | None:
    """How long to wait before the same tier is tried again, None when it shall not be."""
    if answer.wait_in_place_ms:
        if retries or failure.reset_ms is None:
            return None
        asked_ms = max(0, failure.reset_ms - now_ms)
        return asked_ms if asked_ms <= answer.wait_in_place_ms else None
    if retries >= answer.retries:
        return None
    wait_ms = backoff_ms(answer.retry_base_ms, answer.cap_ms, retries + 1)
    return wait_ms + int(wait_ms * jitter / 2)


def _target(chain: Chain, tier: Tier, failure: Failure, budget: Budget | None) -> Target:
    if budget is not None:
        match budget.brake:
            case Brake.CHAIN:
                return rung_target(chain.name, tier.name)
            case Brake.TIER:
                return tier_target(tier.name)
            case Brake.HALT:
                return chain_target(chain.name)
    match ANSWERS[failure.kind].breadth:
        case Breadth.ACCOUNT:
            return account_target(tier.account)
        case Breadth.ACCOUNT_OR_MODEL if failure.model is None:
            return account_target(tier.account)
        case Breadth.ACCOUNT_OR_MODEL if tier.model:
            return model_target(tier.account, tier.model)
        case _:
            return tier_target(tier.name)


def _jitter_ms(failure: Failure, now_ms: int, jitter: float) -> int:
    """A tenth of the wait at most: half a minute after five hours is nothing, after five seconds it would be."""
    wait_ms = max(0, (failure.reset_ms or now_ms) - now_ms)
    return int(min(JITTER_MS, wait_ms / 10) * jitter)


def _as_now(plan: Plan, tier: Tier) -> Tier:
    """`tier` with the guard its login has by now: an agent that renewed its own token has not changed its login."""
    now = plan.tiers.get(tier.name)
    return replace(tier, guard=now.guard) if now else tier


def _hold(
    board: Board, chain: Chain, tier: Tier, failure: Failure, now_ms: int, jitter: float, budget: Budget | None
) -> Hold:
    """The hold for `failure`. One that is in force already is kept at least as long, and does not double."""
    target = _target(chain, tier, failure, budget)
    key = (target, failure.kind)
    before = board.holds.get(key)
    in_force = before is not None and before.active(now_ms)
    strikes = max(1, board.strikes.get(key, 0) + (not in_force))
    until_ms = hold_until_ms(failure, strikes, now_ms, _jitter_ms(failure, now_ms, jitter))
    since_ms = now_ms
    if before is not None and in_force:
        since_ms = before.since_ms
        if failure.kind not in (FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET):
            until_ms = None if None in (before.until_ms, until_ms) else max(before.until_ms or 0, until_ms or 0)
    return Hold(
        target=target,
        kind=failure.kind,
        since_ms=since_ms,
        until_ms=until_ms,
        reason=failure.evidence,
        chain=chain.name,
        tier=tier.name,
        strikes=strikes,
        guard=tier.guard,
        budget=budget.id if budget else None,
    )


def _placed(board: Board, plan: Plan, chain: Chain, failed: Event, hold: Hold) -> tuple[Event, ...]:
    """The events of a hold: in the chain where it began, and in each chain that it takes off its active tier."""
    now_ms = failed.at_ms
    before = board.holds.get(hold.key)
    kind = EventKind.EXTENDED if before is not None and before.active(now_ms) else EventKind.BUMPED
    after = apply(board, Event(kind, chain.name, now_ms, hold.tier, failed.task, hold.kind, hold.reason, hold))
    held, held_now = _held_targets(board, now_ms), _held_targets(after, now_ms)
    events = []
    own = plan.chains.get(chain.name, chain)  # the run may have started before this chain was edited
    for other in {own.name: own, **{each.name: each for each in plan.chains_under(hold.target)}}.values():
        was, active = _first_free(other, held), _first_free(other, held_now)
        is_own = other is own
        tier = hold.tier if is_own else was.name if was else None
        if is_own or was is not active:
            name = active.name if active else None
            events.append(Event(kind, other.name, now_ms, tier, failed.task, hold.kind, hold.reason, hold, (), name))
        if active is None and (was is not None or not board.chain(other.name).exhausted):
            events.append(Event(EventKind.EXHAUSTED, other.name, now_ms, tier, reason=hold.reason))
    return tuple(events)


def _held_targets(board: Board, now_ms: int) -> frozenset[Target]:
    return frozenset(hold.target for hold in board.holds.values() if hold.active(now_ms))


def _first_free(chain: Chain, held: frozenset[Target]) -> Tier | None:
    """What `pick` finds for a chain at rest: the first tier that nothing holds. One hold may ask it of every chain."""
    for tier, targets in chain.rungs:
        if held.isdisjoint(targets):
            return tier
    return None


def _ended(board: Board, plan: Plan, hold: Hold, kind: EventKind, reason: str, now_ms: int) -> tuple[Event, ...]:
    """The events of a hold's end: one in every chain it covered, or where it began if it covers none now."""
    held = _held_targets(apply(board, Event(kind, hold.chain, now_ms, hold.tier, hold=hold)), now_ms)
    events = []
    for chain in plan.chains_under(hold.target):
        tier = next((each for each, targets in chain.rungs if hold.target in targets), None)
        active = _first_free(chain, held)
        events.append(
            Event(
                kind,
                chain.name,
                now_ms,
                hold.tier if chain.tier(hold.tier) else tier.name if tier else None,
                failure=None,
                reason=reason,
                hold=hold,
                active=active.name if active else None,
            )
        )
    if events:
        return tuple(events)
    began = plan.chains.get(hold.chain)
    active = _first_free(began, held) if began else None
    name = active.name if active else None
    return (Event(kind, hold.chain, now_ms, hold.tier, reason=reason, hold=hold, active=name),)
