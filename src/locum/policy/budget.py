"""Budgets: when a limit is reached, for how long it holds, and how full it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from locum.policy.board import Board
from locum.policy.failure import Failure, FailureKind
from locum.policy.plan import Brake, Budget
from locum.policy.usage import NO_TOKENS, Tokens, Weights
from locum.policy.window import Rolling, Window


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a budget is used in its current window."""

    budget: Budget
    window: Window
    used: Tokens

    @property
    def over(self) -> bool:
        """`used >= limit`."""
        return self.budget.weights.reached(self.used, self.budget.limit)


class Effect(StrEnum):
    """What a budget does now."""

    NONE = "none"  # reaching it is told, but holds nothing: the chain has nowhere to go, or does not move for it
    AHEAD = "ahead"  # it is not reached
    HOLDS = "holds"  # it is reached, and something is held for it
    RELEASED = "released"  # it is reached, and what it held was released: it holds nothing more in this window


def effect(board: Board, budget: Budget, used: Tokens, now_ms: int) -> Effect:
    """What `budget` does at this moment, with so much used in its window."""
    if not budget.acts:
        return Effect.NONE
    if not budget.weights.reached(used, budget.limit):
        return Effect.AHEAD
    held = any(hold.budget == budget.id and hold.active(now_ms) for hold in board.holds.values())
    return Effect.HOLDS if held else Effect.RELEASED


def percent(weights: Weights, used: Tokens, limit: int | None) -> float | None:
    """Used of limit in percent, rounded down to a tenth (99.96 is 99.9, not 100); None without a limit."""
    if not limit:
        return None
    return (weights.thousandths(used) // limit) / 10


def frees_at_ms(entries: Iterable[tuple[int, Tokens]], budget: Budget, used: Tokens, now_ms: int) -> int:
    """When a rolling window falls below its limit if nothing more is used.

    `entries` are the window's (at_ms, tokens), oldest first, and add up to `used`, which is over the limit.
    """
    assert isinstance(budget.window, Rolling)
    left = used
    for at_ms, together in groupby(entries, key=_moment):  # what happened at one moment ages out at once
        left -= sum((tokens for _, tokens in together), NO_TOKENS)
        if not budget.weights.reached(left, budget.limit):
            return max(now_ms + 1, at_ms + budget.window.length_ms)
    return now_ms + budget.window.length_ms


def _moment(entry: tuple[int, Tokens]) -> int:
    return entry[0]


def spent(reading: Reading, until_ms: int | None) -> Failure:
    """The failure that a reached budget is, as `bump` takes it."""
    budget = reading.budget
    used = budget.weights.whole(reading.used)
    what = {
        Brake.CHAIN: f"usage_threshold_tokens of chain {budget.owner}",
        Brake.TIER: f"usage_threshold_tokens of tier {budget.owner}",
        Brake.HALT: f"usage_halt_tokens of chain {budget.owner}",
    }[budget.brake]
    evidence = f"{used:,} of {budget.limit:,} tokens used ({what})"
    return Failure(FailureKind.TOKEN_BUDGET, evidence, rule=budget.id, reset_ms=until_ms)
