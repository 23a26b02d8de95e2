"""The environment variables that decide whose login an agent uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

KEYS: Mapping[str, tuple[str, ...]] = {
    "claude-code": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    "codex": ("CODEX_API_KEY", "OPENAI_API_KEY"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "opencode": (
        "OPENCODE_API_KEY",
        "OPENCODE_AUTH_CONTENT",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
    ),
    "qwen": ("OPENAI_API_KEY", "DASHSCOPE_API_KEY", "BAILIAN_CODING_PLAN_API_KEY"),
    "pi": (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_OAUTH_TOKEN",
        "GEMINI_API_KEY",
        "OPENAI_API_KEY",
        "OPENCODE_API_KEY",
        "OPENROUTER_API_KEY",
    ),
    "copilot": (
        "COPILOT_GITHUB_TOKEN",
        "GH_TOKEN",
        "GITHUB_TOKEN",
        "COPILOT_PROVIDER_API_KEY",
        "COPILOT_PROVIDER_BEARER_TOKEN",
    ),
    "aider": (
        "AIDER_ANTHROPIC_API_KEY",
        "AIDER_API_KEY",
        "AIDER_OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "DEEPSEEK_API_KEY",
        "GEMINI_API_KEY",
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
    ),
    "command": (),
}
"""Those that hold a login of the agent: with one of them set it needs no login file."""
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_GOOGLE = ("GOOGLE_APPLICATION_CREDENTIALS",)
_ADDRESSES = ("ANTHROPIC_BASE_URL", "OPENAI_API_BASE", "OPENAI_BASE_URL")
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "claude-code": ("ANTHROPIC_BASE_URL", "ANTHROPIC_FOUNDRY_API_KEY", *_AWS, *_GOOGLE),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", *_GOOGLE),
    "opencode": ("XDG_DATA_HOME", *_AWS, *_GOOGLE),
    "qwen": ("OPENAI_BASE_URL",),
    "pi": (*_ADDRESSES, *_AWS, *_GOOGLE),
    "copilot": ("COPILOT_PROVIDER_BASE_URL",),
    "aider": (*_ADDRESSES, *_AWS, *_GOOGLE),
}
"""Those that say where a login counts, or are another vendor's way to log in, which the agent can go too."""
HOMES: Mapping[str, str] = {
    "claude-code": "CLAUDE_CONFIG_DIR",
    "codex": "CODEX_HOME",
    "gemini": "GEMINI_CLI_HOME",
    "qwen": "QWEN_HOME",
    "pi": "PI_CODING_AGENT_DIR",
    "copilot": "COPILOT_HOME",
    "aider": "HOME",
}
"""Those that name the folder in which an agent keeps its login, as a tier's `home` does, and go before it."""
PLACES = ("HOME", "XDG_DATA_HOME")
"""Those that move a home that nothing else names: paths, and no secrets."""
_MANY = frozenset({"opencode", "pi", "aider"})
"""Agents of any provider, whose key is called after it."""


def logins(agent: str, names: Iterable[str], told: str) -> list[str]:
    """Of `names` of variables, those that decide whose login `agent` uses, sorted.

    `told` is the text of its arguments and settings, which may name a variable as the key of a provider.
    """
    known = {*KEYS[agent], *_BESIDE.get(agent, ()), HOMES.get(agent), "HOME"}
    named = set(re.findall(r"(?:env_key|envKey|apiKey|api_key)\W{1,8}(?:env:)?(\w{1,100})", told))
    return sorted(name for name in names if name in known | named or (agent in _MANY and name.endswith("_API_KEY")))
