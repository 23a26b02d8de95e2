"""What a followed task does, told as it happens: the agent on standard output, locum itself on standard error."""

from __future__ import annotations

import sys

import click

from locum.cli import plain
from locum.cli.client import Json
from locum.cli.terminal import clean, harmless
from locum.words import count, due, span

_ENDS = {"done": ("✓", "green"), "failed": ("✗", "red"), "cancelled": ("■", "yellow")}


class Teller:
    """Tells the happenings of one task to a person."""

    def __init__(self, task: str) -> None:
        """Start with nothing told."""
        self.task = task
        self.attempted = False

    def tell(self, happening: Json) -> None:
        """One happening; kinds that are not known are left out."""
        match happening["type"]:
            case "output":
                self._output(happening)
            case "attempt":
                self.attempted = True
                _note("▶", attempt(happening), "cyan")
            case "failed":
                _note("!", failed(happening), "yellow")
            case "switch":
                _note("→", switch(happening), "yellow")
            case "returned":
                _note("←", returned(happening), "green")
            case "waiting":
                _note("…", waiting(happening), "yellow")
            case "post_task":
                _note("!", f"post_task failed: {clean(happening['reason'])}", "yellow")
            case "ended":
                mark, colour = _ENDS[happening["state"]]
                _note(mark, f"{self.task} {ended(happening, attempted=self.attempted)}", colour)

    def _output(self, happening: Json) -> None:
        click.echo(harmless(happening["text"].rstrip("\n")), err=happening["stream"] == "err")


def attempt(happening: Json) -> str:
    """`claude-max (claude-code, opus), attempt 2, resuming its session`."""
    what = ", ".join(part for part in (happening["agent"], happening["model"]) if part)
    number = f", attempt {happening['number']}" if happening["number"] > 1 else ""
    return f"{happening['tier']} ({what}){number}" + (", resuming its session" if happening["resumed"] else "")


def failed(happening: Json) -> str:
    """`claude-max: overloaded; tries again in 2 s: the reason`."""
    after = {
        "retry": f"; tries again in {span(happening['wait_ms'] or 0)}",
        "move": "; moves on",
        "fail": "; gives up",
    }.get(happening["next"] or "", "")
    return f"{happening['tier']}: {happening['kind']}{after}{_because(happening)}"


def switch(happening: Json) -> str:
    """`claude-max: usage_limit until 05:00 (in 2 h) → claude-api`."""
    until_ms = happening["until_ms"]
    until = f" until {due(until_ms, plain.now_ms())}" if until_ms else ""
    return f"{happening['from']}: {happening['kind']}{until} → {happening['to'] or 'no tier is left'}"


def returned(happening: Json) -> str:
    """`claude-max is back: the usage_limit hold has ended`."""
    return f"{happening['from']} is back{_because(happening)}"


def waiting(happening: Json) -> str:
    """`waiting: every tier is held, until 05:00 (in 2 h)`."""
    until_ms = happening["until_ms"]
    return f"waiting: {clean(happening['reason'])}" + (f", until {due(until_ms, plain.now_ms())}" if until_ms else "")


def ended(happening: Json, *, attempted: bool) -> str:
    """`done, 1,240 tokens`; of what agents did not tell it says so, and of a task that never ran nothing."""
    tokens = ""
    if attempted and happening.get("tokens") is None:
        tokens = ", tokens unknown"
    elif attempted:
        least = "" if happening.get("usage_known", True) else "at least "
        tokens = f", {least}{count(happening['tokens']['total'], 'token')}"
    return f"{happening['state']}{tokens}{_because(happening)}"


def _because(happening: Json) -> str:
    return f": {clean(happening['reason'])}" if happening["reason"] else ""


def _note(mark: str, text: str, colour: str) -> None:
    line = f"{mark} {text}"
    click.echo(click.style(line, fg=colour) if sys.stderr.isatty() else line, err=True)
