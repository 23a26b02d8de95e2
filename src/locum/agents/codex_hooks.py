"""The hooks of Codex: they can stop a prompt and deny tools; a turn's failure stands in its rollout alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from locum.agents import hooks, lines
from locum.agents.base import Agent, Line, Mark, Signal, Source
from locum.agents.hooks import Hook, Moment, Stop, Told
from locum.policy.failure import Failure
from locum.policy.usage import Usage

_MOMENTS = {
    "UserPromptSubmit": Moment.PROMPT,
    "PreToolUse": Moment.TOOL,
    "PostToolUse": Moment.SPENT,
    "SubagentStop": Moment.SPENT,
    "Stop": Moment.DONE,
    "SessionEnd": Moment.OVER,
}
_SHOWN = frozenset({"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "SubagentStop", "Stop"})


class CodexHooks:
    """What Codex tells its hooks."""

    agent = "codex"
    folder = ".codex"
    variable = "CODEX_HOME"
    home_variable = ""
    below = "sessions"
    settings = "hooks.json"
    installed: tuple[Hook, ...] = (
        Hook("UserPromptSubmit", 5),
        Hook("PreToolUse", 5, "*"),
        Hook("Stop", 10),
        Hook("SessionEnd", 3),  # Codex allows no more
    )
    cannot = (
        "Codex cannot be halted in the middle of a turn: its tools are denied, and the model is asked on until it "
        "gives up. Its hooks must be trusted once, with /hooks in Codex itself: until then they are not run, and "
        "nothing says so."
    )

    def __init__(self, agent: Agent) -> None:
        """Read and judge as `agent` does, Codex's own adapter."""
        self._agent = agent

    def told(self, body: Mapping[str, Any]) -> Told:
        """What a hook's JSON tells."""
        return hooks.heard(body, _MOMENTS, "turn_id")

    def subagents(self, told: Told) -> str:  # noqa: ARG002
        """They are threads of their own, somewhere among all others."""
        return ""

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of a rollout tells. Here it also tells of a turn that ended well: the session goes on after a
        turn that failed, and what failed once is over then.
        """
        items = self._agent.read(line)
        return items or ((Signal(Mark.DONE),) if _ended_well(line) else ())

    def verdict(self, signals: Sequence[Signal], now_ms: int, timezone: str) -> Failure | None:
        """The failure that these signals mean."""
        return hooks.failure(self._agent, signals, now_ms, timezone)

    def answer(self, told: Told, stop: Stop | None, note: str = "") -> dict[str, Any]:
        """A tool is denied and no more: Codex throws away an answer with a key it does not support there, the denial
        with it, and `continue` is one.
        """
        shown = {"systemMessage": note} if note and told.event in _SHOWN else {}
        if stop is not None and told.moment is Moment.PROMPT:
            return {"decision": "block", "reason": stop.reason, **shown}
        if stop is not None and stop.now and told.moment is Moment.TOOL:
            denied = {
                "hookEventName": told.event,
                "permissionDecision": "deny",
                "permissionDecisionReason": stop.reason,
            }
            return {"hookSpecificOutput": denied, **shown}
        return shown

    def entry(self, hook: Hook, command: str) -> dict[str, Any]:
        """What stands in hooks.json."""
        return hooks.entry(hook, {"type": "command", "command": command, "timeout": hook.seconds})


def _ended_well(line: Line) -> bool:
    """Whether a line is the end of a turn without an error, since the run began."""
    if line.source is not Source.TRANSCRIPT or b'"task_complete"' not in line.data:
        return False
    row = lines.parse(line.data) or {}
    payload, at_ms = lines.table(row.get("payload")), lines.moment_ms(row.get("timestamp"))
    ended = row.get("type") == "event_msg" and payload.get("type") == "task_complete" and not payload.get("error")
    return ended and (at_ms is None or at_ms >= line.run_started_ms)
