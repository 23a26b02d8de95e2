"""Holds, judged: each is on what failed, as long as it may be, and nothing runs under it."""

from __future__ import annotations

from collections.abc import Iterator

from locum.drill.costs import COSTS, target_of, until_ms, waits_in_place
from locum.drill.director import Played
from locum.drill.evidence import Evidence, Held
from locum.drill.promises import COMES_BACK, NO_CASCADE, ONE_PATH, TRUST, Breach
from locum.policy.failure import FailureKind
from locum.policy.plan import Chain, Tier
from locum.words import from_iso, iso

PROMPT_MS = 15_000
"""How late a host that is busy with other things may make the daemon."""
_TOLD_MS = 1_000
"""How long after its program an attempt may take to be written down as ended."""
_BUDGET = "token_budget"


def holds(evidence: Evidence) -> Iterator[Breach]:
    """Everything that is wrong with what was held, and when."""
    yield from _holds_are_earned(evidence)
    yield from _failures_hold(evidence)
    yield from _nothing_ran_while_held(evidence)
    yield from _the_first_free_tier_ran(evidence)
    yield from _ends(evidence)


def read_as(evidence: Evidence, played: Played) -> FailureKind | None:
    """What failed: as recorded, or as a rule of the operator's own reads it."""
    for _, run in evidence.runs:
        if run["id"] == played.run and run["rule"] in evidence.own_rules:
            return FailureKind(run["failure"])
    return played.kind


def _holds_are_earned(evidence: Evidence) -> Iterator[Breach]:
    """Each hold is on what failed, and no longer than the vendor and the manual say."""
    for hold in evidence.holds:
        if hold.kind == _BUDGET:
            continue  # told apart: see spending.py
        if hold.kind == FailureKind.OPERATOR and hold.target in evidence.bumped:
            continue
        causes = [each for each in evidence.played if _could_hold(evidence, each, hold)]
        if not causes:
            what = f"{hold.target} was held for {hold.kind} at {iso(hold.since_ms)}, and nothing of it had failed so"
            yield Breach(NO_CASCADE, what)
            continue
        if COSTS[FailureKind(hold.kind)].soft and not _second_in_a_row(evidence, causes[-1]):
            yield Breach(NO_CASCADE, f"{hold.target} was held for {hold.kind} of one task alone")
        yield from _length(evidence, hold, causes[-1])


def _could_hold(evidence: Evidence, played: Played, hold: Held) -> bool:
    """Whether a failure ended just ahead of the hold that is of its kind and on its target."""
    kind = read_as(evidence, played)
    return (
        kind == hold.kind
        and played.ended_ms is not None
        and target_of(FailureKind(kind), evidence.loaded.plan.tiers[played.tier]) == hold.target
        and played.at_ms <= hold.since_ms <= evidence.noticed_ms(played.ended_ms) + 4 * PROMPT_MS
    )


def _length(evidence: Evidence, hold: Held, cause: Played) -> Iterator[Breach]:
    strikes = 1 + _strikes(evidence, hold)
    told = cause.part.reset_ms
    least, most = until_ms(FailureKind(hold.kind), hold.since_ms, strikes, told, cause.recording.window)
    if hold.until_ms is None or not least - 2_000 <= hold.until_ms <= most + 2_000:
        says = f"; the vendor said {iso(told)}" if told else ""
        what = f"{hold.target} was held for {hold.kind} until {iso(hold.until_ms)} from {iso(hold.since_ms)} on{says}"
        yield Breach(TRUST, f"{what}: it should be between {iso(least)} and {iso(most)}")


def _strikes(evidence: Evidence, hold: Held) -> int:
    """How many such holds there were before, with no success of that target between."""
    before = [each for each in evidence.holds if (each.target, each.kind) == (hold.target, hold.kind)]
    before = [each for each in before if each.since_ms < hold.since_ms]
    good = [each.ended_ms or 0 for each in evidence.played if each.kind is None and _under(evidence, each, hold)]
    last = max((at for at in good if at < hold.since_ms), default=0)
    return sum(1 for each in before if each.since_ms > last)


def _under(evidence: Evidence, played: Played, hold: Held) -> bool:
    tier = evidence.loaded.plan.tiers[played.tier]
    return hold.target in (f"account:{tier.account}", f"tier:{tier.name}")


def _second_in_a_row(evidence: Evidence, cause: Played) -> bool:
    """Whether another task failed softly on this tier before, with no success between."""
    for each in reversed([each for each in evidence.played if each.tier == cause.tier and each.at_ms < cause.at_ms]):
        if each.kind is None:
            return False
        if each.task != cause.task and (COSTS.get(each.kind) or COSTS[FailureKind.CRASH]).soft:
            return True
    return False


def _failures_hold(evidence: Evidence) -> Iterator[Breach]:
    """Each failure that is to hold something does: after its tries in place, and with the second task if it is soft."""
    for task in evidence.tasks:
        chain = evidence.loaded.plan.chains[task["chain"]]
        played = [each for run in task["runs"] for each in evidence.of_run(run["id"])]
        for number, each in enumerate(played):
            kind = read_as(evidence, each)
            if kind is None or kind not in COSTS or not chain.acts_on(kind) or each.ended_ms is None:
                continue
            cost, row = COSTS[kind], _row(played, number)
            after = played[number + 1] if number + 1 < len(played) else None
            tries = cost.tries if kind is not FailureKind.RATE_LIMIT else _patient(each)
            if row <= tries and not _held_before(evidence, each):
                continue
            if cost.soft and not _second_in_a_row(evidence, each):
                continue
            over = [hold.ended_ms for hold in _holds_for(evidence, each)]
            if not over:
                yield Breach(ONE_PATH, f"{each.tier} failed ({kind}) at {iso(each.ended_ms)}, and nothing was held")
            elif after and after.tier == each.tier and all(end is None or end > after.at_ms for end in over):
                what = f"{each.tier} failed ({kind}) at {iso(each.ended_ms)}, and was used again before a hold ended"
                yield Breach(ONE_PATH, what)


def _holds_for(evidence: Evidence, played: Played) -> list[Held]:
    """The holds that a failure was answered with, or that stood already. Some are over in seconds, as vendors ask."""
    return [hold for hold in evidence.holds if _could_hold(evidence, played, hold) or _stood(evidence, played, hold)]


def _patient(played: Played) -> int:
    assert played.ended_ms is not None
    return int(waits_in_place(FailureKind.RATE_LIMIT, played.part.reset_ms, played.ended_ms))


def _row(played: list[Played], number: int) -> int:
    """How many runs in a row, this one included, the task has made on this tier."""
    count = 1
    while count <= number and played[number - count].tier == played[number].tier:
        count += 1
    return count


def _stood(evidence: Evidence, played: Played, hold: Held) -> bool:
    """Whether this hold was in force already when a failure of its kind ended."""
    ended_ms = played.ended_ms or 0
    target = target_of(played.kind, evidence.loaded.plan.tiers[played.tier]) if played.kind else None
    return hold.target == target and hold.since_ms <= ended_ms and (hold.ended_ms or ended_ms) >= ended_ms


def _held_before(evidence: Evidence, played: Played) -> bool:
    return any(_under(evidence, played, hold) and _stood(evidence, played, hold) for hold in evidence.holds)


def _nothing_ran_while_held(evidence: Evidence) -> Iterator[Breach]:
    """No attempt was begun on a tier that a hold covered."""
    for task, run in evidence.runs:
        chain, began_ms = evidence.loaded.plan.chains[task["chain"]], from_iso(run["started"]) or 0
        for hold in evidence.holds:
            if hold.since_ms < began_ms < (hold.ended_ms or evidence.now_ms) and evidence.covers(
                hold, chain, run["tier"]
            ):
                what = f"{run['tier']} ran at {run['started']} while {hold.target} was held for {hold.kind}"
                yield Breach(ONE_PATH, what)


def _the_first_free_tier_ran(evidence: Evidence) -> Iterator[Breach]:
    """Each attempt was made on the first tier that it could have: what is back is preferred again."""
    for task in evidence.tasks:
        chain, failed = evidence.loaded.plan.chains[task["chain"]], set[str]()
        for run in task["runs"]:
            began_ms = from_iso(run["started"]) or 0
            for tier in chain.tiers:
                if tier.name == run["tier"]:
                    break
                if tier.name not in failed and not _barred(evidence, chain, tier, run["id"], began_ms):
                    yield Breach(COMES_BACK, f"{run['tier']} ran at {run['started']}, and {tier.name} was free")
            if run["failure"] and COSTS.get(FailureKind(run["failure"]), COSTS[FailureKind.AUTH_ERROR]).soft:
                failed.add(run["tier"])


def _barred(evidence: Evidence, chain: Chain, tier: Tier, run: str, at_ms: int) -> bool:
    """Whether a tier was held at that moment, or at work, as one on probation may be for one task only."""
    if any(
        hold.since_ms <= at_ms <= (hold.ended_ms or evidence.now_ms) and evidence.covers(hold, chain, tier.name)
        for hold in evidence.holds
    ):
        return True
    tiers = evidence.loaded.plan.tiers
    return any(
        each.run != run
        and tiers[each.tier].account == tier.account
        and each.at_ms <= at_ms + PROMPT_MS
        and (each.ended_ms or evidence.now_ms) >= at_ms - _TOLD_MS
        for each in evidence.played
    )


def _ends(evidence: Evidence) -> Iterator[Breach]:
    """Each hold has ended when it was to end: not before, and not much later."""
    for hold in evidence.holds:
        if hold.until_ms is None:
            continue
        if hold.ended_ms is not None and hold.ended_ms < hold.until_ms:
            yield Breach(
                TRUST, f"the hold on {hold.target} ended at {iso(hold.ended_ms)}, ahead of {iso(hold.until_ms)}"
            )
        due_ms = evidence.noticed_ms(hold.until_ms) + PROMPT_MS
        if (hold.ended_ms or evidence.now_ms) > due_ms:
            ended = iso(hold.ended_ms) or "never"
            yield Breach(COMES_BACK, f"the hold on {hold.target} was to end {iso(hold.until_ms)}, and ended {ended}")
