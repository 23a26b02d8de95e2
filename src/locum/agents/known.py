"""What can be said of an agent without running it: the version it was measured with, and what its adapter supports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from locum.agents.base import Agent, Seat
from locum.agents.hooks import Hooks, Moment, Stop, Told

MEASURED: Mapping[str, str] = {
    "claude-code": "2.1.197",
    "codex": "0.169.0",
    "gemini": "0.61.0",
    "opencode": "1.18.33",
    "qwen": "0.15.10",
    "copilot": "1.0.102",
    "pi": "0.73.1",
    "aider": "0.86.2",
}
"""Agent -> the version that its adapter was measured with. Another is not refused: it is read as far as it can be."""


@dataclass(frozen=True, slots=True)
class Support:
    """What an adapter can do. `usage`: count its tokens. `resume`: go on with a session. `hooks`: hear of sessions that
    people run themselves. `halt`: stop those in the middle of a turn. `transcripts`: find all that the agent has kept.
    """

    usage: bool
    resume: bool
    hooks: bool
    halt: bool
    transcripts: bool


def support(agent: Agent, hooks: Hooks | None) -> Support:
    """What is supported of `agent`, whose hooks these are (None: it has none that are known)."""
    session = {"session_id": "any"}
    told = [hooks.told({"hook_event_name": hook.event} | session) for hook in hooks.installed] if hooks else []
    return Support(
        usage=agent.reports_usage,
        resume=agent.can_resume,
        hooks=hooks is not None,
        halt=hooks is not None and any(_halts(hooks, each) for each in told),
        transcripts=bool(agent.histories(Seat(agent.name), {"HOME": "/"})),
    )


def _halts(hooks: Hooks, told: Told) -> bool:
    """Whether this hook's answer can end the turn. A tool that is denied, and no more, has the model asked again."""
    answer = hooks.answer(told, Stop("nothing more may be spent", now=True))
    return told.moment is Moment.TOOL and answer.get("continue") is False
