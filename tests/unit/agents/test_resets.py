"""Reset times are read in every wording vendors have used, and in no other."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.agents.resets import parse_reset
from locum.policy.failure import CLAMP_MS, Failure, FailureKind, hold_until_ms


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
    "You’ve hit your usage limit. Try again at 9:41\u202fAM.": "2026-11-22T08:41:00Z",
    "Please retry in 34.074824224s.": "2026-11-22T06:39:45.075Z",
    "resets in about 2 hours": "2026-11-22T08:39:11Z",
    "Your usage limits will reset when your monthly cycle ends on 11/17/2026": "2026-11-16T23:00:00Z",
    "Your usage limits will reset when your monthly cycle ends on 11/17/2025": "2025-11-16T23:00:00Z",
    "resets on 25/11/2026 at 4:39am (UTC)": "2026-11-25T04:39:00Z",
    "your cycle ends on Dec 1, 2026": "2026-11-30T23:00:00Z",
    '{"type":"usage_limit_reached","resets_in_seconds":13872}': "2026-11-22T10:30:23Z",
    "X-Codex-Primary-Reset-At: 1795340511": "2026-11-22T09:41:51Z",
    "Retry-After: Sun, 22 Nov 2026 09:41:51 GMT": "2026-11-22T09:41:51Z",
    '{"retry_after_seconds": 30}': "2026-11-22T06:39:41Z",
    "retry-after-ms: 250": "2026-11-22T06:39:11.250Z",
    "The team allowance is used up, back at 9pm": "2026-11-22T20:00:00Z",
    "The allowance is used up. It will be back on Nov 25 at 4:39am (UTC).": "2026-11-25T04:39:00Z",
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
        "resets on 13/13/2026",
        "resets on 2/30/2026",
        "the stream ends at 5pm",
        "we fell back at 9pm to another model",
        "the change was rolled back at 16:41",
        "the roll-back at 9pm",
        "looking back on Nov 25, 2026",
        "be back soon",
        "Renews on Monday",
        "resets in 999999 weeks",
        "resets on 11/17/9999",
        "retry-after: Sun, 31 Feb 2026 09:41:51 GMT",
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


ZONES = ("UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns")
CHANGES = ("2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00", "2026-10-03T15:30")
MINUTE = 60_000
moments = st.integers(ms("2025-01-01T00:00Z") // 1000, ms("2029-12-31T00:00Z") // 1000) | st.builds(
    lambda change, seconds: ms(f"{change}Z") // 1000 + seconds,
    st.sampled_from(CHANGES),
    st.integers(-100_000, 100_000),
)
"""Seconds, many of them near a change of the clocks somewhere."""


def wall(at_ms: int, zone: str) -> datetime:
    """What a clock in `zone` shows."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))


def shown_next(now_ms: int, zone: str, hour: int, minute: int) -> int:
    """The first whole minute from two minutes ago on at which a clock in `zone` shows that time: by looking at each.

    A clock that nobody has put forward yet counts as well, as long as what it shows is skipped by the others.
    """
    at = -(-(now_ms - 2 * MINUTE) // MINUTE) * MINUTE
    while True:
        there = wall(at, zone)
        if (there.hour, there.minute) == (hour, minute):
            return max(at, now_ms)
        skipped = (wall(at, zone).utcoffset() or timedelta()) - (
            wall(at - 60 * MINUTE, zone).utcoffset() or timedelta()
        )
        late = there - skipped
        if skipped > timedelta(0) and (late.hour, late.minute) == (hour, minute):
            before = datetime(late.year, late.month, late.day, hour, minute, tzinfo=ZoneInfo(zone))
            if wall(round(before.timestamp() * 1000), zone).replace(tzinfo=None) != before.replace(tzinfo=None):
                return max(at, now_ms)
        at += MINUTE


@given(moments, st.integers(0, 23), st.integers(0, 59), st.sampled_from(ZONES))
def test_a_time_of_day_is_the_next_such_moment(now: int, hour: int, minute: int, zone: str) -> None:
    """As found by looking at the clock there minute by minute, also where clocks skip an hour or show it twice."""
    half = "pm" if hour >= 12 else "am"
    expected = shown_next(now * 1000, zone, hour, minute)
    for text in (
        f"You’ve hit your session limit · resets {hour % 12 or 12}:{minute:02}{half} ({zone})",
        f"5-hour limit reached ∙ resets {hour % 12 or 12}:{minute:02} {half.upper()} ({zone})",
        f"try again at {hour:02}:{minute:02} ({zone}).",
        f"The allowance is used up, back at {hour % 12 or 12}:{minute:02}{half} ({zone})",
    ):
        assert parse_reset(text, now * 1000, "Asia/Tokyo") == expected
    assert parse_reset(f"try again at {hour % 12 or 12}:{minute:02} {half.upper()}.", now * 1000, zone) == expected


@given(moments, moments, st.sampled_from(ZONES))
def test_a_moment_written_out_is_read_back(now: int, then: int, zone: str) -> None:
    """Any moment, told as epoch, ISO, HTTP date or a date on a clock in some zone, is that moment to the unit told."""
    then_ms, minute_ms = then * 1000, then // 60 * MINUTE
    iso = datetime.fromtimestamp(then, ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%S")
    there = wall(then_ms, zone)
    offset = there.isoformat()
    for text in (
        f"Claude AI usage limit reached|{then}",
        f'{{"resets_at":{then},"resets_in_seconds":5}}',
        f"resets at {iso}Z",
        f"resets at {iso}.123+00:00",
        f"You will regain access on {iso[:10]} at {iso[11:]} UTC.",
        f"resets {offset}",
        f"retry-after: {datetime.fromtimestamp(then, ZoneInfo('UTC')):%a, %d %b %Y %H:%M:%S} GMT",
    ):
        assert parse_reset(text, now * 1000, "Asia/Tokyo") == then_ms
    suffix = "th" if 4 <= there.day <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(there.day % 10, "th")
    shown_twice = there.replace(fold=0).utcoffset() != there.replace(fold=1).utcoffset()
    for text in (
        f"try again at {there:%b} {there.day}{suffix}, {there.year} {there:%I:%M %p}",
        f"resets {there:%B} {there.day}, {there.year} at {there:%H:%M}",
        f"It comes back on {there:%B} {there.day}, {there.year} at {there:%H:%M}",
        f"your monthly cycle ends on {there.month}/{there.day}/{there.year} {there:%I:%M %p}",
        f"resets {there:%Y-%m-%d %H:%M}",
    ):
        told = parse_reset(text, now * 1000, zone)
        assert told is not None
        assert told == minute_ms or (
            shown_twice
            and wall(told, zone).replace(tzinfo=None, fold=0) == wall(minute_ms, zone).replace(tzinfo=None, fold=0)
        )
        assert told == parse_reset(f"{text} ({zone})", now * 1000, "Asia/Tokyo")


@given(moments, st.integers(0, 300 * 1440), st.sampled_from(ZONES))
def test_a_date_without_a_year_is_the_next_such_date(now: int, minutes: int, zone: str) -> None:
    """What is at most ten months ahead and told without its year is read as exactly that."""
    then_ms = (now // 60 + minutes) * MINUTE
    there = wall(then_ms, zone)
    told = parse_reset(f"resets {there:%b} {there.day}, {there:%I:%M%p} ({zone})", now * 1000, "Asia/Tokyo")
    assert told is not None
    if there.replace(fold=0).utcoffset() == there.replace(fold=1).utcoffset():
        assert told == max(then_ms, now * 1000)
    assert wall(told, zone).strftime("%m-%d %H:%M") == there.strftime("%m-%d %H:%M") or told == now * 1000


@given(moments, st.lists(st.integers(0, 60), min_size=4, max_size=4), st.booleans())
def test_a_span_is_added_to_now(now: int, parts: list[int], short: bool) -> None:
    """Days, hours, minutes and seconds, spelled out or not, those that are zero left out, are that long from now."""
    names = ("d", "h", "m", "s") if short else (" days", " hours", " minutes", " seconds")
    told = ("" if short else " ").join(f"{n}{name}" for n, name in zip(parts, names, strict=True) if n)
    span = timedelta(days=parts[0], hours=parts[1], minutes=parts[2], seconds=parts[3])
    if told:
        for text in (f"Your quota will reset after {told}.", f"or try again in {told}.", f"Please retry in {told}"):
            assert parse_reset(text, now * 1000, "Asia/Tokyo") == now * 1000 + span // timedelta(milliseconds=1)


@given(moments, st.integers(-40 * 1440, 40 * 1440), st.sampled_from([None, *CLAMP_MS]))
def test_what_is_believed_is_clamped_by_its_window(now: int, minutes: int, window: str | None) -> None:
    """However far away a sentence puts it, a limit holds no longer than its window can, and never into the past."""
    now_ms = now * 1000
    reset_ms = parse_reset(f"limit reached|{now + minutes * 60}", now_ms, "UTC")
    until_ms = hold_until_ms(Failure(FailureKind.USAGE_LIMIT, reset_ms=reset_ms, window=window), 1, now_ms)
    longest_h = {None: 8 * 24, "five_hour": 6, "daily": 25, "seven_day": 8 * 24, "monthly": 32 * 24}[window]
    assert until_ms is not None
    if minutes < -2:
        assert until_ms == now_ms + 30 * MINUTE  # stale: as if none was told
    else:
        assert until_ms == min(max(now_ms + minutes * MINUTE, now_ms + 5_000), now_ms + longest_h * 60 * MINUTE)
