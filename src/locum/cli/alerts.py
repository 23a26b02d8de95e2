"""alerts list, show, replay, test: what people were told, and whether it reached them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from locum.cli import plain
from locum.cli.client import Json, segment
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json, show
from locum.errors import UsageError
from locum.words import count, due, from_iso, moment

TRIAL_S = 120.0
"""How long trials may take, in seconds: a command has a time limit of its own, a webhook 15 s."""


@click.group("alerts")
def alerts_() -> None:
    """Look at notices and at the channels they go through (`notify` in service.json)."""


@alerts_.command("list")
@json_option
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@click.option("--before", type=click.IntRange(1), metavar="SEQ", help="Only notices before this one (`seq` in --json).")
@click.option("--kind", metavar="KIND", help="Only this kind, such as tier_bumped.")
@click.option("--chain", metavar="CHAIN", help="Only about this chain.")
@click.option("--failed", is_flag=True, help="Only what could not be delivered, or not yet.")
@click.pass_obj
def list_(
    settings: Settings,
    *,
    as_json: bool,
    limit: int,
    before: int | None,
    kind: str | None,
    chain: str | None,
    failed: bool,
) -> None:
    """List notices, newest first, with what became of them; then each channel that is in trouble."""
    only = "true" if failed else None
    found = settings.client.get("/alerts", limit=limit, before=before, kind=kind, chain=chain, failed=only)
    show(found, lambda: _listed(found), as_json=as_json)


@alerts_.command("show")
@click.argument("id_", metavar="ID")
@json_option
@click.pass_obj
def show_(settings: Settings, *, id_: str, as_json: bool) -> None:
    """Show one notice whole, and every attempt's end."""
    found = settings.client.get(f"/alerts/{segment(id_)}")
    show(found, lambda: _shown(found), as_json=as_json)


@alerts_.command("replay")
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--channel", metavar="CHANNEL", help="Through this channel; without an ID: whatever it was not told.")
@json_option
@click.pass_obj
def replay_(settings: Settings, *, id_: str | None, channel: str | None, as_json: bool) -> None:
    """Send a notice once more (through every channel unless --channel names one), under the name it has always had."""
    if id_ is None and channel is None:
        raise UsageError("nothing is named to be sent again", remedy="Name a notice, or a channel with --channel.")
    found = settings.client.post("/alerts/replay", {"id": id_, "channel": channel})
    if as_json:
        print_json(found)
        return
    for each in found["replayed"]:
        click.echo(f"{each['channel']}: {count(each['messages'], 'message')} to be sent again")


@alerts_.command("test")
@click.argument("channel", required=False)
@json_option
@click.pass_context
def test_(ctx: click.Context, *, channel: str | None, as_json: bool) -> None:
    """Send a marked sample through a channel, or through all, and say what came back. Exit code 1 if one failed."""
    found = ctx.obj.client.post("/alerts/test", {"channel": channel}, timeout=TRIAL_S)
    show(found, lambda: map(_tried, found["tested"]), as_json=as_json)
    ctx.exit(0 if all(each["delivered"] for each in found["tested"]) else 1)


def _listed(found: Json) -> Iterator[str]:
    if not found["alerts"]:
        yield "no notices"
    for each in found["alerts"]:
        at_ms = from_iso(each["at"]) or 0
        became = ", ".join(_became(one) for one in each["deliveries"])
        yield f"{each['id']}  {moment(at_ms, plain.now_ms())}  {each['severity']:8}  {clean(each['title'])}"
        if became:
            yield f"  {became}"
    yield from plain.channel_troubles(found["channels"])


def _became(one: Json) -> str:
    told = f"{one['channel']}: {one['state'].replace('_', ' ')}"
    if one["folded_into"]:
        return f"{told} into {one['folded_into']}"
    if one["state"] == "waiting" and one["attempts"]:
        next_ms = from_iso(one["next_attempt"]) or 0
        told += f", failed {count(one['attempts'], 'time')}, next try {due(next_ms, plain.now_ms())}"
    if one["answer"] and one["state"] != "sent":
        told += f" ({clean(one['answer'])})"
    return told + (f", with {one['count'] - 1:,} others" if one["count"] > 1 else "")


def _shown(found: Json) -> Iterator[str]:
    yield f"{found['id']}  {found['kind']}  {found['severity']}"
    yield f"{moment(from_iso(found['at']) or 0, plain.now_ms())}  {clean(found['title'])}"
    yield from (f"  {clean(line)}" for line in found["message"].splitlines())
    yield from (f"  {clean(name)}: {clean(value)}" for name, value in found["data"].items() if value is not None)
    for one in found["deliveries"]:
        status = "" if one["status"] is None else f", answer {one['status']}"
        tries = count(one["attempts"], "attempt")
        yield f"{_became(one)}, {tries}{status}"
    if not found["deliveries"]:
        yield "no channel has taken it (yet)"


def _tried(each: Json) -> str:
    came = "delivered" if each["delivered"] else "refused" if each["refused"] else "NOT delivered"
    status = "" if each["status"] is None else f", answer {each['status']}"
    said = f": {clean(each['answer'])}" if each["answer"] else ""
    return f"{each['channel']}: {came} in {each['milliseconds']:,} ms{status}{said}"
