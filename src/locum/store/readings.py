"""How full budgets are, and when they have room again."""

from __future__ import annotations

from locum.policy.budget import Reading, frees_at_ms
from locum.policy.plan import Budget
from locum.policy.window import Rolling
from locum.store import tally
from locum.store.sqlite import Sql


def read(sql: Sql, budget: Budget, now_ms: int) -> Reading:
    """How much of a budget is used at this moment."""
    window = tally.window_of(sql, budget.scope, budget.window, now_ms)
    return Reading(budget, window, tally.totals(sql, budget.scope, window))


def frees_ms(sql: Sql, reading: Reading, now_ms: int) -> int | None:
    """When a budget that is over has room again by itself; None: never."""
    budget = reading.budget
    if not isinstance(budget.window, Rolling):
        return reading.window.end_ms
    return frees_at_ms(tally.entries(sql, budget.scope, reading.window), budget, reading.used, now_ms)
