"""Thresholds, told in the very commit that reaches them: each once in its window, whoever writes."""

from __future__ import annotations

from collections.abc import Iterable

from locum.policy.alert import Crossing, told
from locum.policy.budget import Reading
from locum.policy.plan import Brake, Meter, Plan, Threshold
from locum.policy.usage import Tokens
from locum.policy.window import Block, Rolling, Window, WindowRule
from locum.store import notices, readings, tally
from locum.store.codec import Write, dump, token_values
from locum.store.sqlite import Row

Used = dict[tuple[str, WindowRule], tuple[Window, Tokens]]
"""What chains and tiers have used, as far as it was added up in this commit already."""


def tell(tx: Write, scope: str, chain: str, now_ms: int, used: Used) -> None:
    """Tell of what a chain or tier has reached and is not on record for, the lowest first.

    `chain` is where the usage belongs; what has to be added up is kept in `used`.
    """
    on_record: dict[Window, frozenset[Row]] = {}
    for threshold in tx.memory.plan.alerts.get(scope, ()):
        name = (scope, threshold.window)
        if name not in used:
            window = tally.window_of(tx, scope, threshold.window, now_ms)
            used[name] = window, tally.totals(tx, scope, window)
        window, tokens = used[name]
        if not threshold.reached_by(tokens):
            continue
        if window not in on_record:
            on_record[window] = _on_record(tx, scope, threshold.window, window)
        if _key(threshold) not in on_record[window]:
            _put_on_record(tx, threshold, window, tokens, chain, now_ms)


def tell_all(tx: Write, now_ms: int, used: Used) -> None:
    """Tell of whatever is reached: after an edit and at a start. Rolling windows are looked at as in `rest` first."""
    rest(tx, now_ms)
    plan = tx.memory.plan
    for scope in plan.alerts:
        tell(tx, scope, _chain_of(plan, scope), now_ms, used)


def rest(tx: Write, now_ms: int) -> None:
    """Let thresholds of rolling windows be told of again: told a whole window ago, and below now.

    Comes ahead of any usage recorded at the same moment, which would look as if it had never been below.
    """
    for seq, budget, limit, unit, at, rolling_ms in tx.all("rested", now_ms=now_ms):
        threshold = _find(tx.memory.plan, budget, limit, unit, at)
        if threshold is not None and threshold.window == Rolling(rolling_ms):
            window = tally.window_of(tx, threshold.scope, threshold.window, now_ms)
            if threshold.reached_by(tally.totals(tx, threshold.scope, window)):
                continue
        tx.run("close_crossing", seq=seq, at_ms=now_ms)


def open_blocks(tx: Write, now_ms: int) -> dict[str, set[tuple[Block, Window]]]:
    """The blocks that are open, by whose they are."""
    return {
        scope: {(rule, tally.window_of(tx, scope, rule, now_ms)) for rule in rules}
        for scope, rules in tx.memory.plan.blocks.items()
    }


def carry_over(tx: Write, before: dict[str, set[tuple[Block, Window]]], now_ms: int) -> None:
    """After blocks were traced anew: what was told in the one that was open then counts as told in the one now."""
    for scope, blocks in before.items():
        for rule, was in blocks:
            now = tally.window_of(tx, scope, rule, now_ms)
            if now != was and _is_open(now) and _is_open(was):
                bounds = {"start_ms": now.start_ms, "end_ms": now.end_ms}
                names = {"scope": scope, "other": _other(scope)}
                tx.run("carry_crossings", was_ms=was.start_ms, was_end_ms=was.end_ms, **bounds, **names)


def _is_open(block: Window) -> bool:
    return block.start_ms != block.end_ms


def _put_on_record(tx: Write, threshold: Threshold, window: Window, used: Tokens, chain: str, now_ms: int) -> None:
    budget = threshold.budget
    limit = tx.memory.plan.meters.get(threshold.scope, Meter()).limit if budget is None else budget.limit
    over = limit is not None and threshold.weights.thousandths(used) >= limit * 1000
    until_ms = window.end_ms
    if budget is not None and over and isinstance(budget.window, Rolling):
        until_ms = readings.frees_ms(tx, Reading(budget, window, used), now_ms)
    crossing = Crossing(threshold, window, used, chain, now_ms, limit, until_ms if over else None)
    notice = notices.add(tx, told(crossing))
    tx.run(
        "cross",
        rolling_ms=threshold.window.length_ms if isinstance(threshold.window, Rolling) else 0,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        at_ms=now_ms,
        weights=dump([getattr(threshold.weights, name) for name in token_values(used)]),
        notice=notice,
        **token_values(used),
        **dict(zip(("budget", "limit", "unit", "threshold"), _key(threshold), strict=True)),
    )


def _on_record(tx: Write, scope: str, rule: WindowRule, window: Window) -> frozenset[Row]:
    names = {"scope": scope, "other": _other(scope)}
    if isinstance(rule, Rolling):
        return frozenset(tx.rows("crossed_and_open", rolling_ms=rule.length_ms, **names))
    return frozenset(tx.rows("crossed_in_window", start_ms=window.start_ms, end_ms=window.end_ms or 0, **names))


def _key(threshold: Threshold) -> Row:
    """What it is on record as, within a window."""
    return threshold.owner, threshold.limit, str(threshold.unit), threshold.at


def _find(plan: Plan, *key: object) -> Threshold | None:
    found: Iterable[Threshold] = (each for alerts in plan.alerts.values() for each in alerts if _key(each) == key)
    return next(iter(found), None)


def _other(scope: str) -> str:
    """The id of a chain's second budget; a tier has none, and then it is no budget's."""
    kind, _, name = scope.partition(":")
    return f"{Brake.HALT}:{name}" if kind == "chain" else scope


def _chain_of(plan: Plan, scope: str) -> str:
    """The chain in which a notice of a chain or tier is told when no run has set it off."""
    kind, _, name = scope.partition(":")
    if kind == "chain":
        return name
    return next((chain.name for chain in plan.chains.values() if chain.tier(name)), name)
