"""Budgets, judged by what the stand-ins spent: each fires when it is used up, once a window, and holds what it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from locum.drill.director import Played
from locum.drill.evidence import Evidence, Held
from locum.policy.plan import Brake, Budget, Threshold
from locum.policy.usage import NO_TOKENS, Tokens
from locum.policy.window import Block, Lifetime, Rolling, window_at
from locum.words import iso

_SLACK_MS = 5_000
_SHORT_MS = 60_000
"""How long a window must be for it to be plain what is in it together. A shorter one turns while a run is at work, and
then that depends on how busy the host is.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger wrote down of a run at one time. `at_ms`: the moment it counts at (epoch milliseconds)."""

    played: Played
    at_ms: int
    tokens: Tokens

    @property
    def tier(self) -> str:
        """Where it ran."""
        return self.played.tier

    @property
    def chain(self) -> str:
        """What it ran for."""
        return self.played.chain


_S = TypeVar("_S", Played, Entry)


def counts(budget: Budget | Threshold, played: Played | Entry) -> bool:
    """Whether a run's tokens count against a budget, or towards a threshold."""
    return budget.scope in (f"chain:{played.chain}", f"tier:{played.tier}")


def spent_on(budget: Budget | Threshold, played: Sequence[_S], at_ms: int) -> list[_S]:
    """What counts in the window of `at_ms`, up to then, in the order given."""
    mine = [each for each in played if counts(budget, each) and each.tokens and each.at_ms <= at_ms]
    if isinstance(budget.window, Block):
        return _in_block(budget.window, mine, at_ms)
    start_ms = window_at(budget.window, at_ms).start_ms
    return [each for each in mine if each.at_ms >= start_ms]


def crossing(budget: Budget | Threshold, played: Sequence[_S]) -> _S | None:
    """The one of these with which the budget was used up, or the threshold was reached."""
    used = NO_TOKENS
    for each in played:
        used += each.tokens
        if budget.weights.reached(used, budget.limit) if isinstance(budget, Budget) else budget.reached_by(used):
            return each
    return None


def used_up(evidence: Evidence) -> dict[str, list[Played]]:
    """The runs that used up each budget that was, by its id."""
    held = {hold.budget for hold in evidence.holds}
    looked_at = [each for each in evidence.loaded.plan.budgets if not _is_short(each) or each.id in held]
    found = {budget.id: crossings(budget, _entries(evidence)) for budget in looked_at}
    return {budget: runs for budget, runs in found.items() if runs}


def budgets(evidence: Evidence) -> Iterator[str]:
    """Everything that is wrong with how budgets were kept."""
    played = sorted((each for each in evidence.played if each.ended_ms), key=lambda each: each.at_ms)
    crossed = used_up(evidence)
    yield from _alerts(evidence)
    earned: list[Held] = []
    for budget in evidence.loaded.plan.budgets:
        held = [hold for hold in evidence.holds if hold.budget == budget.id]
        if _is_short(budget):
            earned += held
            yield from _short(evidence, budget, played, held)
            continue
        expected = crossed.get(budget.id, [])
        if budget.acts:
            for each in expected:
                found = [hold for hold in held if _is_of(hold, each)]
                earned += found
                yield from _hold(evidence, budget, each, played, found)
    for hold in evidence.holds:
        if hold.kind == "token_budget" and hold not in earned:
            yield f"{hold.target} was held for {hold.budget} at {iso(hold.since_ms)}, which was not used up then"


def _entries(evidence: Evidence) -> list[Entry]:
    return [Entry(each, at_ms, tokens) for run, at_ms, tokens in evidence.entries for each in evidence.of_run(run)[:1]]


def _alerts(evidence: Evidence) -> Iterator[str]:
    """Whether people were told of each threshold that was reached, once a window, and of no other."""
    told = Counter(
        (each["data"]["budget"], each["data"]["threshold_unit"], each["data"]["threshold"])
        for each in evidence.notices
        if each["kind"] == "token_threshold_crossed"
    )
    for threshold in (each for alerts in evidence.loaded.plan.alerts.values() for each in alerts):
        reached = crossings(threshold, _entries(evidence))
        if isinstance(threshold.window, Rolling):
            reached = _apart(reached, threshold.window.length_ms)
        found = told.pop((threshold.owner, str(threshold.unit), threshold.at), 0)
        if found != len(reached) and not _is_short(threshold):
            what = f"{threshold.at:,} {threshold.unit} of {threshold.owner} (limit {threshold.limit:,})"
            yield f"{what} were reached {len(reached)} times, and that was told {found} times"
    yield from (f"nobody asked to be told of {at} {unit} of {owner}" for owner, unit, at in told)


def _apart(reached: list[Played], length_ms: int) -> list[Played]:
    """Of a rolling window people are told once in its length."""
    found: list[Played] = []
    for each in reached:
        if not found or each.at_ms >= found[-1].at_ms + length_ms:
            found.append(each)
    return found


def _is_short(budget: Budget | Threshold) -> bool:
    return isinstance(budget.window, Rolling | Block) and budget.window.length_ms <= _SHORT_MS


def _short(evidence: Evidence, budget: Budget, played: list[Played], held: list[Held]) -> Iterator[str]:
    """A budget over a short window: it may be used up whenever enough was spent about then, and holds for no longer."""
    assert isinstance(budget.window, Rolling | Block)
    length_ms, mine = budget.window.length_ms, [each for each in played if counts(budget, each)]
    for hold in held:
        about = [
            each for each in mine if each.at_ms <= hold.since_ms <= (each.ended_ms or 0) + length_ms + 4 * _SLACK_MS
        ]
        enough = budget.weights.reached(sum((each.tokens for each in about), NO_TOKENS), budget.limit)
        if not enough or hold.target not in {_target(budget, each.tier) for each in about}:
            yield f"{hold.target} was held for {hold.budget} at {iso(hold.since_ms)}, which was not used up then"
        ended_ms = hold.ended_ms or evidence.now_ms
        last_ms = max((each.ended_ms or 0 for each in mine if each.at_ms <= ended_ms), default=hold.since_ms)
        if hold.until_ms is None or hold.until_ms > max(last_ms, hold.since_ms) + length_ms + _SLACK_MS:
            yield f"the hold of the budget {budget.id} ends {iso(hold.until_ms)}, and its window is over before"


def crossings(budget: Budget | Threshold, entries: Sequence[Entry]) -> list[Played]:
    """The runs that reached it, one a window: of runs side by side, the one whose entry came to the limit."""
    found: list[Played] = []
    mine: list[Entry] = []
    for each in entries:
        if counts(budget, each):
            mine.append(each)
            within = spent_on(budget, mine, max(one.at_ms for one in mine))
            if crossing(budget, within) is each:
                found.append(each.played)
    return found


def _is_of(hold: Held, crossed: Played) -> bool:
    return crossed.at_ms <= hold.since_ms <= (crossed.ended_ms or 0) + 4 * _SLACK_MS


def _hold(
    evidence: Evidence, budget: Budget, crossed: Played, played: list[Played], found: list[Held]
) -> Iterator[str]:
    target = _target(budget, crossed.tier)
    if [hold.target for hold in found] != [target]:
        held = [hold.target for hold in found] or "nothing"
        yield f"the budget {budget.id} was used up on {crossed.tier}, and held {held}, not {target}"
        return
    least, most = _until(evidence, budget, crossed, played)
    until_ms = found[0].until_ms
    if (least is None) != (until_ms is None):
        yield f"the hold of the budget {budget.id} ends {iso(until_ms)}, and should end {iso(least) or 'never'}"
    elif until_ms is not None and least is not None and not least <= until_ms <= (most or least):
        yield f"the hold of the budget {budget.id} ends {iso(until_ms)}, and its window {iso(least)} to {iso(most)}"


def _target(budget: Budget, tier: str) -> str:
    """What a budget holds that was used up on that tier."""
    return {
        Brake.CHAIN: f"rung:{budget.owner}/{tier}",
        Brake.TIER: f"tier:{budget.owner}",
        Brake.HALT: f"chain:{budget.owner}",
    }[budget.brake]


def _until(evidence: Evidence, budget: Budget, crossed: Played, played: list[Played]) -> tuple[int | None, int | None]:
    """Between which moments the budget has room again; None: never by itself."""
    match budget.window:
        case Lifetime():
            return None, None
        case Rolling(length_ms) | Block(length_ms):
            within = spent_on(budget, played, crossed.at_ms)
            later = [each for each in played if counts(budget, each) and each.at_ms < crossed.at_ms + length_ms]
            last = max((each.ended_ms or 0 for each in (*within, *later)), default=evidence.now_ms)
            return within[0].at_ms + length_ms - _SLACK_MS, last + length_ms + _SLACK_MS
        case _:
            end_ms = window_at(budget.window, crossed.at_ms).end_ms
            return end_ms, end_ms


def _in_block(rule: Block, played: Sequence[_S], at_ms: int) -> list[_S]:
    """What was spent in the block that is open at `at_ms`."""
    start_ms = None
    for began_ms in sorted(each.at_ms for each in played):
        if start_ms is None or began_ms >= start_ms + rule.length_ms:
            start_ms = began_ms
    if start_ms is None or at_ms >= start_ms + rule.length_ms:
        return []
    return [each for each in played if each.at_ms >= start_ms]
