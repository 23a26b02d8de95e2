"""The verb statusline: a line for an agent's own status bar, or the command that shows it there."""

from __future__ import annotations

import shlex

import click

from locum.cli.client import segment
from locum.cli.settings import Settings, chain_option
from locum.places import socket_paths

PATIENCE_S = 1


@click.command("statusline")
@chain_option
@click.option("--print", "only_print", is_flag=True, help="Print the line of sh that does the same without Python.")
@click.pass_obj
def statusline_(settings: Settings, *, chain: str | None, only_print: bool) -> None:
    """Show the active tier, how much of the budget is used, and when it begins anew, on one line.

    For an agent's own status bar use what --print shows: it takes a few milliseconds.
    """
    if only_print:
        socket = next((path for path in socket_paths(settings.environ) if path.exists()), None)
        click.echo(command(str(socket or socket_paths(settings.environ)[0]), chain))
    else:
        click.echo(settings.client.text("/statusline", chain=chain), nl=False)


def command(socket: str, chain: str | None) -> str:
    """The line of sh: it says nothing while no daemon answers, and never fails."""
    url = "http://locum/statusline" + (f"?chain={segment(chain)}" if chain else "")
    curl = ["curl", "-q", "-sf", "--noproxy", "*", "--max-time", str(PATIENCE_S), "--unix-socket", socket, url]
    return f"{shlex.join(curl)} || true"
