"""The whole page: its head, and what stands where."""

from __future__ import annotations

from collections.abc import Sequence

from locum import __version__
from locum.config.problem import Problem
from locum.page import say, steer, tiers, timeline, vendors, work
from locum.page.assets import ASSETS
from locum.page.budgets import chain_budgets
from locum.page.headline import Headline, headline
from locum.page.icons import sheet
from locum.page.markup import Child, Html, joined, tag
from locum.page.scene import HAPPENED, Scene
from locum.words import iso

THEMES = ("light", "dark")
"""What a reader may choose; anything else follows the system."""


def whole(seen: Scene, theme: str) -> str:
    """The page as HTML. `theme` is what the reader has chosen."""
    head = headline(seen.chain, seen.running, seen.now_ms)
    body = tag(
        "body",
        tag("a.skip", "To the tiers", href="#tiers"),
        sheet(),
        _header(seen),
        tag("main", _banners(seen), _hero(seen, head), _sections(seen), id="main", data_now=iso(seen.now_ms)),
        _footer(seen),
        _dialog(),
        tag("div.unseen", id="heard", role="status", aria_live="polite"),
    )
    chosen = theme if theme in THEMES else None
    return f"<!doctype html>\n{tag('html', _head(seen, head), body, lang='en', data_theme=chosen)}\n"


def _head(seen: Scene, head: Headline) -> Html:
    mark = {"good": "▶", "quiet": "●", "waiting": "…", "stopped": "■"}[head.tone]
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", f"{mark} {seen.chain['name']} · locum"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href=ASSETS.address("icon.svg"), type="image/svg+xml"),
        tag("link", rel="stylesheet", href=ASSETS.address("page.css")),
        tag("script", src=ASSETS.address("page.js"), type="module"),
    )


def _header(seen: Scene) -> Html:
    chains = [
        tag(
            "a",
            tag(f"span.dot.{_mood(each)}", aria_hidden="true"),
            say.name(each["name"]),
            tag("span.unseen", f" ({_mood(each)})"),
            href=work.Where(each["name"]).address(),
            aria_current="page" if each["name"] == seen.chain["name"] else None,
        )
        for each in seen.chains
    ]
    return tag(
        "header",
        tag("a.brand", "locum", href="/"),
        tag("nav.chains", chains, aria_label="Chains") if len(chains) > 1 else tag("span.grow"),
        tag(
            "span.live",
            tag("span.dot", aria_hidden="true"),
            tag("span", "not live", id="live-says"),
            id="live",
            data_keep=True,
        ),
        tag("button.plain", say.icon("theme"), tag("span", "Theme"), type="button", id="theme", data_keep=True),
    )


def _mood(chain: say.Json) -> str:
    """A chain in a word."""
    if chain["active_tier"] is None:
        return "stopped"
    return "paused" if chain["paused"] else "working" if chain["running"] else "idle"


def _banners(seen: Scene) -> Html:
    found: list[Html] = []
    if seen.problems:
        title = "service.json was not taken over. The last good one stays in use."
        found.append(_banner("bad", "config", title, [_problem(each) for each in seen.problems[:5]]))
    if seen.low_disk:
        says = ["Nothing new is started until there is room again (", tag("code", "limits.min_free"), ")."]
        found.append(_banner("bad", "disk", "The disk is almost full.", [tag("li", says)]))
    if seen.warnings:
        title = "Something in service.json does less than it says."
        found.append(_banner("warn", "warnings", title, [_problem(each) for each in seen.warnings[:3]]))
    return joined(*found)


def _banner(tone: str, name: str, title: str, lines: Sequence[Html]) -> Html:
    return tag(
        f"section.banner.{tone}",
        tag("h2", say.icon("warning"), title),
        tag("ul", lines),
        id=f"banner-{name}",
        aria_label=title,
    )


def _problem(each: Problem) -> Html:
    place = f"line {each.line}, column {each.column}" if each.line else "the whole file"
    remedy = say.capital(each.remedy)
    return tag(
        "li",
        tag("p", tag("b", place, ": "), f"{each.what}, {each.why}. ", tag("span.remedy", remedy)),
        tag("p.quiet.path", tag("bdi", str(each.path))),
    )


def _hero(seen: Scene, head: Headline) -> Html:
    chain = seen.chain
    return tag(
        f"section.hero.{head.tone}",
        tag(
            "div.says",
            tag("h1", tag("span.pulse", aria_hidden="true"), head.now, id="now"),
            tag("p.next", head.next),
            _failure(chain, seen.now_ms),
            tag("div.acts", steer.pause(chain, seen.match)) if seen.match else None,
        ),
        chain_budgets(seen.measure, seen.days.get(f"chain:{chain['name']}", 0.0), seen.now_ms),
        aria_label=f"The chain {say.cut(chain['name'])} now",
        id="hero",
    )


def _failure(chain: say.Json, now_ms: int) -> Html:
    kind = chain["last_failure_kind"]
    if kind is None:
        return tag("p.failure.quiet", "Nothing has failed yet.")
    on: Child = [" on ", say.name(chain["last_failure_tier"])] if chain["last_failure_tier"] else None
    what = "Last switch: " if kind in say.DELIBERATE else "Last failure: "
    said = tag("q.reason", say.cut(chain["last_failure_reason"])) if chain["last_failure_reason"] else None
    return tag("p.failure", what, say.badge(kind), on, ", ", say.ago(chain["last_failure_at"], now_ms), " ", said)


def _sections(seen: Scene) -> Html:
    steers, now_ms = seen.match is not None, seen.now_ms
    days = {name: seen.days.get(f"tier:{name}", 0.0) for name in seen.usage}
    row = tiers.row(seen.chain, seen.usage, days, seen.running, now_ms, seen.match)
    said = vendors.readings(seen.accounts, now_ms)
    opened = work.opened(seen.opened, seen.where, now_ms) if seen.opened else None
    return joined(
        _section("opened", "One task", opened) if opened else None,
        _section("tiers", "Tiers, most preferred first", row),
        tag(
            "div.columns",
            tag(
                "div",
                _section("work", "At work", work.working(seen.working, seen.chain["running"], now_ms, steers=steers)),
                _section(
                    "tasks",
                    "Tasks",
                    work.listed(seen.tasks, seen.older, seen.where, seen.counts, now_ms, steers=steers),
                ),
            ),
            tag(
                "div",
                _chart(seen),
                _section("vendors", "Vendors\N{RIGHT SINGLE QUOTATION MARK} own windows", said) if said else None,
                _section("log", "What has happened", _log(seen)),
            ),
        ),
    )


def _log(seen: Scene) -> Html:
    shown = [*seen.tasks, *(each.task for each in seen.working)]
    titles = {each["id"]: each["title"] for each in shown if each["title"]}
    return timeline.timeline(seen.events, seen.notices, titles, HAPPENED, seen.now_ms)


def _section(name: str, title: str, *children: Child) -> Html:
    return tag("section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title")


def _chart(seen: Scene) -> Html:
    """Filled by the script; what it shows stands in a table below it too."""
    spans = (("hours", "48 hours"), ("days", "30 days"), ("weeks", "26 weeks"))
    kinds = (("type", "by type"), ("tier", "by tier"))
    choices = [
        tag(
            "div.choice",
            [_choice(group, *each, chosen=not number) for number, each in enumerate(of)],
            role="group",
            aria_label=says,
        )
        for group, says, of in (("span", "How long", spans), ("by", "Of what", kinds))
    ]
    return _section(
        "history",
        "Tokens over time",
        tag(
            "div",
            tag("div.choices", choices),
            tag("div", tag("p.none", "The chart needs JavaScript."), id="chart"),
            tag(
                "details",
                tag("summary", "As a table"),
                tag(
                    "div.wide", id="chart-table", tabindex="0", role="region", aria_label="Tokens over time, as a table"
                ),
            ),
            id="chart-box",
            data_keep=True,
            data_chain=seen.chain["name"],
            data_uplot=ASSETS.address("uplot.js"),
            data_style=ASSETS.address("uplot.css"),
        ),
    )


def _choice(group: str, value: str, says: str, *, chosen: bool) -> Html:
    return tag(
        "button", says, type="button", data_group=group, data_value=value, aria_pressed="true" if chosen else "false"
    )


def _footer(seen: Scene) -> Html:
    since = iso(seen.started_ms) or ""
    return tag(
        "footer",
        tag(
            "p",
            "locum ",
            __version__,
            ", running since ",
            say.clock(since, seen.now_ms),
            " · ",
            tag("code", seen.config),
        ),
        id="foot",
    )


def _dialog() -> Html:
    """Asks once before anything is changed."""
    times = (("", "until I release it"), ("30m", "30 minutes"), ("2h", "2 hours"), ("1d", "1 day"), ("7d", "7 days"))
    options = [tag("option", says, value=value) for value, says in times]
    return tag(
        "dialog",
        tag(
            "form",
            tag("h2", id="ask-title"),
            tag("p", id="ask-tells"),
            tag("p", tag("label", "Held ", tag("select", options, id="ask-for")), id="ask-times", hidden=True),
            tag("p", id="ask-error", role="alert"),
            tag(
                "div.acts",
                tag("button", "Leave it", type="button", id="ask-no"),
                tag("button.sure", "Yes", type="submit", id="ask-yes"),
            ),
            method="dialog",
        ),
        id="ask",
        data_keep=True,
        aria_labelledby="ask-title",
        aria_describedby="ask-tells",
    )
