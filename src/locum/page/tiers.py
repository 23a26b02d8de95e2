"""The chain as a row of tiers: where each stands, what holds it until when, what it has used."""

from __future__ import annotations

from collections.abc import Mapping

from locum.page import say, steer
from locum.page.budgets import meter
from locum.page.markup import Html, tag
from locum.words import count

Json = say.Json

STATES = {
    "active": "next in line",
    "ready": "ready",
    "held": "held",
    "probation": "on probation",
}
"""The word for each state. An active tier at work is `working`."""
ABOVE = 24
"""How many tiers are shown as they are; those behind them that only stand ready are folded into one line."""


def row(
    chain: Json,
    usage: Mapping[str, Json],
    days: Mapping[str, float],
    running: Mapping[str, int],
    now_ms: int,
    match: str | None,
) -> Html:
    """Every tier of a chain (as in `GET /chains/CHAIN`), most preferred first.

    `usage` and `days` are the measure and the last day's tokens of each, `running` its running tasks, and `match` the
    chain's ETag for the buttons (None: whoever looks may not steer).
    """
    tiers = list(enumerate(chain["tiers"], 1))
    plain = {number for number, each in tiers[ABOVE:] if each["state"] == "ready" and not running.get(each["name"])}
    shown = [each for each in tiers if each[0] not in plain]
    cards = [
        _card(number, chain, each, usage[each["name"]], days.get(each["name"], 0.0), running, now_ms, match)
        for number, each in shown
    ]
    folded = [each["name"] for number, each in tiers if number in plain]
    more = None
    if folded:
        names = [tag("li", say.name(each)) for each in folded]
        summary = tag("summary", f"{count(len(folded), 'more tier')}, all ready")
        more = tag("details.more", summary, tag("ul.names", names), id="more-tiers")
    return tag("div", tag("ol.tiers", cards), more)


def _card(
    number: int,
    chain: Json,
    tier: Json,
    usage: Json,
    day: float,
    running: Mapping[str, int],
    now_ms: int,
    match: str | None,
) -> Html:
    works = running.get(tier["name"], 0)
    state = tier["state"]
    word = "working" if works and state == "active" else STATES[state]
    what = " · ".join(filter(None, (tier["agent"], tier["model"])))
    return tag(
        f"li.tier.{state}",
        tag(
            "div.head",
            tag("span.number", number, aria_hidden="true"),
            tag("h3", say.name(tier["name"])),
            tag("span.state", say.icon(state), word),
        ),
        tag(
            "p.quiet",
            tag("bdi", say.cut(what)),
            _account(chain, tier),
            f" · {count(works, 'task')} at work" if works else None,
        ),
        [_hold(each, now_ms) for each in tier["holds"]],
        tag("p.quiet", "One task at a time, until one succeeds.") if state == "probation" else None,
        meter(usage, day, now_ms),
        tag("div.acts", _acts(chain, tier, match)) if match else None,
        id=f"tier-{number}",
    )


def _account(chain: Json, tier: Json) -> list[str | Html] | None:
    """Whose login, where other tiers of the chain share it."""
    shared = sum(each["account"] == tier["account"] for each in chain["tiers"]) > 1
    return [" · login ", say.name(tier["account"])] if shared else None


def _hold(hold: Json, now_ms: int) -> Html:
    until = say.until(hold["until"], now_ms) if hold["until"] else "released"
    reason = tag("q.reason", say.cut(hold["reason"])) if hold["reason"] else None
    return tag("div.hold", say.badge(hold["kind"]), tag("p", "until ", until), reason)


def _acts(chain: Json, tier: Json, match: str) -> list[Html]:
    found = [steer.release(chain, tier, match)] if tier["state"] == "held" else []
    by_hand = any(each["kind"] == "operator" for each in tier["holds"])
    return found if by_hand else [*found, steer.bump(chain, tier, match)]
