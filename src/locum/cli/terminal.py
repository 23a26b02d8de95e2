"""Standard output, for people or for programs."""

from __future__ import annotations

import json
import select
import sys
from typing import Any

import click


def print_json(value: Any) -> None:
    """A value for programs: on one line in a pipe, indented on a terminal."""
    click.echo(json.dumps(value, indent=2 if on_terminal() else None, ensure_ascii=False))


def on_terminal() -> bool:
    """Whether people read standard output."""
    return sys.stdout.isatty()


def pause(seconds: float) -> None:
    """Do nothing for a while; Ctrl-C ends it at once."""
    select.select([], [], [], seconds)


def clean(text: object) -> str:
    """Text from elsewhere on one line, without what would steer a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())
