"""What vendors last said of their own windows, with its age, beside what was counted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from locum.page import say
from locum.page.budgets import ring
from locum.page.markup import Child, Html, tag

Json = say.Json

HEADS = ("Login of", "Window", "Vendor says", "Counted here", "Starts again")
NAMES = {"five_hour": "5 hours", "daily": "day", "seven_day": "7 days", "monthly": "month"}


def readings(accounts: Mapping[str, Json], now_ms: int) -> Html | None:
    """A table of the windows of those logins of which a vendor has said anything; None without any."""
    rows = [_row(account["tiers"], window, now_ms) for account in accounts.values() for window in account["windows"]]
    if not rows:
        return None
    head = tag("thead", tag("tr", [tag("th", each, scope="col") for each in HEADS]))
    caption = tag("caption.unseen", "What vendors say of their own windows")
    return tag(
        "div.wide", tag("table", caption, head, tag("tbody", rows)), tabindex="0", role="region", aria_label="Vendors"
    )


def _row(tiers: Sequence[str], window: Json, now_ms: int) -> Html:
    counted, resets = window["counted"], window["resets"]
    here: Child = say.tokens(counted["total"]) if counted else tag("span.quiet", "does not compare")
    ahead = resets is not None and window["freshness"] != "over"
    names = [[", " if at else None, say.name(each)] for at, each in enumerate(tiers[:3])]
    more = f" and {len(tiers) - 3} more" if len(tiers) > 3 else None
    window_name = tag("bdi", say.cut(NAMES.get(window["name"]) or window["name"]))
    model = [" ", say.name(window["model"])] if window["model"] else None
    cells = ([window_name, model], _said(window, now_ms), here, say.until(resets, now_ms) if ahead else "not told")
    return tag(
        f"tr.{window['freshness']}",
        tag("th", names, more, scope="row"),
        [tag("td", each, data_head=head) for each, head in zip(cells, HEADS[1:], strict=True)],
    )


def _said(window: Json, now_ms: int) -> list[Child]:
    read = tag("span.quiet", say.ago(window["read"], now_ms))
    if window["freshness"] == "over":
        return ["It has begun anew since: not known. Said ", read]
    percent: float | None = window["used_percent"]
    status: str = window["status"] or ""
    full: list[Child] = ["not told how full "]
    if percent is not None:
        full = [ring(percent, None), tag("b", f"{percent:g} %"), " used "]
    told = [tag("span.quiet", tag("bdi", say.cut(status))), " "] if status else None
    return [full, told, read, [" ", tag("span.badge.stale", "stale")] if window["freshness"] == "stale" else None]
