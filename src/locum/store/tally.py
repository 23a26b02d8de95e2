"""Entries, their hourly totals and the sums over any window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from locum.errors import NotFoundError
from locum.policy.budget import percent
from locum.policy.plan import Meter, Plan
from locum.policy.usage import NO_TOKENS, Payer, Tokens, Usage, believable
from locum.policy.window import Block, Window, WindowRule, block_start_for, window_at
from locum.store.codec import Write, token_values
from locum.store.sqlite import Sql
from locum.store.views import UsageView

HOUR_MS = 3_600_000
TOTAL = "total"
"""The scope of everything."""
UNATTRIBUTED = "unattributed"
"""The scope of what nobody's tier has spent."""

_FOREVER_MS = 1 << 62
_OWN_AGENT = "locum"  # keys of the ledger's own reconciling entries live apart from every agent's


def scopes_of(payer: Payer) -> tuple[str, ...]:
    """The scopes that usage of this payer counts in."""
    if payer.tier is None:
        return (UNATTRIBUTED, TOTAL) if payer.account is None else (UNATTRIBUTED, f"account:{payer.account}", TOTAL)
    return (f"chain:{payer.chain}", f"tier:{payer.tier}", f"account:{payer.account}", TOTAL)


def add(tx: Write, payer: Payer, usages: Sequence[Usage], now_ms: int) -> Tokens:
    """Count each usage and append what is new as entries; returns the sum of what is new.

    A key seen before adds only by how much its count has grown. If the run has ended and the agent told a total,
    what is added is taken back by a reconciling entry.
    """
    hours: dict[int, Tokens] = {}
    for at_ms, usage in sorted(((moment(payer, each, now_ms), each) for each in usages), key=lambda pair: pair[0]):
        if not believable(usage.tokens):
            tx.run("doubt_usage", run=payer.run)
            continue
        before = _counted(tx, payer.agent, usage.key)
        largest = before.largest(usage.tokens)
        if largest != before:
            tx.run("count", agent=payer.agent, key=usage.key, **token_values(largest))
            new, hour = largest - before, _hour(at_ms)
            _append(tx, payer, payer.agent, usage, new, at_ms)
            hours[hour] = hours.get(hour, NO_TOKENS) + new
    added = _add_up(tx, payer, hours)
    return added + reconcile(tx, payer) if added and payer.run else added


def moment(payer: Payer, usage: Usage, now_ms: int) -> int:
    """When a usage counts: at the agent's own time, as far as it can have been at work then."""
    return max(payer.since_ms, min(now_ms if usage.at_ms is None else usage.at_ms, now_ms))


def reconcile(tx: Write, payer: Payer) -> Tokens:
    """Make the sum of an ended run's entries equal the agent's own total, if it told one; returns the difference."""
    assert payer.run is not None, "only runs are reconciled"
    told = tx.one("run_told", run=payer.run)
    if told is None:
        return NO_TOKENS
    difference = Tokens(*told[:4]) - run_tokens(tx, payer.run)
    if difference:
        key = f"reconcile:{payer.run}"
        tx.run("count", agent=_OWN_AGENT, key=key, **token_values(_counted(tx, _OWN_AGENT, key) + difference))
        _append(tx, payer, _OWN_AGENT, Usage(key, difference, payer.model, payer.session), difference, told[4])
        _add_up(tx, payer, {_hour(told[4]): difference})
    return difference


def move(tx: Write, owed: Payer, payer: Payer, usage: Usage, at_ms: int) -> None:
    """What was counted for one payer is another's: taken from the one and given to the other, at the same moment."""
    for each, tokens in ((owed, NO_TOKENS - usage.tokens), (payer, usage.tokens)):
        _append(tx, each, each.agent, usage, tokens, at_ms)
        _add_up(tx, each, {_hour(at_ms): tokens})


def run_tokens(sql: Sql, run: str) -> Tokens:
    """What a run has spent."""
    return Tokens(*(sql.one("run_tokens", run=run) or NO_TOKENS))


def task_tokens(sql: Sql, task: str) -> Tokens:
    """What all runs of a task have spent."""
    return Tokens(*(sql.one("task_tokens", task=task) or NO_TOKENS))


def totals(sql: Sql, scope: str, window: Window) -> Tokens:
    """What a scope has spent in a window: whole hours from their totals, the ragged ends entry by entry."""
    start_ms, end_ms = window.start_ms, _FOREVER_MS if window.end_ms is None else window.end_ms
    first_ms, last_ms = -(-start_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    if first_ms > last_ms:
        return _edge(sql, scope, start_ms, end_ms)
    whole = Tokens(*(sql.one("sum_buckets", scope=scope, start_ms=first_ms, end_ms=last_ms) or NO_TOKENS))
    return whole + _edge(sql, scope, start_ms, first_ms) + _edge(sql, scope, last_ms, end_ms)


def view(sql: Sql, scope: str, meter: Meter, now_ms: int) -> UsageView:
    """What a scope has used in its current window. Raises `NotFoundError` for what nothing is counted for."""
    if scope.partition(":")[0] not in ("chain", "tier", "account", UNATTRIBUTED, TOTAL):
        raise NotFoundError(f"nothing is counted for {scope!r}")
    window = window_of(sql, scope, meter.window, now_ms)
    used = totals(sql, scope, window)
    full, unknown = percent(meter.weights, used, meter.limit), unknown_runs(sql, scope, window)
    return UsageView(scope, meter, window, used, limit=meter.limit, percent=full, unknown_runs=unknown)


def unknown_runs(sql: Sql, scope: str, window: Window) -> int:
    """How many runs of a scope that began within a window have not told all they used."""
    end_ms = _FOREVER_MS if window.end_ms is None else window.end_ms
    row = sql.one("unknown_runs", scope=scope, start_ms=window.start_ms, end_ms=end_ms)
    return row[0] if row else 0


def entries(sql: Sql, scope: str, window: Window) -> Iterator[tuple[int, Tokens]]:
    """The entries of a chain or tier since a window began, oldest first, as (at_ms, tokens)."""
    kind, _, name = scope.partition(":")
    for at_ms, *tokens in sql.rows(f"entries_{kind}", name=name, start_ms=window.start_ms):
        yield at_ms, Tokens(*tokens)


def window_of(sql: Sql, scope: str, rule: WindowRule, now_ms: int) -> Window:
    """The window of `rule` at a moment, for this scope."""
    return window_at(rule, now_ms, _block_start(sql, scope, rule, now_ms) if isinstance(rule, Block) else None)


def trace_blocks(tx: Write, plan: Plan) -> None:
    """Store where the blocks of rules that are new in `plan` began, from the entries there are."""
    for scope, rules in plan.blocks.items():
        for rule in rules:
            if _block_start(tx, scope, rule, _FOREVER_MS) is None:
                at_ms = _next_use(tx, scope, 0)
                while at_ms is not None:
                    tx.run("add_block", scope=scope, length_ms=rule.length_ms, start_ms=at_ms)
                    at_ms = _next_use(tx, scope, at_ms + rule.length_ms)


def _append(tx: Write, payer: Payer, agent: str, usage: Usage, tokens: Tokens, at_ms: int) -> None:
    tx.run(
        "add_entry",
        run=payer.run,
        task=payer.task,
        chain=payer.chain,
        tier=payer.tier,
        account=payer.account,
        agent=agent,
        key=usage.key,
        model=usage.model or payer.model,
        at_ms=at_ms,
        session=usage.session or payer.session,
        **token_values(tokens),
    )
    if tokens.total > 0:
        blocks = tx.memory.plan.blocks
        for scope in scopes_of(payer) if blocks else ():
            for rule in blocks.get(scope, ()):
                start_ms = block_start_for(rule, at_ms, _block_start(tx, scope, rule, _FOREVER_MS))
                if start_ms is not None:
                    tx.run("add_block", scope=scope, length_ms=rule.length_ms, start_ms=start_ms)


def _add_up(tx: Write, payer: Payer, hours: Mapping[int, Tokens]) -> Tokens:
    """Add what was appended, by hour, to the sums of its run and its scopes; returns all of it."""
    added = sum(hours.values(), NO_TOKENS)
    if hours and payer.run is not None:
        tx.run("add_run_tokens", run=payer.run, **token_values(added))
    scopes = dict(zip_longest(("scope_1", "scope_2", "scope_3", "scope_4"), scopes_of(payer)))
    for hour_ms, tokens in hours.items():
        tx.run("add_buckets", **scopes, hour_ms=hour_ms, **token_values(tokens))
    return added


def _hour(at_ms: int) -> int:
    return at_ms // HOUR_MS * HOUR_MS


def _counted(tx: Write, agent: str, key: str) -> Tokens:
    return Tokens(*(tx.one("counted", agent=agent, key=key) or NO_TOKENS))


def _edge(sql: Sql, scope: str, start_ms: int, end_ms: int) -> Tokens:
    if start_ms >= end_ms:
        return NO_TOKENS
    kind, _, name = scope.partition(":")
    return Tokens(*(sql.one(f"edge_{kind}", name=name, start_ms=start_ms, end_ms=end_ms) or NO_TOKENS))


def _block_start(sql: Sql, scope: str, rule: Block, at_ms: int) -> int | None:
    row = sql.one("block_start", scope=scope, length_ms=rule.length_ms, at_ms=at_ms)
    return None if row is None else row[0]


def _next_use(tx: Write, scope: str, from_ms: int) -> int | None:
    """The first moment from `from_ms` on at which this scope used anything."""
    used = entries(tx, scope, Window(from_ms, None))
    return next((at_ms for at_ms, tokens in used if tokens.total > 0), None)
