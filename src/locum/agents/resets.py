"""When a limit is over, read from the sentence a person would read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_MINUTE_MS = 60_000
_JUST_NOW_MS = 2 * _MINUTE_MS
_LONGEST_TEXT = 4_000
_LATEST_MS = 1 << 43  # in the year 2248; no calendar that a vendor writes goes as far
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": _MINUTE_MS,
    "h": 60 * _MINUTE_MS,
    "d": 1_440 * _MINUTE_MS,
    "w": 10_080 * _MINUTE_MS,
}

_BACK = r"(?:^|\(|[,;:.·∙-] |\b(?:be|is|are|comes?) )back(?= (?:at|on) )"  # and not "rolled back at"
_LEAD = rf"(?:\b(?:resets?|again|access|until|ends(?= on ))|{_BACK})(?: (?:at|on|by|around))? "
_CLOCK = r"(?:(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))? ?(?P<half>[ap])\.?m\b|(?P<hour24>\d{1,2}):(?P<minute24>\d{2}))"
_AT = r"(?:,? ?(?:at )?" + _CLOCK + ")?"
_ZONE = r"(?: ?\( ?(?P<zone>[A-Za-z][\w+/-]*) ?\))?"
_SPAN = r"(\d{1,6}(?:\.\d{1,20})?) ?(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|ms|m|seconds?|secs?|s)(?![a-z])"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"

_EPOCH = re.compile(r"(?:\||resets?[-_]?at[\"']? ?[:=]) ?(?P<epoch>\d{13}|\d{10})(?!\d)", re.IGNORECASE)
_ISO = re.compile(
    r"(?<!\d)(?P<date>\d{4}-\d{2}-\d{2})(?:T| at | )(?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r" ?(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?" + _ZONE,
    re.IGNORECASE,
)
_HTTP_DATE = re.compile(
    rf"\bretry-after[\"']? ?[:=]? ?[\"']?[A-Za-z]{{3}}, (?P<day>\d{{1,2}}) {_MONTH} (?P<year>\d{{4}})"
    r" (?P<time>\d{2}:\d{2}:\d{2}) GMT",
    re.IGNORECASE,
)
_DATED = re.compile(
    _LEAD + _MONTH + r" (?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,? (?P<year>\d{4})(?![\d:]))?" + _AT + _ZONE, re.IGNORECASE
)
_SLASHED = re.compile(_LEAD + r"(?P<one>\d{1,2})/(?P<two>\d{1,2})/(?P<year>\d{4})(?!\d)" + _AT + _ZONE, re.IGNORECASE)
_IN = re.compile(
    r"\b(?:in|after)[: ] ?(?:about |~ ?)?(?P<spans>(?:" + _SPAN + r"(?: ?,? ?(?:and )?)?)+)", re.IGNORECASE
)
_SECONDS = re.compile(
    r"\b(?:retry[-_ ]after|resets?_in)(?:[-_](?P<unit>ms|seconds))?[\"']? ?[:=]? ?[\"']?(?P<count>\d{1,9})(?!\d)",
    re.IGNORECASE,
)
_TODAY = re.compile(_LEAD + _CLOCK + _ZONE, re.IGNORECASE)


def parse_reset(text: str, now_ms: int, timezone: str) -> int | None:
    """The moment (epoch milliseconds) `text` says a limit is over, or None when it says none that can be placed.

    `now_ms` is when it was said; `timezone` (an IANA name) is where, for times told without a zone. A date
    without a year and a time of day mean the next such moment; one up to two minutes ago means now. A time that
    the clocks skip is that much after the change; of one that they show twice the first that is to come counts.
    11/17/2025 is the 17th of November, as the one vendor who writes so means it, wherever that can be a date.
    """
    text = " ".join(text[:_LONGEST_TEXT].split())
    for pattern, reader in _READERS:
        found = pattern.search(text)
        if found:
            try:
                moment = reader(found, now_ms, timezone)
            except (ValueError, OverflowError, OSError, KeyError):  # no such day, no such zone, year 9999
                return None
            return moment if moment is not None and 0 <= moment < _LATEST_MS else None
    return None


def _epoch(found: re.Match[str], _now_ms: int, _timezone: str) -> int:
    digits = found["epoch"]
    return int(digits) if len(digits) == 13 else int(digits) * 1_000


def _iso(found: re.Match[str], now_ms: int, timezone: str) -> int:
    offset = (found["offset"] or "").upper().replace("UTC", "Z").replace("GMT", "Z")
    moment = datetime.fromisoformat(f"{found['date']}T{found['time']}{offset}")
    return _ms(moment) if offset else _first(_moments(moment, _zone(found, timezone)), now_ms)


def _http_date(found: re.Match[str], _now_ms: int, _timezone: str) -> int:
    month = _MONTHS.index(found["month"].lower()) + 1
    return _ms(datetime.fromisoformat(f"{found['year']}-{month:02}-{int(found['day']):02}T{found['time']}Z"))


def _dated(found: re.Match[str], now_ms: int, timezone: str) -> int | None:
    zone, month, day = _zone(found, timezone), _MONTHS.index(found["month"].lower()) + 1, int(found["day"])
    hour, minute = _hour_minute(found)
    if found["year"]:
        return _first(_moments(datetime(int(found["year"]), month, day, hour, minute), zone), now_ms)  # noqa: DTZ001
    this_year = datetime.fromtimestamp(now_ms / 1000, zone).year
    for year in range(this_year, this_year + 9):  # nine, because the 29th of February can be eight years away
        try:
            moments = list(_moments(datetime(year, month, day, hour, minute), zone))  # noqa: DTZ001 - as on a clock
        except ValueError:
            continue
        if moments[-1] >= now_ms - _JUST_NOW_MS:
            return max(_first(moments, now_ms), now_ms)
    return None


def _slashed(found: re.Match[str], now_ms: int, timezone: str) -> int:
    one, two = int(found["one"]), int(found["two"])
    month, day = (one, two) if one <= 12 else (two, one)
    moment = datetime(int(found["year"]), month, day, *_hour_minute(found))  # noqa: DTZ001 - as on a clock
    return _first(_moments(moment, _zone(found, timezone)), now_ms)


def _in(found: re.Match[str], now_ms: int, _timezone: str) -> int:
    spans = re.findall(_SPAN, found["spans"], re.IGNORECASE)
    return now_ms + sum(round(float(number) * _unit_ms(unit.lower())) for number, unit in spans)


def _seconds(found: re.Match[str], now_ms: int, _timezone: str) -> int:
    return now_ms + int(found["count"]) * (1 if (found["unit"] or "").lower() == "ms" else 1_000)


def _today(found: re.Match[str], now_ms: int, timezone: str) -> int:
    zone = _zone(found, timezone)
    hour, minute = _hour_minute(found)
    today = datetime.fromtimestamp(now_ms / 1000, zone).replace(tzinfo=None, hour=hour, minute=minute, second=0)
    days = (today.replace(microsecond=0) + timedelta(days=away) for away in (-1, 0, 1))
    return max(now_ms, _first((moment for day in days for moment in _moments(day, zone)), now_ms))


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], int, str], int | None]], ...] = (
    (_EPOCH, _epoch),
    (_ISO, _iso),
    (_HTTP_DATE, _http_date),
    (_DATED, _dated),
    (_SLASHED, _slashed),
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


def _moments(clock: datetime, zone: tzinfo) -> Iterator[int]:
    """The moments at which clocks in `zone` show `clock`, first to last: one, or two where they are put back."""
    first = _ms(clock.replace(tzinfo=zone, fold=0))
    yield first
    again = _ms(clock.replace(tzinfo=zone, fold=1))
    if again > first:  # an earlier one would be a time that is skipped
        yield again


def _first(moments: Iterable[int], now_ms: int) -> int:
    """The first of `moments` that is not past, else the last."""
    moment = now_ms
    for moment in moments:
        if moment >= now_ms - _JUST_NOW_MS:
            break
    return moment


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
