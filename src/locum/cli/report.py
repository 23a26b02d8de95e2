"""The verb with which any runner tells what a piece of work used, and hears whether to go on."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import click

from locum.cli import plain
from locum.cli.client import Json
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, show
from locum.errors import UsageError
from locum.policy.failure import FailureKind
from locum.words import DELIBERATE, count, from_iso, iso

STOP = 75
LARGEST_BODY = 64 << 10
"""Bytes of a report: more the daemon does not take."""

_KINDS = [kind.value for kind in FailureKind if kind.value not in DELIBERATE]
_tokens = click.IntRange(min=0)


@click.command("report")
@click.argument("body", metavar="[-]", required=False)
@click.option("--id", "report_id", metavar="ID", help="What is reported; told again with the same id it counts once.")
@click.option(
    "--chain",
    metavar="CHAIN",
    help="The chain it counts for; left out: `default` if it lists the tier, else the first that does.",
)
@click.option("--tier", metavar="TIER", help="The tier it used; may be left out where the chain has but one.")
@click.option("--input", "input_", type=_tokens, metavar="N", help="Tokens in that came from no cache.")
@click.option("--output", type=_tokens, metavar="N", help="Tokens out.")
@click.option("--cache-read", type=_tokens, metavar="N", help="Tokens in that came from the cache.")
@click.option("--cache-write", type=_tokens, metavar="N", help="Tokens in that were put into the cache.")
@click.option("--model", metavar="MODEL", help="The model that answered.")
@click.option("--provider", metavar="NAME", help="Who runs the model.")
@click.option("--cost", type=float, metavar="USD", help="What it cost, in dollars.")
@click.option("--failure", type=click.Choice(_KINDS), metavar="KIND", help="Why it failed, such as usage_limit.")
@click.option("--message", metavar="TEXT", help="What the agent said of its failure.")
@click.option("--reset", metavar="WHEN", help="When the limit is over: 2026-01-31T05:00:00Z, or a time such as 2h.")
@click.option("--session", metavar="ID", help="The agent's own session.")
@json_option
@click.pass_context
def report_(ctx: click.Context, /, *, body: str | None, as_json: bool, **told: Any) -> None:
    """Tell what a piece of work used, or how it failed, and hear whether to go on.

    For the step after each task of a runner of your own: `locum report --id "$n" --input 900 --output 200`, and then
    `[ $? -eq 75 ] && break`. With `-` a whole report is read from standard input as JSON. Tokens that nobody tells are
    unknown, not 0. A report that names no tier is kept, but counts for no budget. Exit code 0: go on; 75: stop, the
    tier is held; 77: an agent that locum runs named a tier other than its own. With 1 (refused, or the disk is full), 2
    (not understood) and 69 (no daemon answers) nothing was counted, and nothing says that work should stop.
    """
    settings: Settings = ctx.obj
    report = _piped(body, told) if body else _spoken(told)
    found = settings.client.post("/hooks/post-task", report)
    show(found, lambda: _said(found, known=bool(report.get("tokens"))), as_json=as_json)
    ctx.exit(0 if found["go_on"] else STOP)


def _piped(body: str, told: Json) -> Json:
    """The report on standard input. Raises UsageError when it is none."""
    if body != "-":
        raise UsageError(f"{body!r} is not understood here", remedy="Only `-` may stand there: it reads JSON.")
    if any(value is not None for value in told.values()):
        raise UsageError("a report is told twice, as JSON and with options", remedy="Put all of it into the JSON.")
    data = sys.stdin.buffer.read(LARGEST_BODY + 1)
    if len(data) > LARGEST_BODY:
        raise UsageError(f"the report is longer than {LARGEST_BODY:,} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the report is not JSON ({clean(error)})") from error
    if not isinstance(found, dict):
        raise UsageError("the report is not a JSON object", remedy='Write `{"id": "…", …}`.')
    return found


def _spoken(told: Json) -> Json:
    """The report that the options tell; what is not told is not in it. Raises UsageError."""
    if not told["report_id"]:
        remedy = "Give one with --id, a new one for each piece of work: told again, it then counts only once."
        raise UsageError("the report has no id", remedy=remedy)
    cost = told["cost"]
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        raise UsageError("the cost is not an amount", remedy="Write it in dollars, such as 0.25.")
    plain_keys = ("chain", "tier", "model", "provider", "session")
    found = {
        "id": told["report_id"],
        **{key: told[key] for key in plain_keys},
        "tokens": _counts(told),
        "cost_usd": cost,
        "failure": _failure(told),
    }
    return {key: value for key, value in found.items() if value is not None}


def _counts(told: Json) -> Json | None:
    """The tokens by type: 0 for a type that is not told, but None when none is."""
    found = {"input": told["input_"], **{name: told[name] for name in ("output", "cache_read", "cache_write")}}
    if all(value is None for value in found.values()):
        return None
    return {name: value or 0 for name, value in found.items()}


def _failure(told: Json) -> Json | None:
    if told["failure"] is None:
        if told["message"] is not None or told["reset"] is not None:
            remedy = f"Add --failure and one of {', '.join(_KINDS)}."
            raise UsageError("--message and --reset tell of a failure, but none is named", remedy=remedy)
        return None
    found = {"kind": told["failure"], "message": told["message"], "reset_at": _moment(told["reset"])}
    return {key: value for key, value in found.items() if value is not None}


def _moment(text: str | None) -> str | None:
    """A moment or a length of time from now, as ISO 8601. Raises UsageError."""
    if text is None:
        return None
    from locum.config.values import duration_ms

    try:
        return iso(plain.now_ms() + duration_ms(text))
    except ValueError:
        pass
    try:
        return iso(from_iso(text))
    except (ValueError, OverflowError):
        remedy = "Write a moment such as 2026-01-31T05:00:00Z, or a time from now such as 90s, 30m or 2h."
        raise UsageError(f"{clean(text)!r} is no moment", remedy=remedy) from None


def _said(found: Json, *, known: bool) -> Iterator[str]:
    """What was counted (`known`: the report told of tokens), and whether to go on."""
    whose = f"for tier {found['tier']} of chain {found['chain']}" if found["tier"] else "for no tier"
    name_one = "" if found["tier"] else " (name one with --tier NAME)"
    told = count(found["counted"]["total"], "token")
    if found["duplicate"]:
        yield f"reported before, {told} more {whose}{name_one}"
    else:
        yield f"counted {told if known else 'a piece of work whose usage is unknown'} {whose}{name_one}"
    if not found["go_on"]:
        yield f"stop: {clean(found['reason']).removeprefix('locum: ')}"
        return
    spent = f", {found['percent']:g} % of its budget is used" if found["percent"] is not None else ""
    yield "go on" + (f": chain {found['chain']} runs on {found['active_tier']}{spent}" if found["active_tier"] else "")
