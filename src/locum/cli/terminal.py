"""Standard output, for people or for programs."""

from __future__ import annotations

import json
import re
import select
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

# A title, a clipboard, a cursor: strings (OSC, DCS, ...) as a whole, other sequences but colours, other controls.
_STEERING = re.compile(
    r"\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b\[(?![0-9;:]*m)[0-?]*[ -/]*[@-~]?"
    r"|\x1b(?!\[[0-9;:]*m)[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]"
)


def print_json(value: Any) -> None:
    """A value for programs: on one line in a pipe, indented on a terminal."""
    click.echo(json.dumps(value, indent=2 if on_terminal() else None, ensure_ascii=False))


def show(value: Any, lines: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """An answer as it is, for programs, or in lines for people."""
    if as_json:
        print_json(value)
    else:
        click.echo("\n".join(lines()))


def on_terminal() -> bool:
    """Whether people read standard output."""
    return sys.stdout.isatty()


def pause(seconds: float) -> None:
    """Do nothing for a while; Ctrl-C ends it at once."""
    select.select([], [], [], seconds)


def harmless(text: str) -> str:
    """Text from elsewhere as it is, lines and colours too, without what else would steer a terminal."""
    return _STEERING.sub("", text)


def clean(text: object) -> str:
    """Text from elsewhere on one line, without what would steer a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())
