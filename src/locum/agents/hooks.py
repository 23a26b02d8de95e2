"""What is known of the hooks by which an agent that somebody else runs tells of itself; pure, one adapter an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from locum.agents import judge, lines
from locum.agents.base import Agent, End, Line, Mark, Signal
from locum.errors import UsageError
from locum.policy.failure import Failure
from locum.policy.usage import Usage

TEST_EVENT = "LocumTest"
"""The event of a hook that nobody's agent called: somebody tries whether it reaches us."""
_LONGEST_PATH = 4096
_WHOLE = "Send all that the agent wrote to its hook's standard input"


class Moment(StrEnum):
    """What a hook is about."""

    NOTE = "note"  # nothing was spent, and nothing can be stopped
    PROMPT = "prompt"  # a prompt is about to be sent, and can be stopped
    TOOL = "tool"  # a tool is about to run (or the model to be asked again), and can be stopped
    SPENT = "spent"  # something was spent: the transcript tells what
    DONE = "done"  # a turn has ended well
    FAILED = "failed"  # a turn has ended in a failure: `signal` tells which
    OVER = "over"  # the session has ended; a failure that no hook told of may stand in its transcript
    TEST = "test"  # somebody tries whether the hook reaches us


@dataclass(frozen=True, slots=True)
class Told:
    """One call of a hook. `event` is the agent's own name for it, `turn` its id of the turn ("" when it has none).

    `transcript` is where the agent says that its transcript lies ("" when it did not say): not yet to be trusted.
    """

    moment: Moment
    event: str
    session: str
    turn: str = ""
    transcript: str = ""
    model: str | None = None
    signal: Signal | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why an agent shall not go on, for people. `now`: not even with the next tool; else with the next prompt."""

    reason: str
    now: bool = False

    def __post_init__(self) -> None:
        assert self.reason.strip(), "a stop says why: an agent may ignore one that does not"


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook as it is installed: the agent's name for the event, and how many seconds an answer may take."""

    event: str
    seconds: int
    matcher: str | None = None


def heard(body: Mapping[str, Any], moments: Mapping[str, Moment], turn: str = "") -> Told:
    """What all agents tell in the same keys. `moments` says what an agent's events are about (any other is a note);
    `turn` is the key its turn's id stands under.

    Raises:
        UsageError: there is no event, or no session that can be used as an id.

    """
    event = lines.key(body.get("hook_event_name"))
    if not event:
        raise UsageError("this is no hook: it has no hook_event_name", remedy=_WHOLE)
    session = lines.session(body.get("session_id"))
    if not session:
        raise UsageError("this is no hook: it has no session_id, or one that is no id", remedy=_WHOLE)
    return Told(
        Moment.TEST if event == TEST_EVENT else moments.get(event, Moment.NOTE),
        event,
        session,
        lines.key(body.get(turn)) if turn else "",
        _path(body.get("transcript_path")),
        lines.key(body.get("model")) or None,
    )


def failure(agent: Agent, signals: Sequence[Signal], now_ms: int, timezone: str) -> Failure | None:
    """What `agent` calls a session's last failure; None when none was told, or a later turn went well."""
    last = judge.outcome(signals)
    if last is None or last.mark is Mark.DONE:
        return None
    verdict = agent.verdict(End(None, now_ms, timezone=timezone), signals)
    assert isinstance(verdict, Failure), "a failure that was told last is a failure"
    return verdict


def denial(told: Told, stop: Stop) -> dict[str, Any]:
    """A tool denied, as Claude Code and all that copied its hooks understand it."""
    why = {"permissionDecision": "deny", "permissionDecisionReason": stop.reason}
    return {"hookSpecificOutput": {"hookEventName": told.event, **why}}


def entry(hook: Hook, called: dict[str, Any]) -> dict[str, Any]:
    """One group of hooks in an agent's settings: what is `called`, and for which tools."""
    return {**({} if hook.matcher is None else {"matcher": hook.matcher}), "hooks": [called]}


def _path(value: object) -> str:
    """`value` if it can be the absolute path of a file, else ""."""
    usable = isinstance(value, str) and value.startswith("/") and len(value) <= _LONGEST_PATH
    return value if usable and lines.text(value) == value else ""


class Hooks(Protocol):
    """The hooks of one agent program. Every method is pure: no clock, no files, no processes."""

    agent: str
    """The agent's name, as in service.json."""
    folder: str
    """The agent's folder below its user's home: `.claude`."""
    variable: str
    """The environment variable that names another such folder; "" when there is none."""
    home_variable: str
    """The environment variable that names another home for `folder` to lie in; "" when there is none but HOME."""
    below: str
    """The folder within it where transcripts lie: `projects`."""
    settings: str
    """The file within it where hooks are installed."""
    switch: tuple[tuple[str, ...], bool]
    """Where in that file, and by which value, all hooks are switched off; () when it is not there."""
    installed: tuple[Hook, ...]
    """The hooks that are needed, in the order in which they are written."""
    cannot: str
    """What these hooks cannot do, for people; "" when they can do all."""

    def told(self, body: Mapping[str, Any]) -> Told:
        """What a hook's JSON tells.

        Raises:
            UsageError: it is no hook of this agent (no event, no session).

        """
        ...

    def subagents(self, told: Told) -> str:
        """Glob pattern (recursive) of the transcripts of the session's subagents; "" when they cannot be found.

        It is made of `told.transcript`, and no more to be trusted.
        """
        ...

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of a transcript tells; an unreadable line tells nothing and never raises."""
        ...

    def verdict(self, signals: Sequence[Signal], now_ms: int, timezone: str) -> Failure | None:
        """The failure that these signals mean, told at a moment (epoch milliseconds); None when they mean none."""
        ...

    def answer(self, told: Told, stop: Stop | None, note: str = "") -> dict[str, Any]:
        """The answer in the agent's own format: to stop, or to go on; `note` is shown to its user where it can be."""
        ...

    def entry(self, hook: Hook, command: str) -> dict[str, Any]:
        """What stands in the settings, under "hooks" in the list of `hook.event`, to have `command` called."""
        ...
