"""Reset times are read in every wording vendors have used, and in no other."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.agents.resets import parse_reset


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO 8601 text."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = ms("2026-11-22T06:39:11Z")

WORDINGS = {
    "Claude AI usage limit reached|1755615600": "2025-08-19T15:00:00Z",
    "Claude AI usage limit reached|1755615600000": "2025-08-19T15:00:00Z",
    '{"type":"usage_limit_reached","resets_at":1795340511,"resets_in_seconds":13872}': "2026-11-22T09:41:51Z",
    "You've hit your session limit · resets 9:39am (UTC)": "2026-11-22T09:39:00Z",
    "You've hit your session limit · resets 12:50am (America/Los_Angeles)": "2026-11-22T08:50:00Z",
    "You've hit your weekly limit · resets Nov 25, 4:39am (UTC)": "2026-11-25T04:39:00Z",
    "You've hit your limit · resets May 5 at 9pm (America/New_York)": "2027-05-06T01:00:00Z",
    "You've hit your limit - resets Feb 7, 11am (Asia/Seoul)": "2027-02-07T02:00:00Z",
    "5-hour limit reached ∙ resets 5:30am": "2026-11-23T04:30:00Z",
    "Claude usage limit reached. Your limit will reset at 5pm (Europe/Warsaw).": "2026-11-22T16:00:00Z",
    "or try again at 9:41 AM.": "2026-11-22T08:41:00Z",
    "or try again at Nov 25th, 2026 4:41 AM.": "2026-11-25T03:41:00Z",
    "or try again at 16:41.": "2026-11-22T15:41:00Z",
    "or try again in 5 days 22 hours 11 minutes.": "2026-11-28T04:50:11Z",
    "Try again in 4 days, 20 hours and 9 minutes.": "2026-11-27T02:48:11Z",
    "Your quota will reset after 8h44m7s.": "2026-11-22T15:23:18Z",
    "Please retry in 30s.": "2026-11-22T06:39:41Z",
    "Suggested retry after 30s.": "2026-11-22T06:39:41Z",
    "Please retry in 1.5s.": "2026-11-22T06:39:12.500Z",
    "retry in 250ms": "2026-11-22T06:39:11.250Z",
    "retry-after: 30": "2026-11-22T06:39:41Z",
    "You will regain access on 2026-12-01 at 00:00 UTC.": "2026-12-01T00:00:00Z",
    "reset_at 2026-12-01T08:00:00+02:00": "2026-12-01T06:00:00Z",
    "resets 2026-12-01 08:00:30": "2026-12-01T07:00:30Z",
    "resets Dec 1 (UTC)": "2026-12-01T00:00:00Z",
    "You’ve hit your usage limit. Try again at 9:41 AM.": "2026-11-22T08:41:00Z",
}


@pytest.mark.parametrize(("text", "moment"), WORDINGS.items())
def test_every_known_wording_is_read(text: str, moment: str) -> None:
    """A time without a zone is the host's (here Madrid), a time with one is that zone's."""
    assert parse_reset(text, NOW, "Europe/Madrid") == ms(moment)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "You have used 90% of your session limit",
        "resets soon",
        "resets 13pm (UTC)",
        "resets 9:75am (UTC)",
        "resets 9:39am (Mars/Olympus)",
        "resets 9:39am (America)",
        "resets Foo 12, 4am (UTC)",
        "try again at Feb 30th, 2026 4:41 AM",
        "the build took 5 minutes",
        "in a moment",
        "see page |12",
    ],
)
def test_what_tells_no_placeable_moment_is_no_reset(text: str) -> None:
    """Nothing is guessed: not from warnings, impossible times, unknown zones or other numbers."""
    assert parse_reset(text, NOW, "UTC") is None


@pytest.mark.parametrize(
    ("now", "moment"),
    [
        ("2026-11-22T09:38:59Z", "2026-11-22T09:39:00Z"),
        ("2026-11-22T09:39:00Z", "2026-11-22T09:39:00Z"),
        ("2026-11-22T09:40:59Z", "2026-11-22T09:40:59Z"),
        ("2026-11-22T09:41:01Z", "2026-11-23T09:39:00Z"),
    ],
)
def test_a_time_of_day_just_past_is_now_and_not_tomorrow(now: str, moment: str) -> None:
    """Vendors cut seconds off: for two minutes such a time means now, later it means the next day."""
    assert parse_reset("resets 9:39am (UTC)", ms(now), "UTC") == ms(moment)


def test_midnight_just_past_is_now_on_the_day_before() -> None:
    """A minute to midnight told a minute after midnight is not a day away."""
    assert parse_reset("resets 11:59pm", ms("2026-11-23T00:00:30Z"), "UTC") == ms("2026-11-23T00:00:30Z")


def test_a_date_just_past_is_now_and_not_next_year() -> None:
    """A date without a year gets the same two minutes."""
    now = ms("2026-11-25T04:40:30Z")
    assert parse_reset("resets Nov 25, 4:39am (UTC)", now, "UTC") == now


def test_a_date_without_a_year_wraps_into_the_next() -> None:
    """Told on New Year's Eve, January is next year's; a leap day waits for its year."""
    assert parse_reset("resets Jan 2, 8am", ms("2026-12-31T12:00:00Z"), "UTC") == ms("2027-01-02T08:00:00Z")
    assert parse_reset("resets Feb 29, 8am", ms("2026-12-31T12:00:00Z"), "UTC") == ms("2028-02-29T08:00:00Z")


def test_an_unknown_host_zone_places_nothing() -> None:
    """A zone that does not exist is no reason to crash nor to guess."""
    assert parse_reset("resets 9:39am", NOW, "No/Where") is None
    assert parse_reset("resets 9:39am", NOW, "../../etc/passwd") is None


@given(st.text(max_size=300), st.integers(0, 4_102_444_800_000))
def test_no_text_makes_it_raise(text: str, now_ms: int) -> None:
    """Agents print anything; the answer is a moment or None."""
    assert parse_reset("resets " + text, now_ms, "UTC") is None or parse_reset("resets " + text, now_ms, "UTC") >= 0


@given(
    st.integers(ms("2025-01-01T00:00:00Z"), ms("2029-12-31T00:00:00Z")),
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata"]),
)
def test_a_time_of_day_is_the_next_such_moment(now_ms: int, hour: int, minute: int, zone: str) -> None:
    """It is never earlier than now, never more than about a day away, and reads as that time on a clock there."""
    half = "pm" if hour >= 12 else "am"
    told = parse_reset(f"resets {hour % 12 or 12}:{minute:02}{half} ({zone})", now_ms, "UTC")
    assert told is not None
    assert timedelta(0) <= timedelta(milliseconds=told - now_ms) <= timedelta(hours=25)
    there = datetime.fromtimestamp(told / 1000, ZoneInfo(zone))
    in_gap = there.replace(hour=hour, minute=minute, fold=0).utcoffset() != there.utcoffset()
    assert told == now_ms or (there.hour, there.minute) == (hour, minute) or in_gap
