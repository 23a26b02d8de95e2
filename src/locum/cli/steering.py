"""The verbs that change where a chain runs: bump, release, pause, resume, reload. Each can be repeated safely."""

from __future__ import annotations

import click

from locum.cli import plain
from locum.cli.client import Json, segment
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json, show
from locum.errors import ConfigError, UsageError
from locum.policy.failure import DAY, FailureKind
from locum.words import count

chain_argument = click.argument("chain", required=False)


@click.command("bump")
@chain_argument
@click.option("--tier", metavar="TIER", help="The tier to leave; left out: the active one.")
@click.option(
    "--for",
    "length",
    metavar="TIME",
    help="How long, such as 90s, 30m, 2h or 7d; at most ten years; left out: until released.",
)
@click.option("--reason", default="", help="Why; shown wherever the hold is.")
@json_option
@click.pass_obj
def bump_(
    settings: Settings, *, chain: str | None, tier: str | None, length: str | None, reason: str, as_json: bool
) -> None:
    """Take a chain off a tier (the active one unless --tier names another), so that the next one takes over."""
    found = _order(settings, chain, "bump", {"tier": tier, "for": _length(length), "reason": reason})
    if as_json:
        print_json(found)
        return
    already = "was held already, now" if found["already_held"] else "is held"
    click.echo(f"{found['tier']} {already} {plain.held(found['hold'])}; {_runs_on(found)}")


@click.command("release")
@chain_argument
@click.option("--tier", metavar="TIER", help="The tier to free; left out: every tier of the chain.")
@click.option(
    "--kind", type=click.Choice([kind.value for kind in FailureKind]), metavar="KIND", help="Only holds of this kind."
)
@json_option
@click.pass_obj
def release_(settings: Settings, *, chain: str | None, tier: str | None, kind: str | None, as_json: bool) -> None:
    """Lift holds before their time: those of one tier, or of every tier of the chain."""
    found = _order(settings, chain, "release", {"tier": tier, "kind": kind})
    if as_json:
        print_json(found)
        return
    lifted = found["released"]
    what = ", ".join(f"{_held(each)} ({each['kind']})" for each in lifted)
    told = f"{count(len(lifted), 'hold')} lifted: {what}" if lifted else "nothing was held"
    click.echo(f"{told}; {_runs_on(found)}")


@click.command("pause")
@chain_argument
@json_option
@click.pass_obj
def pause_(settings: Settings, *, chain: str | None, as_json: bool) -> None:
    """Start no more tasks of a chain; running attempts finish."""
    found = _order(settings, chain, "pause", {})
    show(
        found,
        lambda: [_stands(found, "was paused already" if found["already_paused"] else "is paused")],
        as_json=as_json,
    )


@click.command("resume")
@chain_argument
@json_option
@click.pass_obj
def resume_(settings: Settings, *, chain: str | None, as_json: bool) -> None:
    """Start tasks of a paused chain again."""
    found = _order(settings, chain, "resume", {})
    show(
        found,
        lambda: [_stands(found, "was not paused" if found["already_running"] else "takes tasks again")],
        as_json=as_json,
    )


def _stands(found: Json, how: str) -> str:
    return f"{found['chain']} {how}"


@click.command("reload")
@json_option
@click.pass_obj
def reload_(settings: Settings, *, as_json: bool) -> None:
    """Read service.json again now; a file that cannot be used changes nothing, and exits with 78."""
    found = settings.client.post("/reload")
    if as_json:
        print_json(found)
    else:
        for warning in found["warnings"]:
            click.echo(warning)
        click.echo(f"{found['path']}: {found['result']}")
    if found["problems"]:
        raise ConfigError(" ".join(found["problems"]), remedy="The last good configuration stays in use.")


def _order(settings: Settings, chain: str | None, verb: str, body: Json) -> Json:
    name = segment(chain or settings.main_chain())
    return settings.client.post(f"/chains/{name}/{verb}", body)


def _held(lifted: Json) -> str:
    """What a lifted hold was on: one of a whole chain was on no single tier."""
    kind, _, name = lifted["target"].partition(":")
    return f"the halt of chain {name}" if kind == "chain" else str(lifted["tier"])


def _length(text: str | None) -> str | None:
    """A length of time as it was written. Raises UsageError, which says how long one may be, when it is none."""
    from locum.config.values import LONGEST_MS, duration_ms

    if text is None:
        return None
    try:
        duration_ms(text)
    except ValueError:
        longest = LONGEST_MS // DAY
        remedy = f"Write a number with s, m, h or d, such as 90s, 2h or 1h30m: from 1s to {longest}d."
        raise UsageError(f"{clean(text)!r} is no length of time for --for", remedy=remedy) from None
    return text


def _runs_on(found: Json) -> str:
    active = found["active_tier"]
    return f"active tier of {found['chain']}: {active}" if active else f"{found['chain']} has no tier to run on"
