"""The verbs that lend a tier's environment to other programs. Secrets are read here and never cross the socket."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from locum.agents.base import Launch, Seat
from locum.cli.client import Json
from locum.cli.settings import Settings, chain_option, json_option
from locum.cli.terminal import print_json
from locum.errors import ForbiddenError, NotFoundError, NoTierError, UnreachableError

NOT_FOUND = 127
NOT_EXECUTABLE = 126
HIDDEN = "********"

_TELLING = re.compile(r"KEY|TOKEN|SECRET|PASSW|AUTH|CREDENTIAL", re.IGNORECASE)
F = TypeVar("F", bound=Callable[..., None])


def _tier_option(verb: F) -> F:
    return click.option(
        "--tier",
        metavar="TIER",
        help="This tier, active or not; needs no daemon: without one service.json is looked for.",
    )(verb)


@click.command("env")
@chain_option
@_tier_option
@click.option("--reveal", is_flag=True, help="Show secrets too; without it they are hidden.")
@json_option
@click.pass_obj
def env_(settings: Settings, *, chain: str | None, tier: str | None, reveal: bool, as_json: bool) -> None:
    """Print the active tier's environment as shell assignments.

    `eval "$(locum env --reveal)"` puts it into a shell.
    """
    name, found, secret = _borrowed(settings, chain, tier)
    shown = {key: value if reveal or key not in secret else HIDDEN for key, value in found.items()}
    if as_json:
        print_json({"schema": 1, "tier": name, "env": shown})
        return
    click.echo(f"# tier {name}" + ("" if reveal or not secret else "; secrets are hidden, --reveal shows them"))
    for key, value in shown.items():
        click.echo(f"export {key}={shlex.quote(value)}")


@click.command("exec", context_settings={"ignore_unknown_options": True})
@chain_option
@_tier_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, *, chain: str | None, tier: str | None, command: tuple[str, ...]) -> None:
    """Run a command in the active tier's environment: `locum exec -- claude`."""
    _, found, _ = _borrowed(ctx.obj, chain, tier)
    try:
        os.execvpe(command[0], command, {**os.environ, **found})  # noqa: S606 - no shell is meant
    except FileNotFoundError:
        click.echo(f"locum: there is no program {command[0]}.", err=True)
        ctx.exit(NOT_FOUND)
    except OSError as error:
        click.echo(f"locum: {command[0]} cannot be run: {error.strerror}.", err=True)
        ctx.exit(NOT_EXECUTABLE)


def _borrowed(settings: Settings, chain: str | None, tier: str | None) -> tuple[str, dict[str, str], set[str]]:
    """The tier, its environment, and which of that is secret. Raises ConfigError when a secret cannot be read."""
    from locum.cli.setup import chosen
    from locum.config.load import load
    from locum.engine.seats import Seats

    # The daemon's own file is meant wherever one answers: a tier is what the daemon runs under that name.
    status = _status(settings, needed=not tier)
    name = tier or _active(status or {}, chain)
    path = Path(status["config"]["path"]) if status else chosen(settings.environ)[0]
    loaded = load(path, settings.environ)
    seats = Seats(loaded, {}, settings.environ)
    entry, seat = seats.entry(name), seats.seat(name)
    found = _environment(entry.agent, seat)
    secret = {key for key, value in entry.env.items() if not isinstance(value, str) or _TELLING.search(key)}
    return name, found, secret


def _status(settings: Settings, *, needed: bool) -> Json | None:
    """What the daemon says; None when it need not be asked, or does not answer and is not `needed`."""
    if not needed and settings.environ.get("LOCUM_CONFIG"):
        return None
    try:
        return settings.client.get("/status")
    except (UnreachableError, ForbiddenError):
        if needed:
            raise
        return None


def _environment(agent: str, seat: Seat) -> dict[str, str]:
    """What makes the agent this tier: its variables and its login's folder, not what only headless runs need."""
    from locum.agents.registry import AGENTS

    def under(one: Seat) -> Mapping[str, str]:
        return AGENTS[agent].command(Launch(one, "", "", Path(os.devnull), Path.cwd(), fresh="")).env

    usual = under(Seat(seat.tier, command=seat.command))
    return {name: value for name, value in under(seat).items() if usual.get(name) != value}


def _active(status: Json, chain: str | None) -> str:
    """The active tier of `chain`. Raises NotFoundError when there is no such chain, NoTierError when all are held."""
    chains = status["chains"]
    name = chain or ("default" if "default" in chains else next(iter(chains)))
    if name not in chains:
        raise NotFoundError(f"no chain {name}", remedy=f"The chains are {', '.join(chains)}.")
    active: str | None = chains[name]["active_tier"]
    if active is None:
        raise NoTierError(f"every tier of {name} is held", remedy="`locum explain` says until when; --tier names one.")
    return active
