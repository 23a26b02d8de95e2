"""Numbers, moments, names and kinds as the page says them."""

from __future__ import annotations

from typing import Any, NamedTuple

from locum.page.markup import Html, plain, tag
from locum.words import DELIBERATE, from_iso, moment, span

__all__ = ["DELIBERATE"]
Json = dict[str, Any]

_LONGEST = 300
"""Characters of a text from elsewhere that are shown; the rest is a mark."""


class Kind(NamedTuple):
    """What sort of failure a kind is: a word for people, and the icon and colour that go with it."""

    family: str
    says: str


_BUDGET, _LOGIN, _LIMIT = Kind("budget", "own budget"), Kind("login", "login"), Kind("limit", "vendor's limit")
_TROUBLE, _HAND, _AGENT = Kind("trouble", "vendor's trouble"), Kind("hand", "by hand"), Kind("agent", "agent or task")
KINDS = {
    "token_budget": _BUDGET,
    "auth_error": _LOGIN,
    "credit_exhausted": _LIMIT,
    "usage_limit": _LIMIT,
    "rate_limit": _LIMIT,
    "overloaded": _TROUBLE,
    "server_error": _TROUBLE,
    "network": _TROUBLE,
    "model_unavailable": _TROUBLE,
    "operator": _HAND,
}


def kind_of(failure: str) -> Kind:
    """The sort of a failure kind."""
    return KINDS.get(failure, _AGENT)


def badge(failure: str) -> Html:
    """A failure kind, told apart by icon, word and colour."""
    kind = kind_of(failure)
    return tag(f"span.badge.{kind.family}", icon(kind.family), kind.says, " ", tag("code", failure))


def icon(name: str) -> Html:
    """A picture of the page's sheet; what it means stands beside it in words."""
    return tag("svg.icon", tag("use", href=f"#i-{name}"), aria_hidden="true")


def name(text: str) -> Html:
    """A name from elsewhere, which keeps its own direction to itself."""
    return tag("bdi", cut(text))


def cut(text: str, most: int = _LONGEST) -> str:
    """Text from elsewhere, not longer than `most` characters."""
    return text if len(text) <= most else f"{plain(text[:most]).rstrip()}…"


def until(at: str, now_ms: int) -> Html:
    """A coming moment (ISO 8601) and how long it is until then, counted down by the page."""
    at_ms = from_iso(at) or 0
    return tag("time.due", f"{moment(at_ms, now_ms)} (in {span(at_ms - now_ms)})", datetime=at, data_as="until")


def ago(at: str, now_ms: int) -> Html:
    """How long ago a moment (ISO 8601) was."""
    at_ms = from_iso(at) or 0
    return tag("time", f"{span(now_ms - at_ms)} ago", datetime=at, data_as="ago", title=at)


def clock(at: str, now_ms: int) -> Html:
    """A moment (ISO 8601) as a time of day, with its day when that is another."""
    return tag("time", moment(from_iso(at) or 0, now_ms), datetime=at, data_as="clock", title=at)


def tokens(number: float) -> Html:
    """A number of tokens, short; the whole number is its title."""
    return tag("span.num", short(number), title=f"{round(number):,} tokens")


def short(number: float) -> str:
    """A number in three digits: `987`, `12.3 k`, `4.56 M`, `1.2 G`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            text = f"{scaled:.{digits}f}"
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\N{NO-BREAK SPACE}{unit}"
    return f"{round(number)}"


def capital(text: str) -> str:
    """A sentence with its first letter large."""
    return text[:1].upper() + text[1:]
