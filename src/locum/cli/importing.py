"""import: what agents have spent before locum was there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from locum import errors
from locum.cli.client import Client, Json
from locum.cli.settings import json_option
from locum.cli.terminal import clean
from locum.words import count, due, from_iso, size

INTERRUPTED = 130
EVERY_S = 10.0
"""Seconds after which progress is told again where there is no terminal."""

Show = Callable[[Json], None]


@click.command("import")
@click.option("--agent", metavar="AGENT", help="Only this agent's; left out: those of all tiers.")
@click.option("--home", metavar="FOLDER", help="An agent's own folder, such as ~/.claude-work, instead of the tiers'.")
@click.option("--since", metavar="DATE", help="Count from a date (2026-01-31) or a moment on; left out: everything.")
@json_option
@click.pass_context
def import_(ctx: click.Context, *, agent: str | None, home: str | None, since: str | None, as_json: bool) -> None:
    """Count what agents have spent in sessions before locum watched them, so that the current windows are right.

    Everything is counted once, however often it is imported, and whoever counted it before. Ctrl-C stops: what is
    counted by then stays so, and the next import goes on from there.
    """
    if agent is not None:
        _known(agent)
    order = {"agent": agent, "home": str(Path(home).absolute()) if home else None, "since": _moment(since)}
    client: Client = ctx.obj.client
    told = client.lines("/import", {name: value for name, value in order.items() if value})
    try:
        with _shown(as_json=as_json) as show:
            ended = _followed(told, show)
    except KeyboardInterrupt:
        click.echo("Stopped: what is counted stays so. Import again, and it goes on from there.", err=True)
        ctx.exit(INTERRUPTED)
    if ended["error"]:
        kind = errors.StateError if ended["error"]["code"] == "state" else errors.LocumError
        raise kind(ended["error"]["detail"], remedy=ended["error"]["remedy"])
    if not as_json:
        click.echo("\n".join(_said(ended)))
    ctx.exit(0 if ended["state"] == "done" else 1)


def _known(agent: str) -> None:
    """Raise UsageError, which names the agents there are, for any other."""
    from locum.agents.registry import agent as named

    named(agent)


def _followed(told: Iterator[Json], show: Show) -> Json:
    """Show each line; the last one. Raises UnreachableError when it does not come."""
    for line in told:
        show(line)
        if line["type"] == "ended":
            return line
    remedy = "What is counted stays so: start the daemon and import again, it goes on from there."
    raise errors.UnreachableError("the daemon stopped before all was counted", remedy=remedy)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Show]:
    """How progress is shown: as JSON, as a bar where people look on, else line by line."""
    if as_json:
        yield lambda line: click.echo(json.dumps(line, ensure_ascii=False))
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Steps().show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Importing"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[files]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, files="")

        def show(line: Json) -> None:
            files = f"{line['files_done']:,} of {count(line['files'], 'file')}"
            progress.update(bar, total=line["bytes"] or None, completed=line["bytes_done"], files=files)

        yield show


class _Steps:
    """Progress for a log: a line at the start, and another now and then. What came of it is told after it."""

    def __init__(self) -> None:
        from locum.clock import SystemClock

        self.clock = SystemClock()
        self.told_s: float | None = None

    def show(self, line: Json) -> None:
        """Tell what there is to read, then how much of it was read, if that was not told just now."""
        now_s = self.clock.monotonic()
        if line["type"] != "progress" or not line["files"]:
            return
        if self.told_s is None:
            self._tell(f"Importing {count(line['files'], 'transcript')}, {size(line['bytes'])}.", now_s)
        elif now_s >= self.told_s + EVERY_S:
            files = f"{line['files_done']:,} of {count(line['files'], 'transcript')}"
            far = f"{size(line['bytes_done'])} of {size(line['bytes'])}"
            self._tell(f"Read {files}, {far}: {line['counted']['total']:,} new tokens so far.", now_s)

    def _tell(self, text: str, now_s: float) -> None:
        self.told_s = now_s
        click.echo(text, err=True)


def _said(ended: Json) -> Iterator[str]:
    """What came of it, for people."""
    files = count(ended["files_done"], "transcript")
    known = f" ({ended['files_known']:,} were known already)" if ended["files_known"] else ""
    how = "" if ended["state"] == "done" else " before it was stopped; import again, and it goes on from there"
    yield f"Read {files}, {size(ended['bytes_done'])}{known}{how}: {ended['counted']['total']:,} new tokens."
    for home in ended["homes"]:
        yield f"  {home['agent']} in {clean(home['folder'])}: {home['counted']['total']:,} tokens for {_payer(home)}"
    for hold in ended["held"]:
        until = from_iso(hold["until"])
        ends = f" until {due(until, _now_ms())}" if until else ""
        yield f"! {hold['tier'] or hold['chain']} is held{ends}: {clean(hold['reason'])}"
    for why in ended["unread"]["why"]:
        yield f"! not read: {clean(why)}"
    if more := ended["unread"]["files"] - len(ended["unread"]["why"]):
        yield f"! and {more:,} more were not read"


def _payer(home: Json) -> str:
    if home["tier"]:
        return f"tier {home['tier']} of chain {home['chain']}"
    return f"account {clean(home['account'])}, no single tier" if home["account"] else "nobody's tier (unattributed)"


def _now_ms() -> int:
    from locum.cli import plain

    return plain.now_ms()


def _moment(text: str | None) -> str | None:
    """A date (its first moment here) or a moment, as ISO 8601 with its zone. Raises UsageError."""
    if text is None:
        return None
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):
        remedy = "Write a date such as 2026-01-31, or a moment such as 2026-01-31T05:00:00Z."
        raise errors.UsageError(f"{clean(text)!r} is no date", remedy=remedy) from None
