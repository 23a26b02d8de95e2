"""What has happened: the log of the chain and what else people must hear of, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from locum.page import say
from locum.page.markup import Child, Html, tag
from locum.words import from_iso

Json = say.Json

_TOLD_BY_EVENTS = frozenset({"tier_bumped", "tier_returned", "chain_exhausted", "task_finished"})
"""Kinds of notices that say of an event what the log says already."""
_ICONS = {
    "started": "active",
    "succeeded": "done",
    "failed": "failed",
    "bumped": "held",
    "extended": "held",
    "returned": "ready",
    "released": "ready",
    "paused": "held",
    "resumed": "active",
    "exhausted": "failed",
}


def timeline(
    events: Sequence[Json], notices: Sequence[Json], titles: Mapping[str, str], most: int, now_ms: int
) -> Html:
    """The newest `most` of both, as `GET /events` and `GET /notices` tell them; `titles` of tasks by their ids."""
    rows = [(each["at"], 0, each["seq"], _event(each, titles, now_ms)) for each in events]
    rows += [
        (each["at"], 1, each["seq"], _notice(each, now_ms)) for each in notices if each["kind"] not in _TOLD_BY_EVENTS
    ]
    rows.sort(key=lambda row: (from_iso(row[0]) or 0, row[2]), reverse=True)
    if not rows:
        return tag("p.none", "Nothing has happened yet.")
    return tag("ol.log", [row[3] for row in rows[:most]])


def _event(event: Json, titles: Mapping[str, str], now_ms: int) -> Html:
    kind = event["kind"]
    failure = event["failure"] or (event["hold"] or {}).get("kind")
    kind_shown = say.badge(failure) if failure and kind in ("failed", "bumped", "extended") else None
    return tag(
        f"li.{kind}",
        say.clock(event["at"], now_ms),
        say.icon(_ICONS.get(kind, "ready")),
        tag(
            "div",
            tag("p", _said(event, titles, now_ms), [" ", kind_shown]),
            tag("p.quiet", tag("bdi", say.cut(event["reason"]))) if event["reason"] and kind != "returned" else None,
        ),
        id=f"event-{event['seq']}",
    )


def _said(event: Json, titles: Mapping[str, str], now_ms: int) -> list[Child]:
    tier: Child = say.name(event["tier"]) if event["tier"] else "The chain"
    title = titles.get(event["task"] or "")
    task: Child = tag("b", say.name(title)) if title else "A task"
    hold, active = event["hold"] or {}, event["active_tier"]
    until = ["until ", say.until(hold["until"], now_ms) if hold.get("until") else "released"]
    on = [", ", say.name(active), " is in line"] if active and active != event["tier"] else None
    none = ", no tier is free" if active is None else None
    match event["kind"]:
        case "started":
            return [task, " started on ", tier]
        case "succeeded":
            return [task, " succeeded on ", tier]
        case "failed":
            return [task, " failed on ", tier]
        case "bumped":
            return [tier, " was taken out ", *until, on or none]
        case "extended":
            return [tier, " stays held ", *until]
        case "returned":
            return [tier, " came back", on]
        case "released":
            return [tier, " was released", on]
        case "paused":
            return ["The chain was paused"]
        case "resumed":
            return ["The chain was resumed"]
        case "exhausted":
            return ["No tier was left"]
        case other:
            return [tier, f" {other}"]


def _notice(notice: Json, now_ms: int) -> Html:
    return tag(
        f"li.notice.{notice['severity']}",
        say.clock(notice["at"], now_ms),
        say.icon("bell"),
        tag(
            "div",
            tag("p", tag("bdi", say.cut(notice["title"]))),
            tag("p.quiet", tag("bdi", say.cut(notice["message"]))),
        ),
        id=f"notice-{notice['seq']}",
    )
