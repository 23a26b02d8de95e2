"""What people are told of a threshold: name, used, limit, percent, what to do, and sterner the more is used."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.alert import Crossing, told
from locum.policy.notice import NoticeKind, Severity
from locum.policy.plan import Brake, Budget, Threshold
from locum.policy.usage import Tokens, Weights
from locum.policy.window import Block, Calendar, Lifetime, Rolling, Window

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
DAY = 86_400_000
WEEK = Calendar("week")


def notice(at, used, *, limit=1_000, brake=Brake.CHAIN, rule=WEEK, acts=True, until_ms=NOON + DAY):
    """The notice of so many percent of a budget."""
    budget = Budget(brake, "main", limit, rule, acts=acts)
    threshold = Threshold(at, budget.scope, rule, budget.weights, budget)
    over = until_ms if used >= limit else None
    return told(Crossing(threshold, Window(NOON - DAY, NOON + DAY), Tokens(used), "main", NOON, limit, over))


def counted(at, used, *, limit=None, scope="tier:main"):
    """The notice of a plain number of tokens."""
    return told(Crossing(Threshold(at, scope, WEEK), Window(0, None), Tokens(used), "main", NOON, limit))


@given(
    st.integers(1, 10**15),
    st.integers(1, 1000),
    st.builds(Tokens, *[st.integers(0, 10**12)] * 4),
    st.builds(Weights, *[st.integers(0, 10**6)] * 4),
)
def test_reached_is_exact(limit, at, used, weights):
    """No rounding up or down, at any size: 99.5 % is not 100 %, and one thousandth of a token less is not enough."""
    budget = Budget(Brake.CHAIN, "main", limit, WEEK, weights)
    spent = sum(
        Fraction(w, 1000) * n
        for w, n in zip((weights.input, weights.output, weights.cache_read, weights.cache_write), used, strict=True)
    )
    assert Threshold(at, "chain:main", WEEK, weights, budget).reached_by(used) == (spent * 100 >= limit * at)
    assert Threshold(limit, "chain:main", WEEK, weights).reached_by(used) == (spent >= limit)


def test_almost_all_is_not_all():
    """99.5 % has not reached 100 %, and 79.999 % has not reached 80 %."""
    budget = Budget(Brake.CHAIN, "main", 1_000, WEEK, Weights(1))
    for at, tokens in ((100, 999_999), (100, 995_000), (80, 799_999), (90, 899_999)):
        threshold = Threshold(at, "chain:main", WEEK, budget.weights, budget)
        assert not threshold.reached_by(Tokens(tokens))
        assert threshold.reached_by(Tokens(at * 10_000))


@pytest.mark.parametrize(
    ("at", "used", "severity", "parts"),
    [
        (50, 500, Severity.INFO, ["has reached 50 %", "500 of 1,000 tokens (50.0 %, the week", "There is time"]),
        (80, 801, Severity.INFO, ["has reached 80 %", "At 100 % the tier in use is held", "until the window ends"]),
        (90, 950, Severity.WARNING, ["nearly used up", "Only 50 are left", "service.json now"]),
        (99, 999, Severity.WARNING, ["Only 1 are left"]),
        (100, 1_000, Severity.CRITICAL, ["is used up: 1,000 of", "room again from 2026-01-02", "Raise the limit"]),
        (150, 1_500, Severity.CRITICAL, ["overspent by 500", "locum usage", "usage_halt_tokens would stop"]),
        (80, 1_700, Severity.INFO, ["has passed 80 %, and is used up already", "170.0 %"]),
    ],
)
def test_it_grows_sterner(at, used, severity, parts):
    """Each says who, how much of what, in percent, what follows and what to do; and never what is not so."""
    found = notice(at, used)
    assert (found.kind, found.severity, found.chain, found.at_ms) == (
        NoticeKind.TOKEN_THRESHOLD_CROSSED,
        severity,
        "main",
        NOON,
    )
    assert found.title.startswith("Chain main: ")
    for part in ("budget of chain main", *parts):
        assert part in found.message
    assert ".." not in found.message
    assert "  " not in found.message


@pytest.mark.parametrize(
    ("brake", "name", "key"),
    [
        (Brake.CHAIN, "budget of chain main", "usage_threshold_tokens"),
        (Brake.TIER, "budget of tier main", "the tier's usage_threshold_tokens"),
        (Brake.HALT, "halting budget of chain main", "usage_halt_tokens"),
    ],
)
@pytest.mark.parametrize("at", [80, 90, 100, 120])
def test_each_budget_has_its_own_words(brake, name, key, at):
    """Which budget it is, and which key to raise, ahead of its end."""
    found = notice(at, at * 10, brake=brake)
    assert name in found.message
    assert at >= 100 or key in found.message
    assert found.data["tier"] == ("main" if brake is Brake.TIER else None)
    assert found.data["budget"] == f"{brake}:main"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (WEEK, "until the window ends"),
        (Block(DAY), "until the window ends"),
        (Rolling(DAY), "longer ago"),
        (Lifetime(), "raised"),
    ],
)
def test_how_long_it_will_hold_follows_the_window(rule, words):
    """No promise that a window without an end will end."""
    assert words in notice(80, 800, brake=Brake.HALT, rule=rule).message
    assert "nothing is held" in notice(80, 800, rule=rule, acts=False).message


def test_a_budget_that_holds_nothing_says_so():
    """At its end, and for ever: nobody waits for what does not come."""
    found = notice(100, 1_000, rule=Lifetime(), acts=False, until_ms=None)
    assert "never starts anew" in found.message
    assert "Nothing is held" in found.message


def test_plain_tokens_are_told_with_and_without_a_limit():
    """What was asked for, where, and that nothing is held; as grave as the limit it is part of."""
    found = counted(1_000, 1_234)
    for part in ("Tier main has used 1,234 tokens", "told at 1,000", "Nothing is held", "alerts.at_tokens"):
        assert part in found.message
    assert (found.severity, found.data["percent"], found.data["limit"]) == (Severity.WARNING, None, None)
    within = counted(1_000, 1_234, limit=10_000, scope="chain:main")
    assert (
        "Chain main has used 1,234 tokens (the week starting Monday 00:00 UTC), 12.3 % of its limit of 10,000"
        in within.message
    )
    assert [counted(1, used, limit=100).severity for used in (89, 90, 100)] == ["info", "warning", "critical"]


def test_programs_get_everything_flat():
    """One level of keys, numbers as numbers, moments as ISO 8601."""
    found = notice(80, 805)
    assert found.data == {
        "event": "token_threshold_crossed",
        "timestamp": "2026-01-01T12:00:00Z",
        "chain": "main",
        "tier": None,
        "budget": "chain:main",
        "threshold": 80,
        "threshold_unit": "percent",
        "threshold_tokens": 800,
        "total_tokens": 805,
        "used": 805,
        "limit": 1_000,
        "percent": 80.5,
        "window": "week",
        "window_start": "2025-12-31T12:00:00Z",
        "window_end": "2026-01-02T12:00:00Z",
        "window_start_ms": NOON - DAY,
        "until": None,
        "until_ms": None,
    }
    assert found.link == "/#chain/main"
    assert notice(100, 1_000).data["until"] == "2026-01-02T12:00:00Z"
    bare = counted(7, 8).data
    assert (bare["threshold"], bare["threshold_unit"], bare["threshold_tokens"]) == (7, "tokens", 7)
    assert (bare["window_end"], bare["total_tokens"]) == (None, 8)
