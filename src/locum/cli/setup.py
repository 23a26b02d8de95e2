"""The verbs before there is a daemon: init, check, and serve itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from locum.cli.settings import Settings, json_option
from locum.cli.terminal import print_json
from locum.errors import ConflictError, StateError

config_option = click.option("--config", metavar="FILE", help="service.json to use ($LOCUM_CONFIG).")


@click.command("init")
@click.option("--path", metavar="FILE", help="Where to write; left out: ~/.config/locum/service.json.")
@click.pass_obj
def init_(settings: Settings, *, path: str | None) -> None:
    """Write a first service.json, with comments, for the agents found on PATH. Never overwrites a file."""
    from locum.cli.template import first_config, found_agents

    home = Path(settings.environ.get("HOME") or "/")
    target = Path(path).absolute() if path else home / ".config" / "locum" / "service.json"
    agents = found_agents(settings.environ.get("PATH", ""))
    _write(target, first_config(tuple(agents)))
    for name, program in agents.items():
        click.echo(f"found {name}: {program}")
    if not agents:
        click.echo("found no agent on PATH: the file has one to change, and says how")
    click.echo(f"wrote {target}")
    named = f" --config {target}" if path else ""
    click.echo(f'next: look at it, then\n  locum{named} check\n  locum{named} serve\n  locum run "what to do"')


def _write(target: Path, text: str) -> None:
    """Write a new file whole. Raises ConflictError when something is there, StateError when it cannot be done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        if not os.path.lexists(target):
            detail = f"{target} cannot be written ({error.strerror})"
            raise StateError(detail, remedy="Write elsewhere with --path.") from error
        remedy = "It is left as it is: edit it, or write elsewhere with --path."
        raise ConflictError(f"{target} is there already", remedy=remedy) from None


@click.command("check")
@config_option
@json_option
@click.pass_context
def check_(ctx: click.Context, *, config: str | None, as_json: bool) -> None:
    """Read service.json as the daemon would: tell every problem at once, and what was understood.

    Exit code 78 when the daemon could not use it.
    """
    from locum.cli import doctor
    from locum.config.load import load
    from locum.config.problem import InvalidConfigError

    environ = ctx.obj.named(config).environ
    path, why = chosen(environ)
    try:
        loaded = load(path, environ)
    except InvalidConfigError as error:
        if as_json:
            print_json(doctor.report(path, why, error.problems, None, ()))
        for problem in () if as_json else error.problems:
            click.echo(str(problem), err=True)
        ctx.exit(error.exit_code)
    doubts = doctor.doubts(loaded, environ)
    if as_json:
        print_json(doctor.report(path, why, loaded.warnings, loaded, doubts))
        return
    for line in (*map(str, loaded.warnings), *(f"warning: {doubt}" for doubt in doubts)):
        click.echo(line, err=True)
    click.echo("\n".join([f"{path} ({why}) is valid", *doctor.understood(loaded)]))


@click.command("serve")
@config_option
@click.pass_obj
def serve_(settings: Settings, *, config: str | None) -> None:
    """Run the daemon until Ctrl-C or SIGTERM; SIGHUP reads service.json again."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # structlog would load it, 4 MB, for tracebacks in colour
    from locum.daemon import Places, main
    from locum.places import socket_paths, state_dir

    environ = settings.named(config).environ
    path, _ = chosen(environ)
    main(Places(path, state_dir(environ), socket_paths(environ)[0]), environ)


def chosen(environ: Mapping[str, str]) -> tuple[Path, str]:
    """The service.json in use, and why that one. Raises NoConfigError."""
    from locum.config.load import locate

    path = locate(None, environ, Path.cwd(), Path(environ.get("HOME") or "/"))
    named = bool(environ.get("LOCUM_CONFIG"))
    if not named:
        return path, "the first one found in the usual places"
    by_variable = environ["LOCUM_CONFIG"] == os.environ.get("LOCUM_CONFIG")
    return path, "named by $LOCUM_CONFIG" if by_variable else "named by --config"
