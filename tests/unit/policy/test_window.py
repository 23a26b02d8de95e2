"""Calendar windows against a minute-by-minute walk of the wall clock, and against instants worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from locum.policy.window import Calendar, Window, window_at

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ZONES = (
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Madrid",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
)


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO moment, UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1000


FIRST, LAST = ms("1990-01-01"), ms("2040-12-31")


# The reference: it only ever asks what the clocks show at an instant, and walks.


def shown(zone: str, at_ms: int) -> datetime:
    """What the wall clock shows."""
    return datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone)).replace(tzinfo=None)


@cache
def walked_turn(zone: str, day: date, at_minutes: int) -> int:
    """The first whole minute at which the wall clock shows that minute of that day, or a later one."""
    wall = datetime.combine(day, time()) + timedelta(minutes=at_minutes)
    at_ms = int(wall.replace(tzinfo=UTC).timestamp()) * 1000 - 15 * HOUR  # no zone is further ahead than 14 h
    while shown(zone, at_ms) < wall:
        at_ms += MINUTE
    return at_ms


def starts_period(rule: Calendar, day: date) -> bool:
    """Whether a period of the rule starts on that day."""
    if rule.unit == "week":
        return day.weekday() == rule.weekday
    last_of_month = (day + timedelta(days=1)).month != day.month
    return rule.unit == "day" or day.day == rule.day or (last_of_month and day.day < rule.day)


def walked_window(rule: Calendar, now_ms: int) -> Window:
    """The window by brute force: every day around now, every minute of the days on which it turns."""
    reach = {"day": 3, "week": 10, "month": 40}[rule.unit]
    today = shown(rule.timezone, now_ms).date()
    days = (today + timedelta(days=n) for n in range(-reach, reach + 1))
    turns = [walked_turn(rule.timezone, day, rule.at_minutes) for day in days if starts_period(rule, day)]
    return Window(max(t for t in turns if t <= now_ms), min(t for t in turns if t > now_ms))


@cache
def changes(zone: str) -> tuple[int, ...]:
    """Noons near which the zone changes its offset."""

    def offset(at_ms: int) -> timedelta:
        return shown(zone, at_ms) - shown("UTC", at_ms)

    noons = range(FIRST + DAY // 2, LAST, DAY)
    return tuple(later for earlier, later in pairwise(noons) if offset(earlier) != offset(later))


@st.composite
def rules(draw: st.DrawFn) -> Calendar:
    """Any calendar rule, often one that turns while clocks change."""
    turning = st.sampled_from([0, 1, 15, 30, 60, 90, 105, 120, 135, 150, 180, 1380, 1410, 1439])
    return Calendar(
        draw(st.sampled_from(["day", "week", "month"])),
        draw(st.sampled_from(ZONES)),
        weekday=draw(st.integers(0, 6)),
        day=draw(st.integers(1, 31)),
        at_minutes=draw(turning | st.integers(0, 1439)),
    )


@st.composite
def rules_and_moments(draw: st.DrawFn) -> tuple[Calendar, int]:
    """A rule and a moment, half of them within two days of a change of the rule's clocks."""
    rule = draw(rules())
    anywhere = st.integers(FIRST, LAST)
    if not changes(rule.timezone):
        return rule, draw(anywhere)
    near = st.builds(int.__add__, st.sampled_from(changes(rule.timezone)), st.integers(-2 * DAY, 2 * DAY))
    return rule, draw(anywhere | near)


@settings(max_examples=400)
@given(rules_and_moments())
@example((Calendar("day", "America/St_Johns"), ms("2010-11-07T02:31")))
@example((Calendar("week", "Pacific/Apia", weekday=4), ms("2011-12-30T10:00")))
@example((Calendar("month", "Pacific/Kwajalein", day=21), ms("1993-08-21T12:00")))
def test_calendar_window_is_what_walking_the_clock_finds(case: tuple[Calendar, int]) -> None:
    """Any calendar window, in any zone and year, is the one found minute by minute."""
    rule, now_ms = case
    assert window_at(rule, now_ms) == walked_window(rule, now_ms)


@settings(max_examples=400)
@given(rules_and_moments())
def test_calendar_windows_tile_time(case: tuple[Calendar, int]) -> None:
    """Windows hold their moment, are never empty, and follow each other without gap or overlap."""
    rule, now_ms = case
    window = window_at(rule, now_ms)
    assert window.end_ms is not None
    assert window.start_ms <= now_ms < window.end_ms
    assert window.contains(now_ms)
    assert window_at(rule, window.start_ms) == window_at(rule, window.end_ms - 1) == window
    assert window_at(rule, window.end_ms).start_ms == window.end_ms
    assert window_at(rule, window.start_ms - 1).end_ms == window.start_ms


@given(rule=rules(), moments=st.lists(st.integers(FIRST, LAST), min_size=2, max_size=20))
def test_any_two_windows_are_the_same_or_apart(rule: Calendar, moments: list[int]) -> None:
    """Moments asked in any order never get windows that overlap in part."""
    windows = sorted({window_at(rule, now_ms) for now_ms in moments}, key=lambda window: window.start_ms)
    for earlier, later in pairwise(windows):
        assert earlier.end_ms is not None
        assert earlier.end_ms <= later.start_ms


@pytest.mark.parametrize("zone", ZONES)
def test_every_change_of_the_clocks(zone: str) -> None:
    """At each change of each zone's clocks, midnight and 02:30 days are the walked ones, an hour at a time."""
    for noon in changes(zone)[-12:]:
        for rule in (Calendar("day", zone), Calendar("day", zone, at_minutes=150)):
            for now_ms in range(noon - 36 * HOUR, noon + 12 * HOUR, HOUR):
                assert window_at(rule, now_ms) == walked_window(rule, now_ms)


@pytest.mark.parametrize(
    ("rule", "now", "start", "end"),
    [
        pytest.param(Calendar("day"), "2026-03-05T23:59:59", "2026-03-05", "2026-03-06", id="utc-day"),
        pytest.param(Calendar("week"), "2026-03-01T12:00", "2026-02-23", "2026-03-02", id="sunday-is-last"),
        pytest.param(Calendar("week"), "2026-03-02T00:00", "2026-03-02", "2026-03-09", id="monday-is-first"),
        pytest.param(Calendar("week", weekday=6), "2026-03-07", "2026-03-01", "2026-03-08", id="from-sunday"),
        pytest.param(
            Calendar("week", "Europe/Madrid", weekday=6, at_minutes=240),
            "2026-02-22T02:59:59",
            "2026-02-15T03:00",
            "2026-02-22T03:00",
            id="before-four-on-sunday-is-still-last-week",
        ),
        pytest.param(Calendar("month"), "2024-02-29T23:00", "2024-02-01", "2024-03-01", id="leap-february"),
        pytest.param(Calendar("month"), "2025-12-31T23:00", "2025-12-01", "2026-01-01", id="december"),
        pytest.param(Calendar("month", day=31), "2024-02-29", "2024-02-29", "2024-03-31", id="31st-leap-year"),
        pytest.param(Calendar("month", day=31), "2025-02-28", "2025-02-28", "2025-03-31", id="31st-common-year"),
        pytest.param(Calendar("month", day=31), "2025-04-29", "2025-03-31", "2025-04-30", id="31st-of-april"),
        pytest.param(Calendar("month", day=30), "2025-01-15", "2024-12-30", "2025-01-30", id="across-new-year"),
        pytest.param(Calendar("month", day=29), "2100-02-28", "2100-02-28", "2100-03-29", id="2100-is-no-leap-year"),
        pytest.param(
            Calendar("month", "Europe/Madrid", at_minutes=1439),
            "2026-03-01T22:58:59",
            "2026-02-01T22:59",
            "2026-03-01T22:59",
            id="last-minute-of-the-first",
        ),
        pytest.param(
            Calendar("day", "Europe/Madrid", at_minutes=150),
            "2024-03-31T01:00",
            "2024-03-31T01:00",
            "2024-04-01T00:30",
            id="madrid-gap-02:30-moves-to-03:00",
        ),
        pytest.param(
            Calendar("day", "Europe/Madrid", at_minutes=150),
            "2024-10-27T01:15",
            "2024-10-27T00:30",
            "2024-10-28T01:30",
            id="madrid-fold-first-02:30-counts",
        ),
        pytest.param(
            Calendar("day", "Europe/Dublin", at_minutes=90),
            "2024-03-31T01:00",
            "2024-03-31T01:00",
            "2024-04-01T00:30",
            id="dublin-gap",
        ),
        pytest.param(
            Calendar("day", "Europe/Dublin", at_minutes=90),
            "2024-10-27T01:29",
            "2024-10-27T00:30",
            "2024-10-28T01:30",
            id="dublin-fold",
        ),
        pytest.param(
            Calendar("day", "America/Sao_Paulo"),
            "2018-11-04T03:00",
            "2018-11-04T03:00",
            "2018-11-05T02:00",
            id="sao-paulo-has-no-midnight",
        ),
        pytest.param(
            Calendar("day", "America/Sao_Paulo"),
            "2018-02-18T02:30",
            "2018-02-17T02:00",
            "2018-02-18T03:00",
            id="sao-paulo-23:00-twice-is-one-day-of-25-hours",
        ),
        pytest.param(
            Calendar("day", "America/Havana"),
            "2024-11-03T05:30",
            "2024-11-03T04:00",
            "2024-11-04T05:00",
            id="havana-midnight-twice-first-counts",
        ),
        pytest.param(
            Calendar("day", "America/St_Johns"),
            "2010-11-07T03:00",
            "2010-11-07T02:30",
            "2010-11-08T03:30",
            id="st-johns-clock-goes-back-into-yesterday",
        ),
        pytest.param(
            Calendar("day", "Asia/Beirut"), "2024-03-30T22:00", "2024-03-30T22:00", "2024-03-31T21:00", id="beirut-gap"
        ),
        pytest.param(
            Calendar("day", "Africa/Cairo"), "2024-04-25T22:00", "2024-04-25T22:00", "2024-04-26T21:00", id="cairo-gap"
        ),
        pytest.param(
            Calendar("day", "Africa/Cairo"), "2024-10-31T21:30", "2024-10-30T21:00", "2024-10-31T22:00", id="cairo-fold"
        ),
        pytest.param(
            Calendar("day", "Australia/Lord_Howe", at_minutes=135),
            "2024-10-05T15:30",
            "2024-10-05T15:30",
            "2024-10-06T15:15",
            id="lord-howe-half-hour-gap",
        ),
        pytest.param(
            Calendar("day", "Australia/Lord_Howe", at_minutes=105),
            "2024-04-06T15:10",
            "2024-04-06T14:45",
            "2024-04-07T15:15",
            id="lord-howe-half-hour-fold",
        ),
        pytest.param(
            Calendar("day", "Pacific/Apia"), "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00", id="apia-skip"
        ),
        pytest.param(
            Calendar("day", "Pacific/Apia"), "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00", id="apia-29th"
        ),
        pytest.param(
            Calendar("week", "Pacific/Apia", weekday=4),
            "2011-12-30T10:00",
            "2011-12-30T10:00",
            "2012-01-05T10:00",
            id="apia-week-starts-on-the-friday-that-never-was",
        ),
        pytest.param(
            Calendar("day", "Pacific/Kwajalein"),
            "1993-08-21T12:00",
            "1993-08-21T12:00",
            "1993-08-22T12:00",
            id="kwajalein-skip",
        ),
        pytest.param(
            Calendar("month", "Europe/Madrid"), "1970-01-01", "1969-12-31T23:00", "1970-01-31T23:00", id="epoch"
        ),
    ],
)
def test_worked_out_by_hand(rule: Calendar, now: str, start: str, end: str) -> None:
    """Boundaries in gaps move to the end of the gap, in folds the first counts, short months are clamped."""
    assert window_at(rule, ms(now)) == Window(ms(start), ms(end))


@pytest.mark.parametrize("reset_day", [1, 5, 15, 28])
def test_reset_day_is_the_day_asked_for_not_one_computed_backwards(reset_day: int) -> None:
    """A month that resets on day 5 starts on the 5th, all year, not days before the 1st; ends meet the next start."""
    rule = Calendar("month", day=reset_day)
    for now_ms in range(ms("2026-01-01"), ms("2027-01-01"), DAY):
        window = window_at(rule, now_ms)
        assert window.end_ms is not None
        assert shown("UTC", window.start_ms).day == shown("UTC", window.end_ms).day == reset_day
        assert window_at(rule, window.end_ms).start_ms == window.end_ms


@pytest.mark.parametrize("day", [1, 30, 31])
def test_month_turns_twelve_times_a_year_not_every_thirty_days(day: int) -> None:
    """The 31st of a long month resets nothing by itself, and no February is passed over."""
    rule = Calendar("month", "America/New_York", day=day)
    moments = range(ms("2023-02-10"), ms("2024-02-10"), HOUR)
    assert len({window_at(rule, now_ms).start_ms for now_ms in moments}) == 13  # the one it began in, and twelve turns


def test_unknown_zone_is_refused() -> None:
    """A zone that does not exist is an error, never UTC in silence."""
    with pytest.raises(ZoneInfoNotFoundError):
        window_at(Calendar("day", "Europe/Atlantis"), LAST)
