"""The command `locum`: finds the verb, and says what went wrong in one voice."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from locum import __version__
from locum.cli.settings import Settings, laid_over
from locum.errors import LocumError

INTERRUPTED = 130
NOBODY_READS = 141
"""As a shell tells of a command whose reader went away (`| head`)."""

# Verb: where it is, and what it does. Modules are imported when their verb is used, so that each starts quickly.
_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Set up": {
        "init": ("setup", "Write a first service.json for the agents found here."),
        "agents": ("agents", "List the agents: installed, version, login, what each can do."),
        "check": ("setup", "Read service.json as the daemon would, and say what it means."),
        "drill": ("drill", "Rehearse the failover of service.json, with stand-ins for agents."),
        "serve": ("setup", "Run the daemon."),
    },
    "Work": {
        "run": ("work", "Run a task and show what the agent does."),
        "submit": ("work", "Queue a task and print its id."),
        "tasks": ("reading", "List tasks."),
        "logs": ("work", "Show what a task's agents said and did."),
        "cancel": ("work", "Stop a task."),
    },
    "Look": {
        "status": ("reading", "Show every chain: its tiers, holds and tokens."),
        "usage": ("reading", "Show the tokens used in the current windows."),
        "explain": ("reading", "Say why a chain runs where it runs, and what comes next."),
        "alerts": ("alerts", "List, show and replay notices; try the channels they go through."),
        "audit": ("reading", "Add up the whole ledger again and compare."),
        "statusline": ("statusline", "Show the active tier and its budget on one line."),
        "dashboard": ("network", "Open the dashboard in a browser, logged in."),
        "version": ("reading", "Show the versions of locum and of the running daemon."),
    },
    "Steer": {
        "bump": ("steering", "Take a chain off a tier."),
        "release": ("steering", "Lift holds before their time."),
        "pause": ("steering", "Start no more tasks of a chain."),
        "resume": ("steering", "Start tasks of a chain again."),
        "reload": ("steering", "Read service.json again now."),
    },
    "Agents you run yourself": {
        "hooks": ("hooks", "Have an agent's own sessions counted and stopped like tasks."),
        "import": ("importing", "Count what agents spent before locum watched them."),
        "report": ("report", "Tell what a runner of yours used, and hear whether to go on."),
    },
    "Over the network": {
        "token": ("network", "Make, list and revoke tokens for the API."),
    },
    "Failures": {
        "signals": ("signals", "List, prove, try and add the rules that read failures."),
    },
    "Borrow a tier": {
        "env": ("borrow", "Print the active tier's environment for a shell."),
        "exec": ("borrow", "Run a command in the active tier's environment."),
    },
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_VERBS = {verb: entry for group in _GROUPS.values() for verb, entry in group.items()}


def tell(error: LocumError) -> None:
    """What and why on one line of standard error, what to do on the next."""
    first, *rest = error.sentences()
    click.echo("\n".join([f"locum: {first}", *(f"  {line}" for line in rest)]), err=True)


class Verbs(click.Group):
    """The verbs, imported when they are used, listed in the order one needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """Every verb."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's shape
        """The verb of that name."""
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"locum.cli.{_VERBS[cmd_name][0]}")
        found = getattr(module, f"{cmd_name}_")
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; a mistyped one is told with the nearest there is."""
        if args[0] not in _VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            if near:
                raise click.UsageError(f"No such verb '{args[0]}'. Did you mean `locum {near[0]}`?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Verbs by purpose."""
        for title, verbs in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(verb, says) for verb, (_, says) in verbs.items()], col_max=12)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; every error that can be foreseen becomes words and an exit code."""
        try:
            return super().invoke(ctx)
        except LocumError as error:
            tell(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            ctx.exit(NOBODY_READS)


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 69 no daemon, 75 no tier now, 77 not permitted, 78 configuration.",
)
@click.option("--config", metavar="FILE", help="service.json to use ($LOCUM_CONFIG).")
@click.option("--socket", metavar="PATH", help="The daemon's socket ($LOCUM_SOCKET).")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--state", metavar="FOLDER", help="The daemon's state ($LOCUM_STATE).")
@click.pass_context
def locum(ctx: click.Context, config: str | None, socket: str | None, state: str | None) -> None:
    """Keep coding agents working: when a tier fails or its budget is spent, the next one takes over."""
    ctx.obj = Settings(laid_over(os.environ, config=config, socket=socket, state=state))
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """The entry point of the command line."""
    _open_standard_streams()
    try:
        locum(prog_name="locum")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        sys.exit(_unwritten(error))
    finally:
        _flush()


def _open_standard_streams() -> None:
    """Have all three: one that the caller closed would be given to the next file that is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "r+" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _flush() -> None:
    """Write what is left; a reader that has gone (`| head`) is no error worth a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno in _FULL:
            sys.exit(_unwritten(error))


def _unwritten(error: OSError) -> int:
    click.echo(f"locum: standard output cannot be written ({(error.strerror or str(error)).lower()})", err=True)
    return 1
