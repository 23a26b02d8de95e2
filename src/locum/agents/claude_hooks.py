"""The hooks of Claude Code: they tell of a turn's failure, and can stop a prompt, a tool and the turn with it."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from locum.agents import hooks, lines
from locum.agents.base import Agent, Line, Mark, Signal
from locum.agents.claude_code import ERRORS
from locum.agents.hooks import Hook, Moment, Stop, Told
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Usage

_MOMENTS = {
    "UserPromptSubmit": Moment.PROMPT,
    "PreToolUse": Moment.TOOL,
    "PostToolBatch": Moment.TOOL,  # all tools of one message are done, and the model is to be asked again
    "PostToolUse": Moment.SPENT,
    "SubagentStop": Moment.SPENT,
    "Stop": Moment.DONE,
    "StopFailure": Moment.FAILED,
    "SessionEnd": Moment.OVER,
}
_SHOWN = frozenset({"SessionStart", *_MOMENTS}) - {"StopFailure", "SessionEnd"}
_DETAILS = re.compile(r"(?P<status>\d{3})\s+(?P<body>\{.*)", re.DOTALL)
_STATUS = re.compile(r"\bAPI Error: (?P<status>\d{3})\b")


class ClaudeHooks:
    """What Claude Code tells its hooks. None of them says what was spent: the transcript does."""

    agent = "claude-code"
    folder = ".claude"
    variable = "CLAUDE_CONFIG_DIR"
    home_variable = ""
    below = "projects"
    settings = "settings.json"
    switch: tuple[tuple[str, ...], bool] = (("disableAllHooks",), True)
    installed: tuple[Hook, ...] = (
        Hook("UserPromptSubmit", 5),
        Hook("PreToolUse", 5, "*"),
        Hook("PostToolBatch", 5),
        Hook("Stop", 10),
        Hook("StopFailure", 10),
        Hook("SubagentStop", 10),
        Hook("SessionEnd", 3),
    )
    cannot = ""

    def __init__(self, agent: Agent) -> None:
        """Read and judge as `agent` does, Claude Code's own adapter."""
        self._agent = agent

    def told(self, body: Mapping[str, Any]) -> Told:
        """What a hook's JSON tells."""
        told = hooks.heard(body, _MOMENTS, "prompt_id")
        return replace(told, signal=_failure(body)) if told.moment is Moment.FAILED else told

    def subagents(self, told: Told) -> str:
        """They lie in a folder beside the session's own transcript, named as it is."""
        if not told.transcript.endswith(".jsonl"):
            return ""
        return f"{glob.escape(told.transcript.removesuffix('.jsonl'))}/**/*.jsonl"

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of a transcript tells."""
        return self._agent.read(line)

    def verdict(self, signals: Sequence[Signal], now_ms: int, timezone: str) -> Failure | None:
        """The failure that these signals mean."""
        return hooks.failure(self._agent, signals, now_ms, timezone)

    def answer(self, told: Told, stop: Stop | None, note: str = "") -> dict[str, Any]:
        """A blocked prompt is forgotten, and shown again with the reason.

        A turn is halted in two steps: its tools are denied, and then the model is not asked again. One answer cannot
        do both: a denial that also says `continue: false` does not halt, and without the denial the tool still runs.
        """
        shown = {"systemMessage": note} if note and told.event in _SHOWN else {}
        if stop is not None and told.moment is Moment.PROMPT:
            return {"decision": "block", "reason": stop.reason, **shown}
        if stop is None or not stop.now or told.moment is not Moment.TOOL:
            return shown
        if told.event == "PreToolUse":
            return {**hooks.denial(told, stop), **shown}
        return {"continue": False, "stopReason": stop.reason, **shown}

    def entry(self, hook: Hook, command: str) -> dict[str, Any]:
        """What stands in settings.json."""
        return hooks.entry(hook, {"type": "command", "command": command, "timeout": hook.seconds})


def _failure(body: Mapping[str, Any]) -> Signal:
    """The failure a turn ended with. Its details are the provider's answer: the HTTP status, and the body."""
    error = lines.key(body.get("error")) or "unknown"
    said = lines.text(body.get("last_assistant_message"))
    details = lines.text(body.get("error_details"))
    answered = _DETAILS.match(details)
    message = details
    if answered:
        answer = lines.parse(answered["body"].encode()) or {}
        message = lines.text(lines.table(answer.get("error")).get("message")) or details
    status = answered or _STATUS.search(said)
    overflow = message.lower().startswith("prompt is too long")
    return Signal(
        Mark.FAILED,
        said or message,
        FailureKind.CONTEXT_OVERFLOW if overflow else ERRORS.get(error),
        lines.status(int(status["status"])) if status else None,
        rule="error_details:prompt_too_long" if overflow else f"error:{error}",
    )
