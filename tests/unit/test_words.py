"""How moments and spans are said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.words import cause, count, due, from_iso, iso, moment, size, span

NOW = int(datetime(2026, 11, 22, 2, 50, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (45, "45 s"),
        (90, "1 min 30 s"),
        (7199.9, "2 h"),
        (7800, "2 h 10 min"),
        (3599, "59 min 59 s"),
        (86_399, "1 d"),
        (90_000, "1 d 1 h"),
        (172_799, "2 d"),
        (30 * 86_400 + 60, "30 d"),
    ],
)
def test_spans_are_said_in_two_units(seconds, words):
    """A span is rounded to what one would say, so that two hours just asked for are not 1 h 59 min."""
    assert span(int(seconds * 1000)) == words


@given(st.integers(0, 10**12))
def test_a_span_is_never_far_from_the_truth(length_ms):
    """Rounding costs at most half of the smallest unit that is said."""
    sizes = {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1000}
    words = span(length_ms).split()
    said = sum(int(number) * sizes[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    smallest = 3_600_000 if length_ms >= 86_400_000 else 60_000 if length_ms >= 3_600_000 else 1000
    assert abs(said - length_ms) <= smallest
    assert len(words) <= 4


@given(st.integers(0, 253_402_300_799_999))
def test_iso_can_be_read_back(at_ms):
    """What is written for programs names the very millisecond, in UTC."""
    text = iso(at_ms)
    assert text.endswith("Z")
    assert from_iso(text) == at_ms


def test_no_moment_stays_none():
    """Unknown is null, not 1970."""
    assert iso(None) is None
    assert from_iso(None) is None


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(hours=2), "04:50"),
        (timedelta(days=1), "Mon 02:50"),
        (timedelta(days=6), "Sat 02:50"),
        (timedelta(days=7), "2026-11-29 02:50"),
        (timedelta(days=-1), "2026-11-21 02:50"),
    ],
)
def test_moments_are_said_as_near_as_they_are(ahead, words):
    """A weekday is only said where it can mean one day."""
    assert moment(NOW + int(ahead.total_seconds() * 1000), NOW, UTC) == words


def test_a_coming_moment_says_how_far_it_is():
    """Both the clock and the wait are told."""
    assert due(NOW + 7_800_000, NOW, UTC) == "05:00 (in 2 h 10 min)"


def test_one_is_not_plural():
    """Numbers agree with their nouns."""
    assert (count(1, "task"), count(2000, "task"), count(0, "hold")) == ("1 task", "2,000 tasks", "0 holds")


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "1 byte"), (100, "100 bytes"), (64 << 10, "64K"), (64 << 20, "64M"), (3 << 29, "1.5G"), (2 << 40, "2T")],
)
def test_sizes_are_said_as_they_are_written_in_the_file(number, words):
    """Who wrote `64M` reads `64M`."""
    assert size(number) == words


@pytest.mark.parametrize(
    ("kind", "words"),
    [("operator", "the operator"), ("unknown", "an unknown failure"), ("usage_limit", "usage_limit")],
)
def test_a_cause_reads_as_one(kind, words):
    """`held by …` is a sentence whatever the kind is called."""
    assert cause(kind) == words
