"""The verbs of a task: run, submit, logs, cancel."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click

from locum.cli import progress, terminal
from locum.cli.client import Client, Json, segment
from locum.cli.settings import Settings, chain_option, json_option
from locum.errors import UnreachableError, UsageError
from locum.words import size

INTERRUPTED = 130
NO_TIER = 75
SECOND_THOUGHTS_S = 2.0
"""How long after the first Ctrl-C a second one cancels the task."""

LARGEST_PROMPT = 64 << 20
"""Bytes of a prompt that are read at most."""

_SAY = 'Write `locum run "what to do"`, or give --file.'
QUIET_S = 1.0
"""How long a task that is still running must be silent for `logs` to have shown all there is."""

F = TypeVar("F", bound=Callable[..., None])


def _task_options(verb: F) -> F:
    """What `run` and `submit` both take."""
    for option in (
        click.option("--shared-cwd", is_flag=True, help="Allow it beside another task in the same directory."),
        click.option("--no-wait", is_flag=True, help="Fail (exit code 75) rather than wait while every tier is held."),
        click.option("--title", default="", help="What to call it; left out: the prompt's first words."),
        click.option("--cwd", metavar="FOLDER", help="Where the agent works; left out: here."),
        chain_option,
        click.option("--file", "-f", metavar="FILE", help="Read the prompt from a file."),
        click.argument("prompt", required=False),
    ):
        verb = option(verb)
    return verb


@click.command("run")
@_task_options
@json_option
@click.pass_context
def run_(ctx: click.Context, /, *, prompt: str | None, file: str | None, as_json: bool, **options: str | bool) -> None:
    """Run a task and show what the agent does, each switch of tier as it happens.

    PROMPT is the task in words; `-` (or nothing, in a pipe) reads it from standard input. Ctrl-C leaves the task
    running and says how to follow it; a second Ctrl-C cancels it. Exit code 0 when it is done, 1 when it failed,
    75 when --no-wait found no tier.
    """
    client: Client = ctx.obj.client
    task = client.post("/tasks", _order(_prompt(prompt, file), options))
    if as_json:
        _as_json(submitted(task["id"]))
    show = _as_json if as_json else progress.Teller(task["id"]).tell
    ctx.exit(_followed(client, task["id"], show, owner=True))


@click.command("submit")
@_task_options
@json_option
@click.pass_obj
def submit_(
    settings: Settings, /, *, prompt: str | None, file: str | None, as_json: bool, **options: str | bool
) -> None:
    """Queue a task and print its id."""
    task = settings.client.post("/tasks", _order(_prompt(prompt, file), options))
    click.echo(json.dumps(task) if as_json else task["id"])


@click.command("logs")
@click.argument("task")
@click.option("--follow", "-f", is_flag=True, help="Go on until the task has ended.")
@json_option
@click.pass_context
def logs_(ctx: click.Context, *, task: str, follow: bool, as_json: bool) -> None:
    """Show what a task's agents said and did, from the beginning.

    With --follow the exit code is the task's: 0 done, 1 failed, 75 no tier.
    """
    client: Client = ctx.obj.client
    show = _as_json if as_json else progress.Teller(task).tell
    if follow:
        ctx.exit(_followed(client, task, show, owner=False))
    client.get(f"/tasks/{segment(task)}")
    for happening in client.follow(task, quiet_s=QUIET_S):
        show(happening)


@click.command("cancel")
@click.argument("task")
@json_option
@click.pass_obj
def cancel_(settings: Settings, *, task: str, as_json: bool) -> None:
    """Stop a task, or keep it from starting."""
    found = settings.client.post(f"/tasks/{segment(task)}/cancel")
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"{found['id']} {'is being stopped' if found['state'] == 'running' else 'is ' + found['state']}")


def _prompt(words: str | None, file: str | None) -> str:
    """The prompt from wherever it was given. Raises UsageError and NotFoundError."""
    if words not in (None, "-") and file:
        raise UsageError("a prompt was given twice, in words and as a file")
    try:
        if file and file != "-":
            data = _file(Path(file))
        elif words not in (None, "-"):
            data = os.fsencode(words or "")
        elif words is None and not file and sys.stdin.isatty():
            raise UsageError("there is no prompt", remedy=_SAY)
        else:
            data = sys.stdin.buffer.read(LARGEST_PROMPT + 1)
        text = data.decode()
    except OSError as error:
        detail = f"the prompt cannot be read from {file} ({error.strerror})"
        raise UsageError(detail, remedy="Name a file that you may read.") from error
    except UnicodeDecodeError as error:
        raise UsageError("the prompt is not UTF-8 text") from error
    if len(data) > LARGEST_PROMPT:
        raise UsageError(f"the prompt is longer than {size(LARGEST_PROMPT)}", remedy="Name files in it instead.")
    if not text.strip():
        raise UsageError("the prompt is empty", remedy=_SAY)
    return text


def _file(path: Path) -> bytes:
    """What is in a file, a byte more than the longest prompt at most. Raises UsageError for what is no file."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file", remedy="Name a file, or pipe the prompt in with `--file -`.")
    with path.open("rb") as opened:
        return opened.read(LARGEST_PROMPT + 1)


def _order(prompt: str, options: dict[str, str | bool]) -> Json:
    cwd = Path(str(options.pop("cwd", None) or ".")).absolute()
    return {"prompt": prompt, "cwd": str(cwd), **{name: value for name, value in options.items() if value}}


def submitted(task: str) -> Json:
    """The first line of `run --json`: which task it is, before anything happens to it."""
    return {"schema": 1, "type": "submitted", "task": task}


def _as_json(happening: Json) -> None:
    click.echo(json.dumps(happening, ensure_ascii=False))


def _followed(client: Client, task: str, show: Callable[[Json], None], *, owner: bool) -> int:
    """Show a task until it has ended; its exit code. `owner`: Ctrl-C has a say in it."""
    try:
        return _shown(client.follow(task), task, show)
    except KeyboardInterrupt:
        if owner:
            _detach(client, task)
        return INTERRUPTED


def _shown(happenings: Iterable[Json], task: str, show: Callable[[Json], None]) -> int:
    for happening in happenings:
        show(happening)
        if happening["type"] == "ended":
            if happening["state"] == "done":
                return 0
            return NO_TIER if happening["reason_code"] == "no_tier" else 1
    remedy = f"The task goes on when the daemon does; follow it with `locum logs -f {task}`."
    raise UnreachableError("the daemon stopped before the task had ended", remedy=remedy)


def _detach(client: Client, task: str) -> None:
    """Leave the task running, unless a second Ctrl-C follows at once."""
    click.echo(
        f"\nDetached: task {task} goes on. Follow it with `locum logs -f {task}`; Ctrl-C again now cancels it.",
        err=True,
    )
    try:
        terminal.pause(SECOND_THOUGHTS_S)
    except KeyboardInterrupt:
        client.post(f"/tasks/{segment(task)}/cancel")
        click.echo(f"Task {task} is cancelled.", err=True)
