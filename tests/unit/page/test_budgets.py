"""Rings say in words what they show, and where usage leads."""

from __future__ import annotations

import pytest

from locum.page.budgets import chain_budgets, course, level, meter, ring
from locum.policy.failure import DAY, HOUR
from locum.words import iso
from tests.unit.page.scenes import NOW_MS, WINDOW, Read, measure


@pytest.mark.parametrize(
    ("percent", "colour"),
    [
        (0, "calm"),
        (49.9, "calm"),
        (50, "half"),
        (79.9, "half"),
        (80, "high"),
        (94.9, "high"),
        (95, "spent"),
        (300, "spent"),
    ],
)
def test_a_ring_changes_at_50_80_and_95(percent: float, colour: str) -> None:
    """The colour turns at the percentage itself, not before, and each has other words."""
    assert level(percent)[0] == colour
    assert f'class="ring {colour}"' in ring(percent, None)


def test_a_ring_never_rounds_up() -> None:
    """99.9 % is not shown as 100."""
    assert Read(ring(99.9, None)).text == "99%"
    assert Read(ring(100, 140)).text == "100%"


def test_where_a_calendar_window_ends() -> None:
    """What is used now and every day like the last make the end; the moment the limit is reached lies between."""
    found = course(4_000_000, 5_000_000, 500_000, WINDOW, NOW_MS)  # four days are left
    assert found.percent == pytest.approx(120)
    assert found.reached_ms == NOW_MS + 2 * DAY


def test_what_is_not_reached_in_its_window_is_not_told_as_reached() -> None:
    """Used up only after the window has begun anew is not used up; what is reached already does not come."""
    assert course(4_000_000, 5_000_000, 200_000, WINDOW, NOW_MS).reached_ms is None
    assert course(5_000_000, 5_000_000, 200_000, WINDOW, NOW_MS).reached_ms is None
    assert course(0, 5_000_000, 0, WINDOW, NOW_MS) == (0, None)


def test_a_rolling_window_is_told_by_what_it_would_hold() -> None:
    """It has no end: five hours of a day of 480,000 tokens are 100,000."""
    rolling = {"kind": "rolling", "start": iso(NOW_MS - 5 * HOUR), "end": None, "timezone": None}
    assert course(10, 200_000, 480_000, rolling, NOW_MS) == (pytest.approx(50), None)


def test_all_time_is_told_by_when_it_is_reached() -> None:
    """Without an end there is no share at the end; beyond a year nothing is foretold."""
    all_time = {"kind": "all", "start": None, "end": None, "timezone": None}
    assert course(100, 200, 50, all_time, NOW_MS) == (None, NOW_MS + 2 * DAY)
    assert course(100, 2_000_000, 50, all_time, NOW_MS) == (None, None)


@pytest.mark.parametrize(
    ("effect", "words"),
    [("holds", "reached: it holds"), ("released", "holds nothing more"), ("none", "told only")],
)
def test_what_a_budget_does_is_said(effect: str, words: str) -> None:
    """A limit that is reached says whether it holds; it is not left to a colour."""
    text = Read(chain_budgets(measure(60, 50, threshold_effect=effect), 0, NOW_MS)).text
    assert words in text
    assert "nearly or wholly used up" in text


def test_both_limits_of_a_chain_are_rings() -> None:
    """Threshold and halt stand beside each other; without either, how to set one is told."""
    both = measure(60, 100, halt_tokens=200, halt_effect="ahead", unknown_usage_runs=1)
    text = Read(chain_budgets(both, 0, NOW_MS)).text
    assert "60 of 100 tokens this week" in text
    assert "60 of 200 tokens this week" in text
    assert "What 1 run used is not known" in text
    assert "usage_threshold_tokens" in Read(chain_budgets(measure(), 0, NOW_MS)).text


def test_a_tier_without_a_budget_tells_what_it_used() -> None:
    """Only who has a limit has a ring."""
    assert Read(meter(measure(12_345), 0, NOW_MS)).text == "12.3 k tokens this week"
    assert "12.3 k of 20 k" in Read(meter(measure(12_345, 20_000), 0, NOW_MS)).text.replace("\xa0", " ")
