"""A recorded run made anew: its ids, session, times and token counts belong to the run that plays it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from locum.drill.recordings import Recording
from locum.policy.usage import Tokens

_SOON_MS = 20 * 60_000
"""What a recording dates later than this after its beginning is no timestamp, but the end of a limit."""
_FAR_MS = 400 * 86_400_000
_MINUTE_MS = 60_000
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ID = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_.:-]{8,200}")
_ID_KEY = re.compile(r"(?!model|provider|agent)\w*(?:id|uuid)", re.IGNORECASE)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})")
_EPOCH = re.compile(r"(?<![\w.-])1[5-9]\d{8}(?:\d{3})?(?![\w-])")
_CLOCK = re.compile(
    rf"(?:(?P<month>{'|'.join(_MONTHS)}) (?P<day>\d{{1,2}})(?P<th>st|nd|rd|th)?(?P<year>, \d{{4}})?"
    r"(?P<at>,? (?:at )?))?"
    r"\b(?P<hour>\d{1,2}):(?P<minute>\d{2})(?P<space> ?)(?P<half>[ap]m|[AP]M)\b(?P<utc> \(UTC\))?"
)
_COUNTS = frozenset(
    {
        "input", "output", "cached", "cacheRead", "cacheWrite", "cache_read", "cache_write", "read", "write",
        "reasoning", "thoughts", "tool", "total",
    }
)  # fmt: skip
_NO_COUNT = re.compile(r"max|limit|window|budget|per_|time|first", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """What a stand-in says: its streams and its transcript. `reset_ms` is the end of the limit that it tells now,
    `tokens` what it says to have spent, `exact` whether the end of its limit can be moved anywhere.
    """

    out: str
    err: str
    transcript: str
    tokens: Tokens
    reset_ms: int | None
    exact: bool


@dataclass(frozen=True, slots=True)
class Now:
    """The run that plays: when and where it runs, its session, how many times the recorded tokens it spends, and by
    how much later than recorded (milliseconds, may be negative) its limit ends. `uuid` makes fresh ids.
    """

    at_ms: int
    cwd: str
    session: str
    timezone: str
    uuid: Callable[[], str]
    factor: int = 1
    later_ms: int = 0


def part_of(recording: Recording, now: Now) -> Part:
    """`recording` as if it happened now."""
    texts = (recording.out, recording.err, recording.transcript)
    times = _Times(recording, now)
    ids = _ids(recording, now)
    out, err, transcript = (_scaled(ids(times(text)).replace("/srv/project", now.cwd), now.factor) for text in texts)
    tokens = Tokens(*(count * now.factor for count in recording.tokens))
    return Part(out, err, transcript, tokens, times.reset_ms(), times.exact)


class _Times:
    """Moves every moment of a recording, and remembers whether the end of its limit was among them."""

    def __init__(self, recording: Recording, now: Now) -> None:
        self.recording, self.now = recording, now
        both = recording.transcript + recording.out
        first = _ISO.search(both)
        began_ms = _ms(datetime.fromisoformat(first[0])) if first else recording.ended_ms
        if recording.reset_ms is not None and began_ms > recording.reset_ms - _MINUTE_MS:
            began_ms = recording.ended_ms  # the only moment it tells is the end of its limit
        self.began_ms = began_ms
        self.exact = self.told = False

    def __call__(self, text: str) -> str:
        text = _ISO.sub(self._iso, text)
        text = _EPOCH.sub(self._epoch, text)
        return _CLOCK.sub(self._clock, text)

    def reset_ms(self) -> int | None:
        """When the limit ends that the moved recording tells: as asked for, or as long after its end as recorded."""
        recorded = self.recording.reset_ms
        if recorded is None:
            return None
        return self._moved(recorded) if self.told else self.now.at_ms + recorded - self.recording.ended_ms

    def _moved(self, at_ms: int) -> int:
        later_ms = self.now.later_ms if at_ms > self.began_ms + _SOON_MS else 0
        return at_ms - self.began_ms + self.now.at_ms + later_ms

    def _is_reset(self, at_ms: int) -> bool:
        recorded = self.recording.reset_ms
        ahead_ms = at_ms - self.began_ms  # a stamp of the recording itself may be as near to a reset in seconds
        return recorded is not None and abs(at_ms - recorded) <= _MINUTE_MS and ahead_ms > 2 * _MINUTE_MS

    def _note(self, at_ms: int, *, exact: bool) -> None:
        if self._is_reset(at_ms):
            self.told = True
            self.exact = self.exact or exact

    def _iso(self, found: re.Match[str]) -> str:
        at_ms = _ms(datetime.fromisoformat(found[0]))
        self._note(at_ms, exact=True)
        moved = datetime.fromtimestamp(self._moved(at_ms) / 1000, UTC)
        return moved.isoformat(timespec="milliseconds" if "." in found[0] else "seconds").replace("+00:00", "Z")

    def _epoch(self, found: re.Match[str]) -> str:
        unit = 1 if len(found[0]) == 13 else 1000
        at_ms = int(found[0]) * unit
        if abs(at_ms - self.began_ms) > _FAR_MS:
            return found[0]
        self._note(at_ms, exact=True)
        return str(self._moved(at_ms) // unit)

    def _clock(self, found: re.Match[str]) -> str:
        """A time of day as people read it; the recordings were made in UTC."""
        at = datetime.fromtimestamp(self.began_ms / 1000, UTC).replace(second=0, microsecond=0)
        hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "pm" else 0)
        at = at.replace(hour=hour, minute=int(found["minute"]))
        if found["month"]:
            at = at.replace(month=_MONTHS.index(found["month"]) + 1, day=int(found["day"]))
        elif _ms(at) < self.began_ms - _MINUTE_MS:
            at += timedelta(days=1)
        self._note(_ms(at), exact=False)
        zone = ZoneInfo("UTC" if found["utc"] else self.now.timezone)
        moved = datetime.fromtimestamp(self._moved(_ms(at)) / 1000, zone)
        half = "am" if moved.hour < 12 else "pm"
        day = f"{_MONTHS[moved.month - 1]} {moved.day}" if found["month"] else ""
        if day:
            th, year = _ordinal(moved.day) if found["th"] else "", f", {moved.year}" if found["year"] else ""
            day += f"{th}{year}{found['at']}"
        shown = half.upper() if found["half"].isupper() else half
        return f"{day}{moved.hour % 12 or 12}:{moved.minute:02}{found['space']}{shown}{found['utc'] or ''}"


def _ordinal(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _ids(recording: Recording, now: Now) -> Callable[[str], str]:
    """What gives every id of a recording a new one, the same for the same."""
    text = recording.out + "\n" + recording.transcript
    known = {found: now.uuid() for found in _UUID.findall(text + recording.err)}
    for value in _id_values(text):
        if not _UUID.search(value):
            known[value] = f"{value}-{now.uuid()[:8]}"
    if recording.session:
        known[recording.session] = now.session
    if not known:
        return str
    either = "|".join(re.escape(each) for each in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])")
    return lambda each: pattern.sub(lambda found: known[found[0]], each)


def _id_values(text: str) -> set[str]:
    return {
        value
        for line in text.splitlines()
        for key, value in _pairs(_parsed(line))
        if isinstance(value, str) and _ID_KEY.fullmatch(key) and _ID.fullmatch(value)
    }


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key, each
            yield from _pairs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _pairs(each)


def _parsed(line: str) -> Any:
    if not line.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _scaled(text: str, factor: int) -> str:
    """The same text with `factor` times the tokens, wherever a line of JSON counts some."""
    if factor == 1:
        return text
    return "".join(_scaled_line(line, factor) for line in text.splitlines(keepends=True))


def _scaled_line(line: str, factor: int) -> str:
    parsed = _parsed(line)
    if parsed is None:
        return line
    end = line[len(line.rstrip("\r\n")) :]
    return json.dumps(_multiplied(parsed, factor), ensure_ascii=False, separators=(",", ":")) + end


def _multiplied(value: Any, factor: int, *, counting: bool = False) -> Any:
    """A copy with every count of tokens multiplied: keys that say so, and the plain words below such a key."""
    if isinstance(value, list):
        return [_multiplied(each, factor, counting=counting) for each in value]
    if not isinstance(value, Mapping):
        return value
    counting = counting or value.get("type") == "usage"
    return {key: _count(key, each, factor, counting=counting) for key, each in value.items()}


def _count(key: str, value: Any, factor: int, *, counting: bool) -> Any:
    low = key.lower()
    if type(value) is int:
        counts = ("token" in low and not _NO_COUNT.search(key)) or (counting and key in _COUNTS)
        return value * factor if counts else value
    below = counting or "token" in low or low in ("usage", "stats", "cache")
    return _multiplied(value, factor, counting=below)
