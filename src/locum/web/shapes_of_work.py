"""The answers about tasks, and about what has happened, as types."""

from __future__ import annotations

from typing import Any

from locum.web.shapes import Hold, Page, Shape, Tokens, Versioned


class PostTask(Shape):
    """What became of the command after a task."""

    state: str
    exit: int | None
    reason: str | None
    ended: str | None


class Task(Shape):
    """A task."""

    id: str
    chain: str
    state: str
    title: str
    cwd: str
    created: str
    ended: str | None
    reason: str | None
    reason_code: str | None
    said: str | None


class OneTask(Task):
    """A task as it was taken or cancelled."""

    schema: int


class ListedTask(Task):
    """A task in a list."""

    post_task: PostTask | None


class Tasks(Page):
    """The newest tasks, newest first."""

    tasks: list[ListedTask]


class Attempt(Shape):
    """One run of a task."""

    id: str
    number: int
    tier: str
    agent: str
    model: str | None
    state: str
    started: str
    ended: str | None
    exit: int | None
    failure: str | None
    reason: str | None
    rule: str | None
    next: str | None
    session: str | None
    tokens: Tokens | None


class WholeTask(OneTask):
    """A task with its attempts."""

    runs: list[Attempt]
    post_task: PostTask | None


class Output(Versioned):
    """A piece of what an agent wrote to one of its streams, without secrets.

    `after` is where it goes on, `more`: it can be asked for at once.
    """

    task: str
    run: str
    stream: str
    text: str
    after: int
    more: bool
    ended: bool


class Said(Versioned):
    """What an agent at work has said lately, in lines for people; `after` is where it goes on."""

    run: int
    lines: list[str]
    after: int


class Event(Shape):
    """One line of the log of the chains."""

    seq: int
    kind: str
    chain: str
    at: str
    tier: str | None
    task: str | None
    failure: str | None
    reason: str | None
    hold: Hold | None
    active_tier: str | None


class Events(Page):
    """The log, oldest first."""

    events: list[Event]


class Notice(Shape):
    """Something that people must hear of."""

    seq: int
    id: str
    kind: str
    severity: str
    at: str
    chain: str | None
    title: str
    message: str
    link: str
    data: dict[str, str | int | float | None]


class Notices(Page):
    """What people must hear of, oldest first."""

    notices: list[Notice]


class Report(Shape):
    """What a runner or session has told that locum does not run itself."""

    seq: int
    agent: str
    id: str
    at: str
    chain: str | None
    tier: str | None
    session: str | None
    model: str | None
    provider: str | None
    failure: str | None
    reason: str | None
    cost_usd: float | None
    tokens: Tokens | None


class Reports(Page):
    """What was told, oldest first."""

    reports: list[Report]


class Steered(Versioned):
    """Where a chain stands after what was done."""

    chain: str
    active_tier: str | None
    paused: bool


class Bumped(Steered):
    """The tier that was taken off, and its hold."""

    tier: str | None
    hold: Hold | None
    already_held: bool


class Lifted(Hold):
    """A hold that was lifted."""

    tier: str | None


class Released(Steered):
    """What was lifted."""

    released: list[Lifted]


class Paused(Steered):
    """Whether it was paused before."""

    already_paused: bool


class Resumed(Steered):
    """Whether it was running before."""

    already_running: bool


class Verdict(Versioned):
    """Whether the next piece of work may run, and what was counted of this one."""

    go_on: bool
    reason: str | None
    until: str | None
    chain: str | None
    tier: str | None
    active_tier: str | None
    last_failure_kind: str | None
    percent: float | None
    duplicate: bool
    counted: Tokens


HookAnswer = dict[str, Any]
"""What an agent's hook is answered, in the agent's own format."""
