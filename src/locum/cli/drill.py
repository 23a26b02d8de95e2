"""The verb `drill`: rehearses service.json with stand-ins for agents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from locum.cli.settings import json_option
from locum.cli.setup import chosen, config_option
from locum.cli.terminal import print_json

BROKEN = 1


class _Listed(click.Command):
    """A command whose help lists the scenarios; they are imported when somebody asks."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's shape
        """Every scenario and what goes wrong in it."""
        from locum.drill.scenarios import SCENARIOS

        with formatter.section("Scenarios"):
            formatter.write_dl([(each.name, each.says) for each in SCENARIOS])


@click.command("drill", cls=_Listed)
@config_option
@click.option(
    "--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this one; may be given several times."
)
@click.option("--timeline", is_flag=True, help="Show what happened when, also where nothing is wrong.")
@json_option
@click.pass_context
def drill_(ctx: click.Context, *, config: str | None, scenarios: Sequence[str], timeline: bool, as_json: bool) -> None:
    """Rehearse the failover of service.json: agents are played by stand-ins, things go wrong, and time runs fast.

    A real daemon runs on a scratch state. Nothing of yours is started, read or changed but service.json, which is
    read. Exit code 1 when a promise is broken. Ctrl-C stops it at once and leaves nothing behind.
    """
    from locum.config.load import load
    from locum.drill import report
    from locum.drill.run import drill

    environ = ctx.obj.named(config).environ
    path, _ = chosen(environ)

    def told(result: report.Result) -> None:
        for line in report.lines(result, whole=timeline):
            click.echo(_shown(line))

    results = drill(load(path, environ), environ, scenarios, told=_silent if as_json else told, stopping=_stopping)
    if as_json:
        print_json(report.as_json(os.fspath(path), results))
    else:
        click.echo(f"{path}: {report.summary(results)}")
    if not all(each.passed for each in results):
        ctx.exit(BROKEN)


def _silent(_: Any) -> None:
    """Programs are told everything at the end."""


def _stopping() -> None:
    """Said before what is rehearsed is taken away, which may take a moment."""
    click.echo("Stopping: daemons, stand-ins and scratch folders are being removed.", err=True)


def _shown(line: str) -> str:
    """A line as a terminal may show it, its columns kept."""
    return "".join(each if each.isprintable() else " " for each in line)
