"""The page's pictures, each drawn once and used by name."""

from __future__ import annotations

from functools import cache

from locum.page.markup import Html, joined, tag

_LINES = {
    "active": "M5 3.5v9l7.5-4.5z",
    "ready": "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3",
    "held": "M5.5 3.5v9M10.5 3.5v9",
    "probation": "M8 3a5 5 0 1 0 0 10zM8 3a5 5 0 0 1 0 10",
    "queued": "M4 3h8M4 13h8M5 3c0 5 6 5 6 10M11 3c0 5-6 5-6 10",
    "running": "M5 3.5v9l7.5-4.5z",
    "done": "M3 8.5l3.5 3.5L13 4.5",
    "failed": "M4 4l8 8M12 4l-8 8",
    "cancelled": "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3M4.5 11.5l7-7",
    "budget": "M2.5 12a5.5 5.5 0 1 1 11 0M8 11l3-4",
    "login": "M5.5 7.5a2.5 2.5 0 1 0 0-.1M8 7.5h6M11.5 7.5v2.5",
    "limit": "M3 13h10M4.5 13V8M8 13V5M11.5 13V3",
    "trouble": "M5 11.5a3 3 0 1 1 .6-5.9 3.5 3.5 0 0 1 6.5 1.4 2.3 2.3 0 0 1-.4 4.5z",
    "hand": "M8 7.5a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6M3.5 13.5a4.5 4.5 0 0 1 9 0",
    "agent": "M4 5.5h8v7H4zM8 5.5V3M6.5 8.5v1.5M9.5 8.5v1.5",
    "bell": "M4 11.5h8l-1-1.5V7a3 3 0 0 0-6 0v3zM7 13.5h2",
    "warning": "M8 2.5L14 13H2zM8 6.5v3M8 11.2v.3",
    "theme": "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
}
_FILLED = frozenset({"active", "running"})


@cache
def sheet() -> Html:
    """All of them, to be written once into a page."""
    symbols = [
        tag(
            "symbol",
            tag("path", d=lines, fill="currentColor" if name in _FILLED else None),
            id=f"i-{name}",
            viewBox="0 0 16 16",
        )
        for name, lines in _LINES.items()
    ]
    return tag("svg.sheet", joined(*symbols), aria_hidden="true", width="0", height="0")
