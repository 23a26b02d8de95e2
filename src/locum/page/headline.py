"""The first sentence of the page: whether work goes on, on which tier, what happens next and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from locum.page import say
from locum.page.markup import Child, Html, joined
from locum.words import count

Json = say.Json


class Headline(NamedTuple):
    """`tone` is `good`, `quiet`, `waiting` or `stopped`; `now` one sentence, `next` what comes and when."""

    tone: str
    now: Html
    next: Html


def headline(chain: Json, running: Mapping[str, int], now_ms: int) -> Headline:
    """How a chain stands (as in `GET /chains/CHAIN`); `running` counts its running tasks by tier."""
    tone, now = _now(chain, running)
    return Headline(tone, joined(*now), joined(*_next(chain, now_ms)))


def _now(chain: Json, running: Mapping[str, int]) -> tuple[str, list[Child]]:
    active, runs, waits = chain["active_tier"], chain["running"], chain["queued"]
    at_work = f"{count(runs, 'task')} {'runs' if runs == 1 else 'run'}"
    waiting = f"{count(waits, 'task')} {'waits' if waits == 1 else 'wait'}"
    on = _on(running)
    if chain["paused"]:
        finish = (
            [f"Paused. {count(runs, 'task')} still {'runs' if runs == 1 else 'run'}", on, "; "]
            if runs
            else ["Paused: "]
        )
        return "waiting", [*finish, f"nothing new starts, {waiting}." if waits else "nothing new starts."]
    if active is None:
        at_end = [f" {say.capital(at_work)} to its end", on, "."] if runs else []
        return "stopped", [f"No tier is free, {waiting}." if waits else "No tier is free.", *at_end]
    if runs:
        return "good", [f"Working: {at_work}", on, f", {waiting}." if waits else "."]
    if waits:
        return "waiting", [f"{say.capital(waiting)} for a free place or directory; ", say.name(active), " is next."]
    return "quiet", ["Idle. The next task starts on ", say.name(active), "."]


def _on(running: Mapping[str, int]) -> Child:
    """On which tiers, two of them by name."""
    names = [name for name, number in running.items() if number]
    if not names:
        return None
    more = f" and {count(len(names) - 2, 'other tier')}" if len(names) > 2 else ""
    between = ", " if more else " and "
    return [" on ", [[between if at else None, say.name(name)] for at, name in enumerate(names[:2])], more]


def _next(chain: Json, now_ms: int) -> list[Child]:
    tiers, active = chain["tiers"], chain["active_tier"]
    at = next((number for number, tier in enumerate(tiers) if tier["name"] == active), len(tiers))
    back = sorted((tier["hold"]["until"], tier["name"], tier["hold"]["kind"]) for tier in tiers[:at] if _ends(tier))
    told: list[Child] = []
    if back:
        moment, tier, kind = back[0]
        told += [say.name(tier), f" is held ({kind}) until ", say.until(moment, now_ms)]
        told += [", then it goes ahead of ", say.name(active), " again. "] if active else [". Then it takes over. "]
    elif active is None:
        told.append("No tier comes back by itself: release one. ")
    elif at:
        told += [say.name(tiers[0]["name"]), f" {_kept(tiers[0])}. "]
    if active is not None:
        after = next((tier["name"] for tier in tiers[at + 1 :] if tier["state"] != "held"), None)
        told += [
            "If ",
            say.name(active),
            " fails, ",
            *([say.name(after), " takes over."] if after else ["tasks wait."]),
        ]
    return told


def _ends(tier: Json) -> bool:
    return tier["hold"] is not None and tier["hold"]["until"] is not None


def _kept(tier: Json) -> str:
    """Why a tier that comes first is not the one, although nothing ends by itself."""
    return "is on probation and at work" if tier["hold"] is None else f"is held ({tier['hold']['kind']}) until released"
