"""Rolling windows, blocks and lifetimes, and what every kind of window has in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.policy.window import (
    Block,
    Calendar,
    Lifetime,
    Rolling,
    Window,
    WindowRule,
    block_start_for,
    describe,
    kind,
    timezone_of,
    window_at,
)

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO moment with its offset."""
    return int(datetime.fromisoformat(text).timestamp()) * 1000


FIRST, LAST = ms("1990-01-01T00Z"), ms("2040-12-31T00Z")


@pytest.mark.parametrize("rule", [Calendar("day", at_minutes=1), Block(1), Block(MINUTE), Rolling(1), Rolling(MINUTE)])
def test_short_windows_are_found_at_once_after_a_long_sleep(rule: WindowRule) -> None:
    """A window shorter than a day, first asked for after decades, is one answer and not a walk through all between."""
    now_ms = LAST
    window = window_at(rule, now_ms, block_start_ms=FIRST)
    assert now_ms - window.start_ms < DAY
    if isinstance(rule, Block):
        assert window == Window(now_ms, now_ms)
        assert block_start_for(rule, now_ms, FIRST) == now_ms


@given(st.lists(st.integers(0, HOUR - 1), min_size=1))
def test_looking_late_moves_no_boundary(lateness: list[int]) -> None:
    """However late after a boundary someone looks, windows do not drift from their rule."""
    day, block = Calendar("day", "Europe/Madrid"), Block(5 * HOUR)
    midnight = ms("2026-02-10T00:00+01:00")
    for late_ms in lateness:
        assert window_at(day, midnight + late_ms).start_ms == midnight
        assert window_at(block, midnight + late_ms, midnight) == Window(midnight, midnight + 5 * HOUR)


@given(now_ms=st.integers(FIRST, LAST), length_ms=st.integers(1, 40 * DAY), age_ms=st.integers(0, 41 * DAY))
def test_rolling_counts_what_is_younger_than_its_length(now_ms: int, length_ms: int, age_ms: int) -> None:
    """An entry counts while `at_ms > now_ms - length_ms`, to the millisecond, and the end is not fixed."""
    window = window_at(Rolling(length_ms), now_ms)
    assert window.end_ms is None
    assert window.contains(now_ms - age_ms) == (now_ms - age_ms > now_ms - length_ms)
    assert window.contains(now_ms - length_ms + 1)
    assert not window.contains(now_ms - length_ms)


def blocks_of(uses: list[int], length_ms: int) -> list[int]:
    """The reference: the first use not before the end of the last block starts the next one."""
    starts: list[int] = []
    while left := [use for use in uses if not starts or use >= starts[-1] + length_ms]:
        starts.append(min(left))
    return starts


@given(uses=st.lists(st.integers(0, 200), max_size=60), length_ms=st.integers(1, 60))
def test_blocks_of_uses_in_order_are_the_greedy_ones(uses: list[int], length_ms: int) -> None:
    """Uses told in order open exactly the blocks that cover them all, each by its first use."""
    rule, starts = Block(length_ms), list[int]()
    for use in sorted(uses):
        opened = block_start_for(rule, use, starts[-1] if starts else None)
        starts += [] if opened is None else [opened]
        assert window_at(rule, use, starts[-1]) == Window(starts[-1], starts[-1] + length_ms)
        assert window_at(rule, use, starts[-1]).contains(use)
    assert starts == blocks_of(uses, length_ms)


@given(uses=st.lists(st.integers(0, 200), max_size=60), length_ms=st.integers(1, 60))
def test_late_uses_never_move_a_stored_block(uses: list[int], length_ms: int) -> None:
    """Uses told in any order only ever add a block after the latest one; blocks never overlap."""
    rule, starts = Block(length_ms), list[int]()
    for use in uses:
        opened = block_start_for(rule, use, starts[-1] if starts else None)
        if opened is not None:
            assert opened == use
            assert not starts or opened >= starts[-1] + length_ms
            starts.append(opened)
        assert use < starts[-1] + length_ms, "a use after every block would have opened one"


def test_block_ends_with_its_last_millisecond() -> None:
    """The end of a block is not part of it: a use there opens the next one, and until then nothing counts."""
    rule, start = Block(5 * HOUR), ms("2026-02-10T07:13Z")
    end = start + 5 * HOUR
    assert window_at(rule, end - 1, start) == Window(start, end)
    assert block_start_for(rule, end - 1, start) is None
    assert window_at(rule, end, start) == Window(end, end)
    assert not window_at(rule, end, start).contains(end)
    assert block_start_for(rule, end, start) == end


@pytest.mark.parametrize("stored", [None, ms("2026-02-10T07:14Z")])
def test_no_block_is_open_before_the_first_use(stored: int | None) -> None:
    """Without a block that began by now, as when the clock was set back, the window is empty."""
    now_ms = ms("2026-02-10T07:13Z")
    assert window_at(Block(HOUR), now_ms, stored) == Window(now_ms, now_ms)


def test_lifetime_never_ends() -> None:
    """Everything counts for ever."""
    window = window_at(Lifetime(), LAST)
    assert window == Window(0, None)
    assert window.contains(0)
    assert window.contains(LAST * 100)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rolling(0),
        lambda: Block(-1),
        lambda: Calendar("month", day=0),
        lambda: Calendar("month", day=32),
        lambda: Calendar("week", weekday=7),
        lambda: Calendar("day", at_minutes=1440),
    ],
)
def test_rules_that_mean_nothing_cannot_be_made(make: Callable[[], WindowRule]) -> None:
    """A rule out of range, or without length, fails where it is made and not where it is used."""
    with pytest.raises(AssertionError):
        make()


@pytest.mark.parametrize(
    ("rule", "word", "zone", "text"),
    [
        (Calendar("day"), "day", "UTC", "the day starting 00:00 UTC"),
        (Calendar("week", "Europe/Madrid"), "week", "Europe/Madrid", "the week starting Monday 00:00 Europe/Madrid"),
        (Calendar("week", weekday=6, at_minutes=245), "week", "UTC", "the week starting Sunday 04:05 UTC"),
        (Calendar("month", day=31), "month", "UTC", "the month starting on day 31 00:00 UTC"),
        (Rolling(5 * HOUR), "rolling", None, "the last 5 h"),
        (Rolling(7 * DAY), "rolling", None, "the last 7 d"),
        (Rolling(90 * MINUTE), "rolling", None, "the last 90 min"),
        (Rolling(1_500), "rolling", None, "the last 1500 ms"),
        (Block(5 * HOUR), "block", None, "the 5 h from the first use"),
        (Lifetime(), "all", None, "all time"),
    ],
)
def test_rules_are_told_to_people(rule: WindowRule, word: str, zone: str | None, text: str) -> None:
    """Kind, zone and description say what the rule is; a zone is told only where one matters."""
    assert (kind(rule), timezone_of(rule), describe(rule)) == (word, zone, text)
