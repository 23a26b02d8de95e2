"""A vendor's reading is worth what its age and its window allow, and never more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.failure import HOUR, MINUTE, WINDOW_MS
from locum.policy.vendor import STALE_MS, Freshness, VendorWindow

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("age", "left", "expected"),
    [
        (0, HOUR, Freshness.CURRENT),
        (STALE_MS - 1, HOUR, Freshness.CURRENT),
        (STALE_MS, HOUR, Freshness.STALE),
        (STALE_MS - 1, None, Freshness.CURRENT),
        (STALE_MS, None, Freshness.STALE),
        (0, 0, Freshness.OVER),
        (0, 1, Freshness.CURRENT),
        (STALE_MS, -1, Freshness.OVER),
        (-STALE_MS, HOUR, Freshness.STALE),
    ],
)
def test_a_reading_ages_and_ends_with_its_window(age: int, left: int | None, expected: Freshness) -> None:
    """An hour makes it stale, the window's end makes it worthless, and a clock that was ahead makes it no fresher."""
    window = VendorWindow("acc", "five_hour", "allowed", NOW - age, 50.0, None if left is None else NOW + left)
    assert window.freshness(NOW) is expected


@given(st.sampled_from(sorted(WINDOW_MS)), st.integers(-(10**9), 10**9))
def test_a_window_began_its_length_before_its_end(name: str, left: int) -> None:
    """Our own count is taken over exactly the vendor's window."""
    assert VendorWindow("acc", name, "", NOW, None, NOW + left).began_ms == NOW + left - WINDOW_MS[name]


@pytest.mark.parametrize(("name", "reset_ms"), [("five_hour", None), ("rate_limits:primary", NOW + MINUTE)])
def test_a_beginning_is_never_guessed(name: str, reset_ms: int | None) -> None:
    """Without an end, or with a length that nobody knows, there is no beginning to count from."""
    assert VendorWindow("acc", name, "", NOW, None, reset_ms).began_ms is None
