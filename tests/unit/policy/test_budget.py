"""Budgets: exact at the limit, never rounded up, and freed at the moment brute force says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from locum.policy.board import Board, Hold
from locum.policy.budget import Effect, Reading, effect, frees_at_ms, percent, spent
from locum.policy.failure import FailureKind
from locum.policy.plan import Brake, Budget, rung_target
from locum.policy.usage import EACH_TYPE_ONCE, NO_TOKENS, Tokens, Weights
from locum.policy.window import Calendar, Lifetime, Rolling, Window

NOW = 1_800_000_000_000
LENGTH = 50
COUNTS = st.integers(0, 10**12)
TOKENS = st.builds(Tokens, COUNTS, COUNTS, COUNTS, COUNTS)
WEIGHTS = st.builds(Weights, *[st.integers(0, 5000)] * 4)


def weighed(weights: Weights, used: Tokens) -> Fraction:
    """The weighted sum as an exact number of tokens."""
    parts = zip((weights.input, weights.output, weights.cache_read, weights.cache_write), used, strict=True)
    return sum((Fraction(weight, 1000) * count for weight, count in parts), Fraction(0))


@pytest.mark.parametrize(
    ("used", "limit", "shown"),
    [
        (0, 5, 0.0),
        (9996, 10_000, 99.9),
        (99_999_999, 10**8, 99.9),
        (1, 3, 33.3),
        (2, 3, 66.6),
        (5, 5, 100.0),
        (15, 10, 150.0),
    ],
)
def test_percent_is_rounded_down_to_a_tenth(used: int, limit: int, shown: float) -> None:
    """99.96 % is shown as 99.9, and 100 means that the limit is reached."""
    assert percent(EACH_TYPE_ONCE, Tokens(output=used), limit) == shown


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_there_is_no_percent(limit: int | None) -> None:
    """No budget is not a budget that is 0 % full."""
    assert percent(EACH_TYPE_ONCE, Tokens(5), limit) is None


@given(WEIGHTS, TOKENS, st.integers(1, 10**12))
def test_percent_and_over_agree_with_exact_arithmetic(weights: Weights, used: Tokens, limit: int) -> None:
    """Never above the truth, never a tenth below it, and at 100 exactly when the brake acts."""
    exact = weighed(weights, used)
    shown = percent(weights, used, limit)
    assert shown is not None
    assert Fraction(round(shown * 10), 10) == exact * 1000 // limit / Fraction(10)
    reading = Reading(Budget(Brake.CHAIN, "c", limit, Lifetime(), weights), Window(0, None), used)
    assert reading.over == (exact >= limit)
    assert reading.over == (shown >= 100)


@given(st.integers(1, 10**15))
def test_a_budget_is_over_at_its_limit_and_not_one_token_before(limit: int) -> None:
    """`used >= limit`, at any size."""
    budget = Budget(Brake.TIER, "t", limit, Lifetime())
    assert Reading(budget, Window(0, None), Tokens(cache_write=limit)).over
    assert not Reading(budget, Window(0, None), Tokens(cache_write=limit - 1)).over


ENTRIES = st.lists(
    st.tuples(st.integers(0, LENGTH - 1), st.builds(Tokens, st.integers(-9, 30), st.integers(0, 9))), max_size=12
)


@given(ENTRIES, st.integers(1, 60), WEIGHTS)
def test_a_rolling_window_is_free_when_brute_force_says(
    ages: list[tuple[int, Tokens]], limit: int, weights: Weights
) -> None:
    """Stepping through every millisecond finds the same first moment below the limit, corrections included."""
    entries = sorted(((NOW - age, tokens) for age, tokens in ages), key=lambda entry: entry[0])
    budget = Budget(Brake.CHAIN, "c", limit, Rolling(LENGTH), weights)

    def used_at(now_ms: int) -> Tokens:
        return sum((tokens for at_ms, tokens in entries if at_ms > now_ms - LENGTH), NO_TOKENS)

    used = used_at(NOW)
    assume(weights.reached(used, limit))
    first = next(now_ms for now_ms in range(NOW, NOW + LENGTH + 2) if not weights.reached(used_at(now_ms), limit))
    assert frees_at_ms(iter(entries), budget, used, NOW) == first


def test_a_rolling_window_is_never_free_in_the_past() -> None:
    """Entries that should have aged out already, read by a clock that stepped, free it a moment from now."""
    budget = Budget(Brake.CHAIN, "c", 5, Rolling(LENGTH))
    assert frees_at_ms([(NOW - 9 * LENGTH, Tokens(5))], budget, Tokens(5), NOW) == NOW + 1


def test_a_rolling_window_whose_entries_do_not_add_up_holds_no_longer_than_itself() -> None:
    """Were a part of the sum unaccounted for, the hold would still end."""
    budget = Budget(Brake.CHAIN, "c", 5, Rolling(LENGTH))
    assert frees_at_ms([], budget, Tokens(5), NOW) == NOW + LENGTH


@pytest.mark.parametrize(
    ("brake", "words"),
    [
        (Brake.CHAIN, "usage_threshold_tokens of chain c"),
        (Brake.TIER, "usage_threshold_tokens of tier c"),
        (Brake.HALT, "usage_halt_tokens of chain c"),
    ],
)
@pytest.mark.parametrize("until_ms", [None, NOW])
def test_a_spent_budget_says_which_key_and_how_much(brake: Brake, words: str, until_ms: int | None) -> None:
    """People find the key in their file by the words of the message; the hold ends with the window."""
    budget = Budget(brake, "c", 1_000, Lifetime(), Weights(cache_read=100))
    failure = spent(Reading(budget, Window(0, None), Tokens(1_000, 0, 999)), until_ms)
    assert failure.kind is FailureKind.TOKEN_BUDGET
    assert failure.reset_ms == until_ms
    assert failure.rule == f"{brake}:c"
    assert "1,099 of 1,000" in failure.evidence
    assert words in failure.evidence


def test_what_a_budget_does_is_told_by_its_hold():
    """Not reached, holding, released and merely told are four things: released is never shown as still ahead."""
    limit = Budget(Brake.CHAIN, "default", 100, Calendar("day"))
    hold = Hold(rung_target("default", "a"), FailureKind.TOKEN_BUDGET, 0, 5_000, "", "default", "a", budget=limit.id)
    held, used = Board({hold.key: hold}), Tokens(100)
    assert effect(Board(), limit, Tokens(99), 0) is Effect.AHEAD
    assert effect(held, limit, used, 0) is Effect.HOLDS
    assert effect(held, limit, used, 5_000) is Effect.RELEASED, "it has run out"
    assert effect(Board(), limit, used, 0) is Effect.RELEASED
    assert effect(Board(), replace(limit, acts=False), used, 0) is Effect.NONE
