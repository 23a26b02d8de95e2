"""The hooks of Gemini CLI: they can stop everything, but are not called once a turn has failed."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from locum.agents import hooks, lines
from locum.agents.base import Agent, Line, Signal
from locum.agents.hooks import Hook, Moment, Stop, Told
from locum.policy.failure import Failure
from locum.policy.usage import Usage

_MOMENTS = {
    "BeforeAgent": Moment.PROMPT,
    "BeforeModel": Moment.TOOL,
    "BeforeTool": Moment.TOOL,
    "AfterModel": Moment.SPENT,
    "AfterTool": Moment.SPENT,
    "AfterAgent": Moment.DONE,
    "SessionEnd": Moment.OVER,
}
_SHOWN = frozenset({"SessionStart", *_MOMENTS}) - {"SessionEnd"}


class GeminiHooks:
    """What Gemini CLI tells its hooks."""

    agent = "gemini"
    folder = ".gemini"
    variable = ""
    home_variable = "GEMINI_CLI_HOME"
    below = "tmp"
    settings = "settings.json"
    switch: tuple[tuple[str, ...], bool] = (("hooksConfig", "enabled"), False)
    # Not AfterModel: it is called for every piece of a stream, and before the chat log tells what was spent.
    installed: tuple[Hook, ...] = (
        Hook("BeforeAgent", 5),
        Hook("BeforeModel", 5),
        Hook("BeforeTool", 5, "*"),
        Hook("AfterAgent", 10),
        Hook("SessionEnd", 3),
    )
    cannot = (
        "Gemini CLI calls no hook once a turn has failed, and its chat log does not tell why: its limits and failures "
        "are not known here. A turn that was stopped ends as if it had gone well, with exit code 0."
    )

    def __init__(self, agent: Agent) -> None:
        """Read and judge as `agent` does, Gemini CLI's own adapter."""
        self._agent = agent

    def told(self, body: Mapping[str, Any]) -> Told:
        """What a hook's JSON tells. It has no id for a turn."""
        told = hooks.heard(body, _MOMENTS)
        return replace(told, model=lines.key(lines.table(body.get("llm_request")).get("model")) or told.model)

    def subagents(self, told: Told) -> str:
        """They lie in a folder beside the session's own chat log, named by the session."""
        if not told.transcript:
            return ""
        folder, _, _ = told.transcript.rpartition("/")
        return f"{glob.escape(folder)}/{told.session}/*.jsonl"

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of a chat log tells."""
        return self._agent.read(line)

    def verdict(self, signals: Sequence[Signal], now_ms: int, timezone: str) -> Failure | None:
        """The failure that these signals mean. A chat log tells of none."""
        return hooks.failure(self._agent, signals, now_ms, timezone)

    def answer(self, told: Told, stop: Stop | None, note: str = "") -> dict[str, Any]:
        """A prompt that is denied is forgotten, and so is a request to the model: the turn ends, and says why. A tool
        that is denied and no more would have the model asked again.
        """
        shown = {"systemMessage": note} if note and told.event in _SHOWN else {}
        if stop is None or not (told.moment is Moment.PROMPT or (stop.now and told.moment is Moment.TOOL)):
            return shown
        denied = {"decision": "deny", "reason": stop.reason, **shown}
        # A request to the model that is stopped in this way ends too, but says nothing.
        return {"continue": False, "stopReason": stop.reason, **denied} if told.event == "BeforeTool" else denied

    def entry(self, hook: Hook, command: str) -> dict[str, Any]:
        """What stands in settings.json. Times are milliseconds there."""
        called = {"name": "locum", "type": "command", "command": command, "timeout": hook.seconds * 1_000}
        return hooks.entry(hook, called)
