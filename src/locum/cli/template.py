"""The first service.json: what `init` writes."""

from __future__ import annotations

import shutil

from locum.agents.registry import AGENTS

_TIERS = {
    "claude-code": "claude",
    "codex": "codex",
    "gemini": "gemini",
    "opencode": "opencode",
    "qwen": "qwen",
    "copilot": "copilot",
    "pi": "pi",
    "aider": "aider",
}
"""Agent -> the name of its tier, in the order in which they are best tried: those that tell most of a failure first."""

_HEAD = """\
// What locum runs, and when it moves to the next tier. Saved changes take effect at once, without a restart;
// a mistake changes nothing, and `locum check` says where it is.
{
  // Tokens that all tiers together may use in one period, before the next tier takes over; null: no budget.
  // With one tier there is no next one, and this holds nothing.
  "usage_threshold_tokens": null,
  // Tokens at which every tier is held, and sessions that you run yourself are stopped; null: no limit.
  "usage_halt_tokens": null,
  // When the count starts again: "day", "week", "month", "all", or such as {"rolling": "5h"}.
  "usage_reset": "week",

  "failover": {
    // Most preferred first: when one fails or is used up, the next takes over until it works again.
    "tiers": [
"""

_FOUND = """\
      // The agents found here, each with the login of this user. "model" may name one, as in "model": "opus".
"""

_NONE_FOUND = """\
      // No agent was found on PATH: install one ({programs}),
      // or say where it is with "program": "/path/to/it".
"""

_FOOT = """\

      // Claude Code with an API key, and a budget of its own. The key is read from a file (chmod 600):
      // {"name": "claude-api", "agent": "claude-code", "usage_threshold_tokens": 1000000,
      //  "env": {"ANTHROPIC_API_KEY": {"file": "anthropic.key"}}},

      // A second subscription: log in once with CLAUDE_CONFIG_DIR set to its folder.
      // {"name": "claude-second", "agent": "claude-code", "home": "~/.claude-second"},

      // Any other program that takes a prompt and ends with exit code 0 when it is done:
      // {"name": "other", "agent": "command", "command": ["my-agent", "--prompt-file", "{prompt_file}"]},
    ],
  },
}
"""


def found_agents(path: str) -> dict[str, str]:
    """The agents that are installed: name and executable, in the order they are best tried. `path` is $PATH."""
    found = {name: shutil.which(AGENTS[name].program, path=path) for name in _TIERS if name in AGENTS}
    return {name: program for name, program in found.items() if program}


def first_config(agents: tuple[str, ...]) -> str:
    """A whole, valid service.json with comments, with a tier for each of `agents`."""
    programs = ", ".join(AGENTS[name].program for name in _TIERS if name in AGENTS)
    lead = _FOUND if agents else _NONE_FOUND.format(programs=programs)
    tiers = [f'      {{"name": "{_TIERS[name]}", "agent": "{name}"}},\n' for name in agents or ("claude-code",)]
    return _HEAD + lead + "".join(tiers) + _FOOT
