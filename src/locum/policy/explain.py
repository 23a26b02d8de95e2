"""Why a chain runs where it runs, and what happens next, in sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import tzinfo

from locum.policy.board import Board, ChainState, Hold
from locum.policy.budget import Effect, Reading, effect, percent
from locum.policy.chain import free_at_ms, holds_on, on_probation, pick
from locum.policy.failure import ANSWERS, FailureKind
from locum.policy.gate import Gate, Place
from locum.policy.plan import Brake, Chain, Plan, Target, Tier, chain_target
from locum.policy.window import Rolling, describe
from locum.words import DELIBERATE, cause, due, moment, span

_BRAKES = {
    Brake.CHAIN: "The budget of chain {owner}",
    Brake.TIER: "The budget of tier {owner}",
    Brake.HALT: "The halt of chain {owner}",
}
_EFFECTS = {
    Effect.NONE: " Reaching it is told, but holds nothing.",
    Effect.RELEASED: " What it held was released: it holds nothing more {}.",
}
_PROBATION = "on probation: one task at a time until one succeeds"


def explain(
    board: Board,
    plan: Plan,
    chain: Chain,
    readings: Iterable[Reading],
    now_ms: int,
    *,
    zone: tzinfo | None = None,
    busy: Collection[Target] = (),
) -> tuple[str, ...]:
    """The state of `chain` as sentences: where it runs and why, each hold, each budget, the last failure, what is next.

    `readings` are the budgets' current readings (those of other chains are left out); `zone` is the time zone
    moments are told in, None for the host's.
    """
    state = board.chain(chain.name)
    return (
        *_where(board, plan, chain, state, now_ms, busy),
        *_halted(board, plan, chain, now_ms, zone),
        *(line for tier in chain.tiers for line in _tier(board, plan, chain, tier, now_ms, zone)),
        *(_budget(board, reading, now_ms, zone) for reading in readings if _concerns(reading, chain)),
        _last_failure(state, now_ms, zone),
        _next(board, chain, state, now_ms, zone),
    )


def stopped(plan: Plan, place: Place, answer: Gate, now_ms: int, zone: tzinfo | None = None) -> str:
    """Why a session may not go on, until when, and what its user can do: shown by the agent, in its user's terminal."""
    assert not answer.go_on, "only who is stopped asks why"
    chain, hold = place.chain, answer.hold
    if hold is None:
        return f"locum: chain {chain.name} is paused. `{_verb('resume', plan, chain)}` lets it go on."
    halted = hold.target == chain_target(chain.name)
    who = f"every tier of chain {chain.name}" if halted else f"tier {place.tier.name}"
    release = _verb("release", plan, chain) + ("" if halted else f" --tier {place.tier.name}")
    told = f"locum: {who} {_held(hold, now_ms, zone)} {_ends(hold, release)}"
    return f"{told} Chain {chain.name} runs on {answer.active} meanwhile." if answer.active else told


def _where(
    board: Board, plan: Plan, chain: Chain, state: ChainState, now_ms: int, busy: Collection[Target]
) -> tuple[str, ...]:
    resume = f"New tasks wait: the chain is paused. `{_verb('resume', plan, chain)}` lets them run."
    lines = [resume] if state.paused else []
    active = pick(board, chain, now_ms, busy=busy)
    if active is None:
        held = all(holds_on(board, chain, tier, now_ms) for tier in chain.tiers)
        why = "every tier is held" if held else "every tier is held, or on probation and at work"
        return (f"Chain {chain.name} has no tier to run on: {why}.", *lines)
    place = chain.tiers.index(active)
    if place == 0:
        why = "it is the first choice and nothing holds it" if len(chain.tiers) > 1 else "it is the only tier"
    else:
        doubted = "on probation and at work"
        passed = [
            f"{tier.name} is {'held' if holds_on(board, chain, tier, now_ms) else doubted}"
            for tier in chain.tiers[:place]
        ]
        why = _listed(passed)
    of = f" (tier {place + 1} of {len(chain.tiers)})" if len(chain.tiers) > 1 else ""
    return (f"Chain {chain.name} runs on {active.name}{of}: {why}.", *lines)


def _tier(board: Board, plan: Plan, chain: Chain, tier: Tier, now_ms: int, zone: tzinfo | None) -> tuple[str, ...]:
    holds = holds_on(board, chain, tier, now_ms)
    if not holds and on_probation(board, chain, tier, now_ms):
        return (f"{tier.name} is back from a hold and {_PROBATION}.",)
    release = f"{_verb('release', plan, chain)} --tier {tier.name}"
    return tuple(
        f"{tier.name} {_held(hold, now_ms, zone)}{_shared(plan, tier, hold)} {_ends(hold, release)}"
        for hold in holds
        if hold.target != chain_target(chain.name)
    )


def _halted(board: Board, plan: Plan, chain: Chain, now_ms: int, zone: tzinfo | None) -> tuple[str, ...]:
    """What holds the chain as a whole, told once and not with each tier."""
    holds = board.holds_by_target.get(chain_target(chain.name), ())
    release = _verb("release", plan, chain)
    return tuple(
        f"Every tier {_held(hold, now_ms, zone)} {_ends(hold, release)}" for hold in holds if hold.active(now_ms)
    )


def _held(hold: Hold, now_ms: int, zone: tzinfo | None) -> str:
    until = "until released" if hold.until_ms is None else f"until {due(hold.until_ms, now_ms, zone)}"
    because = f": {hold.reason.rstrip('.')}" if hold.reason else ""
    return f"is held {until} by {cause(hold.kind)}{because}."


def _shared(plan: Plan, tier: Tier, hold: Hold) -> str:
    """Which other tiers the same hold keeps back, so that an account's hold does not look like two."""
    names = {
        each.name
        for chain in plan.chains_under(hold.target)
        for each in chain.tiers
        if hold.target in chain.targets(each) and each.name != tier.name
    }
    return f" The same hold keeps {_listed(sorted(names))} back." if names else ""


def _ends(hold: Hold, release: str) -> str:
    sooner = "sooner " if hold.until_ms is not None else ""
    ways = []
    if ANSWERS[hold.kind].guarded:
        ways.append("its login or configuration changes")
    if hold.kind is FailureKind.TOKEN_BUDGET:
        ways.append("the budget is raised")
    ways.append(f"you type `{release}`")
    return f"It ends {sooner}when {' or '.join(ways)}."


def _verb(verb: str, plan: Plan, chain: Chain) -> str:
    """The command for this chain; the chain that is meant anyway is not named."""
    meant = "default" if "default" in plan.chains else next(iter(plan.chains))
    return f"locum {verb}" if chain.name == meant else f"locum {verb} {chain.name}"


def _concerns(reading: Reading, chain: Chain) -> bool:
    budget = reading.budget
    if budget.brake is Brake.TIER:
        return chain.tier(budget.owner) is not None
    return budget.owner == chain.name


def _budget(board: Board, reading: Reading, now_ms: int, zone: tzinfo | None) -> str:
    budget = reading.budget
    used = budget.weights.whole(reading.used)
    full = percent(budget.weights, reading.used, budget.limit)
    what = _BRAKES[budget.brake].format(owner=budget.owner)
    end_ms = reading.window.end_ms
    ends = f"; it starts again {due(end_ms, now_ms, zone)}" if end_ms is not None and end_ms > now_ms else ""
    again = "until usage falls below it" if isinstance(budget.window, Rolling) else "in this window"
    told = _EFFECTS.get(effect(board, budget, reading.used, now_ms), "").format(again)
    share = "" if full is None else f" ({full:g} %)"
    return f"{what}: {used:,} of {budget.limit:,} tokens used{share} in {describe(budget.window)}{ends}.{told}"


def _last_failure(state: ChainState, now_ms: int, zone: tzinfo | None) -> str:
    if state.last_failure_kind is None or state.last_failure_at_ms is None:
        return "Nothing has failed yet."
    at = f"{moment(state.last_failure_at_ms, now_ms, zone)}, {span(now_ms - state.last_failure_at_ms)} ago"
    because = f": {state.last_failure_reason.rstrip('.')}" if state.last_failure_reason else ""
    kind, tier = state.last_failure_kind, state.last_failure_tier
    if kind in DELIBERATE:
        return f"The last switch was made by {cause(kind)}{f', off {tier}' if tier else ''} ({at}){because}."
    return f"The last failure was {kind}{f' on {tier}' if tier else ''} ({at}){because}."


def _next(board: Board, chain: Chain, state: ChainState, now_ms: int, zone: tzinfo | None) -> str:
    if state.paused:
        return "Next: tasks wait until the chain is resumed; running attempts finish."
    active = pick(board, chain, now_ms)
    if active is None:
        at_ms = free_at_ms(board, chain, now_ms)
        if at_ms is None:
            return "Next: nothing by itself; tasks wait until you release a tier."
        tier = next(each for each in chain.tiers if _free_ms(board, chain, each, now_ms) == at_ms)
        return f"Next: tasks wait; {tier.name} comes back {due(at_ms, now_ms, zone)}."
    ahead = chain.tiers[: chain.tiers.index(active)]
    ends = {tier.name: _free_ms(board, chain, tier, now_ms) for tier in ahead}
    soon = sorted((at_ms, name) for name, at_ms in ends.items() if at_ms is not None)
    after = chain.tiers[chain.tiers.index(active) + 1 :]
    ready = next((tier.name for tier in after if not holds_on(board, chain, tier, now_ms)), None)
    fall = f"if {active.name} fails, {ready} takes over" if ready else f"if {active.name} fails, tasks wait"
    if soon:
        return f"Next: {soon[0][1]} comes back {due(soon[0][0], now_ms, zone)} and is preferred again; {fall}."
    return f"Next: {fall}."


def _free_ms(board: Board, chain: Chain, tier: Tier, now_ms: int) -> int | None:
    holds = holds_on(board, chain, tier, now_ms)
    return holds[-1].until_ms if holds else now_ms


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
