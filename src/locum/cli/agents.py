"""agents: what is installed here of the agents that locum knows, and what each of them can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from locum.cli.client import Json
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json

if TYPE_CHECKING:
    from locum.engine.inventory import Install
    from locum.engine.seats import Seats

_LOGIN = {True: "login", False: "no login found", None: "login cannot be told"}
_WIDTH = 12


@click.command("agents")
@click.argument("names", nargs=-1, metavar="[AGENT]...")
@json_option
@click.pass_obj
def agents_(settings: Settings, *, names: tuple[str, ...], as_json: bool) -> None:
    """List the agents that locum knows: which are installed, in which version, logged in or not, and what each can do.

    Needs no daemon, no network and no token: programs are only asked for their version, and logins only looked for.
    Without a service.json, PATH and the usual homes are looked at. For an agent that is named all is told.
    """
    from locum.agents.known import MEASURED
    from locum.agents.registry import AGENTS, agent
    from locum.engine.inventory import installs

    wanted = {name: agent(name) for name in names} or AGENTS
    path, problem, seats = _seats(settings)
    found = installs(wanted, seats, settings.environ)
    listed = [
        {
            "name": name,
            "measured_with": MEASURED.get(name),
            "supports": _support(name),
            "installs": [_install(each) for each in found if each.agent == name],
        }
        for name in wanted
    ]
    if as_json:
        print_json({"schema": 1, "config": {"path": path, "problem": problem}, "agents": listed})
        return
    if problem:
        click.echo(f"{problem} What follows is what PATH has; `locum check` tells more.", err=True)
    for each in listed:
        click.echo("\n".join(_told(each, whole=bool(names))))


def _seats(settings: Settings) -> tuple[str | None, str | None, Seats | None]:
    """The service.json in use, what is wrong with it, its tiers. Raises NoConfigError when the named one is gone."""
    from locum.cli.setup import chosen
    from locum.config.load import NoConfigError, load
    from locum.engine.seats import Seats
    from locum.errors import ConfigError

    try:
        path, _ = chosen(settings.environ)
    except NoConfigError:
        if settings.environ.get("LOCUM_CONFIG"):
            raise
        return None, None, None
    try:
        return str(path), None, Seats(load(path, settings.environ), {}, settings.environ)
    except ConfigError as error:
        return str(path), error.sentence(), None


def _support(name: str) -> dict[str, bool]:
    from locum.agents.known import support
    from locum.agents.registry import AGENTS, hooks

    return asdict(support(AGENTS[name], hooks(AGENTS).get(name)))


def _install(install: Install) -> Json:
    """One install for programs."""
    return {
        "tier": install.tier,
        "program": install.program,
        "path": str(install.path) if install.path else None,
        "version": install.version,
        "as_measured": install.as_measured,
        "problem": install.problem,
        "logged_in": install.login.there,
        "login": install.login.why,
    }


def _told(agent: Json, *, whole: bool) -> Iterator[str]:
    """One agent for people: a line for what it can do, and one for each place where it is or should be.

    Where no login was found all places that were looked at are named only if `whole`.
    """
    can = [name for name, supported in agent["supports"].items() if supported]
    yield f"{agent['name']:{_WIDTH}} {', '.join(can) or 'judged by its exit code, unless it tells more'}"
    for each in agent["installs"]:
        whose = f"tier {each['tier']}: " if each["tier"] else ""
        yield f"{'':{_WIDTH}} {whose}{', '.join(map(clean, _place(each, agent['measured_with'], whole=whole)))}"


def _place(install: Json, measured: str | None, *, whole: bool) -> Iterator[str]:
    if install["path"] is None:
        yield f"not installed ({install['problem']})" if install["tier"] is None else install["problem"]
        return
    yield f"{install['path']} {install['version'] or ''}".rstrip()
    if install["problem"]:
        yield install["problem"]
    if install["as_measured"] is False:
        yield f"locum was measured with {measured}"
    why = f" ({install['login']})" if whole or install["logged_in"] is not False else ""
    yield f"{_LOGIN[install['logged_in']]}{why}"
