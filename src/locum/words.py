"""How moments, spans and counts are said to people and to programs."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

DELIBERATE = frozenset({"operator", "token_budget"})
"""The failure kinds that nobody would call a failure: the tier was left on purpose."""

_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def iso(at_ms: int | None) -> str | None:
    """A moment (epoch milliseconds) as ISO 8601 in UTC, `2026-01-31T05:00:00Z`; None stays None."""
    if at_ms is None:
        return None

    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000, tzinfo=None)
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds") + "Z"


def from_iso(text: str | None) -> int | None:
    """The epoch milliseconds of what `iso` wrote; None stays None. Raises ValueError for anything else."""
    if text is None:
        return None
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def span(length_ms: int) -> str:
    """A length of time in its two largest units, rounded: `2 h 10 min`, `45 s`; nothing and less is `0 s`."""
    left = max(0, length_ms + 500) // 1000
    # Hours are not told to the second, nor days to the minute: rounded there, `2 h` does not become `1 h 59 min`.
    for above, smallest in ((86_400, 3_600), (3_600, 60)):
        if left >= above:
            left = (left + smallest // 2) // smallest * smallest
            break
    parts: list[str] = []
    for size, unit in _UNITS_S:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(at_ms: int, now_ms: int, zone: tzinfo | None = None) -> str:
    """A moment as one would say it now, in `zone` (None: the host's): `05:00`, `Tue 05:00`, `2026-12-01 05:00`."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    days = (at.date() - datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()).days
    if days == 0:
        return f"{at:%H:%M}"
    return f"{at:%a %H:%M}" if 0 < days < 7 else f"{at:%Y-%m-%d %H:%M}"


def due(at_ms: int, now_ms: int, zone: tzinfo | None = None) -> str:
    """A coming moment and how long it is until then: `05:00 (in 2 h 10 min)`."""
    return f"{moment(at_ms, now_ms, zone)} (in {span(at_ms - now_ms)})"


def cause(kind: str) -> str:
    """A failure kind as what something is held by: `usage_limit`, `the operator`, `an unknown failure`."""
    return {"operator": "the operator", "unknown": "an unknown failure"}.get(kind, kind)


def size(number: int) -> str:
    """A number of bytes as service.json writes it, in its largest unit, rounded: `64M`, `100 bytes`."""
    for unit, above in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if number >= 1 << above:
            return f"{round(number / (1 << above), 1):g}{unit}"
    return count(number, "byte")


def count(number: int, noun: str, many: str = "") -> str:
    """A number with its noun: `1 task`, `2,000 tasks`; `many` where an s does not make the plural."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
