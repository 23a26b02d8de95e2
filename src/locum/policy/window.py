"""The period a budget counts over: from a rule and a moment to a half-open interval."""

from __future__ import annotations

from calendar import day_name, monthrange
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall times are kept naive so that no arithmetic crosses a zone unseen
_UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days, weeks or months of a time zone's calendar.

    `weekday` (0 = Monday) starts a week; `day` (1-31, clamped to short months) starts a month;
    `at_minutes` (0-1439) is the local minute of the day at which the period turns; `timezone` an IANA name.
    """

    unit: Literal["day", "week", "month"]
    timezone: str = "UTC"
    weekday: int = 0
    day: int = 1
    at_minutes: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.weekday <= 6, "a weekday is 0 (Monday) to 6 (Sunday)"
        assert 1 <= self.day <= 31, "a day of the month is 1 to 31"
        assert 0 <= self.at_minutes <= 1439, "a minute of the day is 0 to 1439"


@dataclass(frozen=True, slots=True)
class Rolling:
    """The last `length_ms`, at any moment: an entry counts while `at_ms > now_ms - length_ms`."""

    length_ms: int

    def __post_init__(self) -> None:
        assert self.length_ms > 0, "a rolling window has a length"


@dataclass(frozen=True, slots=True)
class Block:
    """Starts with the first use after the last block ended, as vendor sessions do, and lasts `length_ms`."""

    length_ms: int

    def __post_init__(self) -> None:
        assert self.length_ms > 0, "a block has a length"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Everything, for ever: it never starts again."""


WindowRule = Calendar | Rolling | Block | Lifetime


@dataclass(frozen=True, slots=True)
class Window:
    """The moments from `start_ms` (counted) to `end_ms` (not counted any more), epoch milliseconds.

    `end_ms` None: the end is not fixed, because the window moves with time or never ends.
    """

    start_ms: int
    end_ms: int | None

    def contains(self, at_ms: int) -> bool:
        """Whether what happened at `at_ms` counts in this window."""
        return self.start_ms <= at_ms and (self.end_ms is None or at_ms < self.end_ms)


def window_at(rule: WindowRule, now_ms: int, block_start_ms: int | None = None) -> Window:
    """The window of `rule` that `now_ms` falls into.

    `block_start_ms` is the stored start of the latest block that began at or before `now_ms`; other rules
    do not read it. While no block is open the window is empty: `Window(now_ms, now_ms)`. A rolling window
    starts one millisecond after `now_ms - length_ms`, since an entry exactly that old has just aged out.
    Raises `zoneinfo.ZoneInfoNotFoundError` for a time zone that does not exist.
    """
    match rule:
        case Calendar():
            return _calendar_window(rule, now_ms)
        case Rolling(length_ms):
            return Window(now_ms - length_ms + 1, None)
        case Block(length_ms):
            if block_start_ms is not None and block_start_ms <= now_ms < block_start_ms + length_ms:
                return Window(block_start_ms, block_start_ms + length_ms)
            return Window(now_ms, now_ms)
        case Lifetime():
            return Window(0, None)


def block_start_for(rule: Block, at_ms: int, latest_start_ms: int | None) -> int | None:
    """The start to store when a use at `at_ms` opens a block; None when it opens none.

    A use inside the latest block belongs to it, and one that is told late, from before that block, never
    moves what is stored.
    """
    opens = latest_start_ms is None or at_ms >= latest_start_ms + rule.length_ms
    return at_ms if opens else None


def kind(rule: WindowRule) -> str:
    """What sort of window it is, in one word: `day`, `week`, `month`, `rolling`, `block` or `all`."""
    match rule:
        case Calendar(unit):
            return unit
        case Rolling():
            return "rolling"
        case Block():
            return "block"
        case Lifetime():
            return "all"


def timezone_of(rule: WindowRule) -> str | None:
    """The IANA name of the zone whose calendar is meant; None where no calendar is involved."""
    return rule.timezone if isinstance(rule, Calendar) else None


def describe(rule: WindowRule) -> str:
    """The rule for people: `the week starting Monday 00:00 Europe/Madrid`, `the last 5 h`."""
    match rule:
        case Calendar(unit, zone, weekday, day, minutes):
            first = {"day": "", "week": f"{day_name[weekday]} ", "month": f"on day {day} "}[unit]
            return f"the {unit} starting {first}{minutes // 60:02}:{minutes % 60:02} {zone}"
        case Rolling(length_ms):
            return f"the last {_length(length_ms)}"
        case Block(length_ms):
            return f"the {_length(length_ms)} from the first use"
        case Lifetime():
            return "all time"


def _length(length_ms: int) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS_MS if length_ms % size == 0)
    return f"{length_ms // size} {unit}"


def _calendar_window(rule: Calendar, now_ms: int) -> Window:
    wall = _wall(rule.timezone, now_ms // 1000)
    first = _first_day(rule, (wall - timedelta(minutes=rule.at_minutes)).date())
    start_ms = _turn_ms(rule, first)
    following = _next_first_day(rule, first)
    end_ms = _turn_ms(rule, following)
    # Behind a boundary already when clocks went back across it: it turned on the first pass, and only then.
    while end_ms <= now_ms:
        start_ms, following = end_ms, _next_first_day(rule, following)
        end_ms = _turn_ms(rule, following)
    return Window(start_ms, end_ms)


def _first_day(rule: Calendar, day: date) -> date:
    """The last day up to `day` on which a period starts."""
    match rule.unit:
        case "day":
            return day
        case "week":
            return day - timedelta(days=(day.weekday() - rule.weekday) % 7)
        case "month":
            months = day.year * 12 + day.month - 1
            first = _day_of_month(months, rule.day)
            return first if first <= day else _day_of_month(months - 1, rule.day)


def _next_first_day(rule: Calendar, first: date) -> date:
    """The day on which the period after the one of `first` starts."""
    if rule.unit == "month":
        return _day_of_month(first.year * 12 + first.month, rule.day)
    return first + timedelta(days=7 if rule.unit == "week" else 1)


def _day_of_month(months: int, day: int) -> date:
    """Day `day` of the month that is `months` after January of year 0, or that month's last day."""
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(day, monthrange(year, month)[1]))


def _turn_ms(rule: Calendar, first: date) -> int:
    """The instant (epoch milliseconds) at which the period whose first day is `first` starts."""
    return _instant_ms(rule.timezone, datetime.combine(first, time()) + timedelta(minutes=rule.at_minutes))


@lru_cache(maxsize=4096)
def _instant_ms(zone: str, wall: datetime) -> int:
    """The first instant (epoch milliseconds) at which the clocks of `zone` show `wall` or have leapt past it."""
    late = _seconds(wall, zone, fold=0)
    if _wall(zone, late) == wall:
        return late * 1000
    early = _seconds(wall, zone, fold=1)
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (early, middle) if _wall(zone, middle) >= wall else (middle, late)
    return late * 1000


def _seconds(wall: datetime, zone: str, *, fold: Literal[0, 1]) -> int:
    """Epoch seconds of `wall` by the offset before (fold 0) or after (fold 1) the change it may lie in."""
    offset = wall.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset()
    assert offset is not None, "a named zone always has an offset"
    return (wall - offset - _EPOCH) // timedelta(seconds=1)


def _wall(zone: str, seconds: int) -> datetime:
    """What the clocks of `zone` show at an instant (epoch seconds), without the zone."""
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).replace(tzinfo=None, fold=0)
