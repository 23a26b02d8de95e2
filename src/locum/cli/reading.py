"""The verbs that only look: status, usage, explain, tasks, audit, version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from locum import __version__
from locum.cli import plain, terminal
from locum.cli.client import Json
from locum.cli.settings import Settings, json_option, one_chain_option
from locum.cli.terminal import on_terminal, print_json, show
from locum.errors import UnreachableError

REFRESH_S = 1.0


@click.command("status")
@json_option
@click.option("--watch", is_flag=True, help="Keep it up to date until Ctrl-C.")
@click.pass_obj
def status_(settings: Settings, *, as_json: bool, watch: bool) -> None:
    """Show every chain: which tier is active, what holds the others, and the tokens used.

    A table on a terminal, plain text in a pipe.
    """
    if as_json:
        print_json(settings.client.get("/status"))
    elif watch:
        _watch(settings)
    elif on_terminal():
        from rich.console import Console

        from locum.cli.screen import screen

        Console().print(screen(*_standing(settings)))
    else:
        click.echo("\n".join(plain.status(*_standing(settings))))


def _standing(settings: Settings) -> tuple[Json, Json]:
    return settings.client.get("/status"), settings.client.get("/usage")


def _watch(settings: Settings) -> None:
    """Show it anew each second: in place on a terminal, in a pipe whenever something has changed."""
    if not on_terminal():
        before = ""
        for found in _looks(settings):
            text = found if isinstance(found, str) else "\n".join(plain.status(*found))
            if text != before:
                click.echo(f"{text}\n")
            before = text
        return
    from rich.live import Live

    from locum.cli.screen import screen

    with Live(auto_refresh=False, screen=False) as live:
        for found in _looks(settings):
            live.update(found if isinstance(found, str) else screen(*found), refresh=True)


def _looks(settings: Settings) -> Iterator[tuple[Json, Json] | str]:
    """How things stand each second, for ever. A daemon that is restarted is waited for: only the first look must work.

    Raises UnreachableError.
    """
    yield _standing(settings)
    while True:
        terminal.pause(REFRESH_S)
        try:
            found: tuple[Json, Json] | str = _standing(settings)
        except UnreachableError as error:
            found = f"{error.sentences()[0]} Waiting for it."
        yield found


@click.command("usage")
@json_option
@one_chain_option
@click.pass_obj
def usage_(settings: Settings, *, as_json: bool, chain: str | None) -> None:
    """Show the tokens used in the current window, by chain and by tier."""
    found = settings.client.get("/usage")
    show(found, lambda: plain.usage(found, chain), as_json=as_json)


@click.command("explain")
@click.argument("chain", required=False)
@json_option
@click.pass_obj
def explain_(settings: Settings, *, chain: str | None, as_json: bool) -> None:
    """Say in sentences why a chain runs where it runs, what is held until when, and what comes next."""
    found = settings.client.get("/explain", chain=chain)
    if as_json:
        print_json(found)
        return
    click.echo("\n\n".join("\n".join(sentences) for sentences in found["chains"].values()))
    if found.get("low_disk"):
        click.echo("\nThe disk is almost full (limits.min_free): nothing new is started.")
    for problem in found["problems"]:
        click.echo(f"\nAn edit of service.json is refused; the last good one is in use. {problem}")


@click.command("tasks")
@json_option
@one_chain_option
@click.option("--state", multiple=True, metavar="STATE", help="queued, running, done, failed or cancelled; repeatable.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@click.pass_obj
def tasks_(settings: Settings, *, as_json: bool, chain: str | None, state: tuple[str, ...], limit: int) -> None:
    """List tasks, newest first."""
    found = settings.client.get("/tasks", chain=chain, limit=limit, state=list(state))
    show(found, lambda: plain.tasks(found["tasks"]), as_json=as_json)


@click.command("audit")
@json_option
@click.pass_context
def audit_(ctx: click.Context, *, as_json: bool) -> None:
    """Add up the whole ledger again and compare it with what is shown. Exit code 1 when anything differs."""
    found: dict[str, Any] = ctx.obj.client.get("/audit", timeout=None)
    show(found, lambda: plain.audit(found), as_json=as_json)
    ctx.exit(0 if found["clean"] else 1)


@click.command("version")
@json_option
@click.pass_obj
def version_(settings: Settings, *, as_json: bool) -> None:
    """Show the version of this program, and of the daemon if one runs."""
    try:
        daemon: Json | None = settings.client.get("/version")
    except UnreachableError:
        daemon = None
    if as_json:
        print_json({"schema": 1, "version": __version__, "daemon": daemon})
        return
    click.echo(f"locum {__version__}")
    click.echo(f"daemon {daemon['version']}, process {daemon['pid']}" if daemon else "no daemon is running")
