"""Budgets as rings: how much is used, and where that leads at the rate of the last day."""

from __future__ import annotations

import math
from typing import NamedTuple

from locum.page import say
from locum.page.markup import Child, Html, tag
from locum.policy.failure import DAY
from locum.words import count, from_iso, iso

Json = say.Json

LEVELS = ((95.0, "spent", "nearly or wholly used up"), (80.0, "high", "getting close"), (50.0, "half", "past half"))
"""From which percentage on a ring has which colour, and the words for it."""
_AROUND = 2 * math.pi * 42
_FURTHEST_MS = 366 * DAY
"""How far ahead it is told when a limit is reached."""


class Course(NamedTuple):
    """Where usage leads: `percent` of the limit at the window's end, and when the limit is reached; None: neither."""

    percent: float | None
    reached_ms: int | None


def course(used: float, limit: int, day: float, window: Json, now_ms: int) -> Course:
    """Where a window ends if every day is like the last, in which `day` tokens were used.

    A window that rolls has no end: it is told what it would hold once it consists of such days.
    """
    end_ms, start_ms = from_iso(window["end"]), from_iso(window["start"])
    if window["kind"] == "rolling":
        return Course(100 * day * (now_ms - (start_ms or now_ms)) / DAY / limit, None)
    reached_ms = round(now_ms + (limit - used) * DAY / day) if day and used < limit else None
    if end_ms is None:
        soon = reached_ms is not None and reached_ms - now_ms < _FURTHEST_MS
        return Course(None, reached_ms if soon else None)
    at_end = used + day * max(0, end_ms - now_ms) / DAY
    return Course(100 * at_end / limit, reached_ms if reached_ms is not None and reached_ms < end_ms else None)


def level(percent: float) -> tuple[str, str]:
    """The colour of a ring, and the words for it."""
    return next(((name, says) for above, name, says in LEVELS if percent >= above), ("calm", "less than half used"))


def ring(percent: float, at_end: float | None) -> Html:
    """A picture of a percentage, with a thinner line to where it will be."""
    used, coming = min(percent, 100.0), min(max(at_end or 0.0, percent), 100.0)
    return tag(
        f"svg.ring.{level(percent)[0]}",
        _arc("rest", 100),
        _arc("coming", coming) if coming > used else None,
        _arc("used", used) if used else None,
        tag("text", f"{math.floor(percent)}", tag("tspan", "%", dx="1"), x="50", y="51"),
        viewBox="0 0 100 100",
        aria_hidden="true",
    )


def _arc(name: str, percent: float) -> Html:
    length = f"{_AROUND * percent / 100:.1f} {_AROUND:.1f}"
    dashes = None if percent >= 100 else length
    return tag(f"circle.{name}", cx="50", cy="50", r="42", stroke_dasharray=dashes, transform="rotate(-90 50 50)")


def chain_budgets(measure: Json, day: float, now_ms: int) -> Html:
    """The rings of a chain's own limits; without any, what it has used and how to set one."""
    used, found = measure["used_tokens"], []
    for what, key in (("Budget", "threshold"), ("Halt", "halt")):
        limit = measure[f"{key}_tokens"]
        if limit:
            found.append(_budget(what, used, limit, measure[f"{key}_effect"], day, measure, now_ms))
    if not found:
        total = measure["totals"]["total"]
        hint = ["No budget is set: ", tag("code", "usage_threshold_tokens"), " in service.json sets one."]
        found.append(tag("p.none", tag("b", say.tokens(total), " tokens "), _window(measure["window"]), ". ", *hint))
    unknown = measure["unknown_usage_runs"]
    least = f"What {count(unknown, 'run')} used is not known: it is the least it can be." if unknown else None
    return tag("div.budgets", found, tag("p.quiet", least) if least else None)


def _budget(what: str, used: int, limit: int, effect: str, day: float, measure: Json, now_ms: int) -> Html:
    percent, window = 100 * used / limit, measure["window"]
    ahead = course(used, limit, day, window, now_ms)
    does = {
        "holds": "reached: it holds",
        "released": "reached and released: it holds nothing more",
        "none": "told only, holds nothing",
    }.get(effect)
    return tag(
        "figure.budget",
        ring(percent, ahead.percent),
        tag(
            "figcaption",
            tag("h3", what, tag("span.quiet", f" {level(percent)[1]}")),
            tag("p", say.tokens(used), " of ", say.tokens(limit), " tokens ", _window(window)),
            tag("p", does) if does else None,
            tag("p", course_told(ahead, window, now_ms)),
            tag("p.quiet", "starts again ", say.until(window["end"], now_ms)) if window["end"] else None,
        ),
    )


def course_told(ahead: Course, window: Json, now_ms: int) -> list[Child]:
    """Where usage leads, in words."""
    rate = "At today\N{RIGHT SINGLE QUOTATION MARK}s rate"
    reached = [", reached ", say.until(iso(ahead.reached_ms) or "", now_ms)] if ahead.reached_ms else []
    if ahead.percent is None:
        return [rate, *reached] if reached else [f"{rate} not within a year"]
    at_end = tag(f"b.{level(ahead.percent)[0]}", f"{min(ahead.percent, 9999):.0f} %")
    when = "of a window" if window["kind"] == "rolling" else "at its end"
    return [f"{rate} ", at_end, f" {when}", *reached]


def _window(window: Json) -> str:
    return {"all": "in all", "rolling": "in the rolling window", "block": "in this block"}.get(
        window["kind"], f"this {window['kind']}" if window["kind"] != "day" else "today"
    )


def meter(measure: Json, day: float, now_ms: int) -> Html:
    """A tier's own budget, small: a ring and two lines; without a budget, what it has used."""
    used, limit = measure["used_tokens"], measure["threshold_tokens"]
    if not limit:
        return tag("p.spent", say.tokens(measure["totals"]["total"]), f" tokens {_window(measure['window'])}")
    percent = 100 * used / limit
    ahead = course(used, limit, day, measure["window"], now_ms)
    end = measure["window"]["end"]
    return tag(
        "div.meter",
        ring(percent, ahead.percent),
        tag(
            "p",
            say.tokens(used),
            " of ",
            say.tokens(limit),
            tag("span.quiet", f", {level(percent)[1]}"),
            tag("br"),
            tag("span.quiet", course_told(ahead, measure["window"], now_ms)),
            [tag("br"), tag("span.quiet", "again ", say.until(end, now_ms))] if end else None,
        ),
    )
