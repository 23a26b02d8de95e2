"""The agents locum knows, and those whose hooks it knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from locum.agents.aider import Aider
from locum.agents.base import Agent
from locum.agents.claude_code import ClaudeCode
from locum.agents.claude_hooks import ClaudeHooks
from locum.agents.codex import Codex
from locum.agents.codex_hooks import CodexHooks
from locum.agents.command import ProgramAgent
from locum.agents.copilot import Copilot
from locum.agents.gemini import Gemini
from locum.agents.gemini_hooks import GeminiHooks
from locum.agents.hooks import Hooks
from locum.agents.opencode import OpenCode
from locum.agents.pi import Pi
from locum.agents.qwen import Qwen
from locum.agents.rules import Rule
from locum.errors import UsageError


def agents(own_rules: Sequence[Rule] = ()) -> Mapping[str, Agent]:
    """Every agent by its name, judging by the user's `own_rules` ahead of the shipped ones."""
    kinds: tuple[Callable[[Sequence[Rule]], Agent], ...] = (
        ClaudeCode,
        Codex,
        Gemini,
        OpenCode,
        Qwen,
        Pi,
        Copilot,
        Aider,
        ProgramAgent,
    )
    known = [kind(own_rules) for kind in kinds]
    return {agent.name: agent for agent in known}


def hooks(agents: Mapping[str, Agent]) -> Mapping[str, Hooks]:
    """The hooks of every agent program that has some, by its name, read and judged as `agents` do."""
    known: tuple[Hooks, ...] = (
        ClaudeHooks(agents[ClaudeCode.name]),
        CodexHooks(agents[Codex.name]),
        GeminiHooks(agents[Gemini.name]),
    )
    return {each.agent: each for each in known}


AGENTS: Mapping[str, Agent] = agents()
"""Every agent, judging by the shipped rules alone."""


def agent(name: str) -> Agent:
    """The agent called `name`. Raises UsageError, which names those there are."""
    if name not in AGENTS:
        raise UsageError(f"there is no agent {name!r}", remedy=f"The agents are {', '.join(AGENTS)}.")
    return AGENTS[name]
