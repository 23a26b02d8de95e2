"""The hooks of Codex: they can stop a prompt and deny tools, and tell of a limit; other failures the rollout tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from locum.agents import hooks, lines
from locum.agents.base import Agent, Line, Mark, Signal, Source
from locum.agents.codex import told_error
from locum.agents.hooks import Hook, Moment, Stop, Told
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Usage

_MOMENTS = {
    "UserPromptSubmit": Moment.PROMPT,
    "PreToolUse": Moment.TOOL,
    "PostToolUse": Moment.SPENT,
    "PostModelRequest": Moment.SPENT,
    "SubagentStop": Moment.SPENT,
    "Stop": Moment.DONE,
    "SessionEnd": Moment.OVER,
}
_SHOWN = frozenset({"SessionStart", *_MOMENTS}) - {"PostModelRequest", "SessionEnd"}
# What Codex does not try again by itself. Of any other failed request it cannot be told here whether it is the end.
_FINAL = frozenset({FailureKind.CREDIT_EXHAUSTED, FailureKind.USAGE_LIMIT})


class CodexHooks:
    """What Codex tells its hooks."""

    agent = "codex"
    folder = ".codex"
    variable = "CODEX_HOME"
    home_variable = ""
    below = "sessions"
    settings = "hooks.json"
    switch: tuple[tuple[str, ...], bool] = ((), False)  # [features] hooks in config.toml
    installed: tuple[Hook, ...] = (
        Hook("UserPromptSubmit", 5),
        Hook("PreToolUse", 5, "*"),
        Hook("PostModelRequest", 5),
        Hook("Stop", 10),
        Hook("SessionEnd", 3),  # Codex allows no more
    )
    cannot = (
        "Codex cannot be halted in the middle of a turn: its tools are denied, and the model is asked on until it "
        "gives up. Its hooks must be trusted once, and again when they change: Codex asks when it is started in a "
        "terminal, and /hooks shows them. Until then they are not run, and `codex exec` does not say so."
    )

    def __init__(self, agent: Agent) -> None:
        """Read and judge as `agent` does, Codex's own adapter."""
        self._agent = agent

    def told(self, body: Mapping[str, Any]) -> Told:
        """What a hook's JSON tells. A request that failed because of a limit ends its turn, and no other hook says
        so; what Codex may still try again is left for the rollout to tell.
        """
        told = hooks.heard(body, _MOMENTS, "turn_id")
        error = lines.text(body.get("error"))
        if told.event != "PostModelRequest" or not error:
            return told
        signal = told_error(error)
        failure = hooks.failure(self._agent, [signal], 0, "UTC")
        if failure is None or failure.kind not in _FINAL:
            return told
        return replace(told, moment=Moment.FAILED, signal=signal)

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
            return {**hooks.denial(told, stop), **shown}
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
