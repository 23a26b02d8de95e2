"""When a limit is over, read from the sentence a person would read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_MINUTE_MS = 60_000
_JUST_NOW_MS = 2 * _MINUTE_MS
_LONGEST_TEXT = 4_000
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": _MINUTE_MS,
    "h": 60 * _MINUTE_MS,
    "d": 1_440 * _MINUTE_MS,
    "w": 10_080 * _MINUTE_MS,
}

_LEAD = r"\b(?:resets?|again|access|until)\b(?:\s+(?:at|on|by|around))?\s+"
_CLOCK = r"(?:(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s*(?P<half>[ap])\.?m\b|(?P<hour24>\d{1,2}):(?P<minute24>\d{2}))"
_ZONE = r"(?:\s*\(\s*(?P<zone>[A-Za-z][\w+/-]*)\s*\))?"
_SPAN = r"(\d{1,6}(?:\.\d{1,6})?)\s*(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|ms|m|seconds?|secs?|s)(?![a-z])"

_EPOCH = re.compile(r"(?:\||resets?_?at[\"']?\s*[:=])\s*(?P<epoch>\d{13}|\d{10})(?!\d)", re.IGNORECASE)
_ISO = re.compile(
    r"(?<!\d)(?P<date>\d{4}-\d{2}-\d{2})(?:T|\s+at\s+|\s)(?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"\s*(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?" + _ZONE,
    re.IGNORECASE,
)
_DATE = (
    rf"(?P<month>{'|'.join(_MONTHS)})" + r"[a-z]*\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?"
    r"(?:,?\s+(?P<year>\d{4})(?![\d:]))?"
)
_DATED = re.compile(_LEAD + _DATE + r"(?:,?\s*(?:at\s+)?" + _CLOCK + ")?" + _ZONE, re.IGNORECASE)
_IN = re.compile(r"\b(?:in|after)[:\s]\s*(?P<spans>(?:" + _SPAN + r"(?:\s*,?\s*(?:and\s+)?)?)+)", re.IGNORECASE)
_SECONDS = re.compile(r"\bretry[-_ ]after[\"']?\s*[:=]?\s*(?P<seconds>\d{1,8})(?!\d)", re.IGNORECASE)
_TODAY = re.compile(_LEAD + _CLOCK + _ZONE, re.IGNORECASE)


def parse_reset(text: str, now_ms: int, timezone: str) -> int | None:
    """The moment (epoch milliseconds) `text` says a limit is over, or None when it says none that can be placed.

    `now_ms` is when it was said; `timezone` (an IANA name) is where, for times told without a zone. A date
    without a year and a time of day mean the next such moment; one up to two minutes ago means now.
    """
    text = text[:_LONGEST_TEXT]
    for pattern, reader in _READERS:
        found = pattern.search(text)
        if found:
            try:
                return reader(found, now_ms, timezone)
            except (ValueError, OverflowError, OSError, KeyError):  # no such day, no such zone, year 9999
                return None
    return None


def _epoch(found: re.Match[str], _now_ms: int, _timezone: str) -> int:
    digits = found["epoch"]
    return int(digits) if len(digits) == 13 else int(digits) * 1_000


def _iso(found: re.Match[str], _now_ms: int, timezone: str) -> int:
    offset = (found["offset"] or "").upper().replace("UTC", "Z").replace("GMT", "Z")
    moment = datetime.fromisoformat(f"{found['date']}T{found['time']}{offset}")
    return _ms(moment if offset else moment.replace(tzinfo=_zone(found, timezone)))


def _dated(found: re.Match[str], now_ms: int, timezone: str) -> int | None:
    zone = _zone(found, timezone)
    hour, minute = _hour_minute(found)
    month, day = _MONTHS.index(found["month"].lower()) + 1, int(found["day"])
    if found["year"]:
        return _ms(datetime(int(found["year"]), month, day, hour, minute, tzinfo=zone))
    this_year = datetime.fromtimestamp(now_ms / 1000, zone).year
    for year in range(this_year, this_year + 9):  # nine, because the 29th of February can be eight years away
        try:
            moment_ms = _ms(datetime(year, month, day, hour, minute, tzinfo=zone))
        except ValueError:
            continue
        if moment_ms >= now_ms - _JUST_NOW_MS:
            return max(moment_ms, now_ms)
    return None


def _in(found: re.Match[str], now_ms: int, _timezone: str) -> int:
    spans = re.findall(_SPAN, found["spans"], re.IGNORECASE)
    return now_ms + sum(round(float(number) * _unit_ms(unit.lower())) for number, unit in spans)


def _seconds(found: re.Match[str], now_ms: int, _timezone: str) -> int:
    return now_ms + int(found["seconds"]) * 1_000


def _today(found: re.Match[str], now_ms: int, timezone: str) -> int:
    zone = _zone(found, timezone)
    hour, minute = _hour_minute(found)
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    moments = (
        _ms(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone))
        for day in (today + timedelta(days=away) for away in (-1, 0, 1))
    )
    return max(now_ms, next(moment for moment in moments if moment >= now_ms - _JUST_NOW_MS))


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int, str], int | None]], ...] = (
    (_EPOCH, _epoch),
    (_ISO, _iso),
    (_DATED, _dated),
    (_IN, _in),
    (_SECONDS, _seconds),
    (_TODAY, _today),
)


def _unit_ms(unit: str) -> int:
    return _UNIT_MS["ms" if unit == "ms" else unit[0]]


def _hour_minute(found: re.Match[str]) -> tuple[int, int]:
    if found["hour24"]:
        return int(found["hour24"]), int(found["minute24"])
    if not found["hour"]:
        return 0, 0
    hour = int(found["hour"])
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if found["half"].lower() == "p" else 0), int(found["minute"] or 0)


def _zone(found: re.Match[str], timezone: str) -> tzinfo:
    return ZoneInfo(found["zone"] or timezone)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
