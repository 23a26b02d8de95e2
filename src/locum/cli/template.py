"""The first service.json: what `init` writes."""

from __future__ import annotations

import shutil

_PROGRAMS = {"claude-code": "claude", "codex": "codex"}

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

_TIERS = {
    "claude-code": """\
      // Claude Code, with the login of this user. "model" may name one, such as "opus".
      {"name": "claude", "agent": "claude-code"},
""",
    "codex": """\
      // Codex, with the login of this user.
      {"name": "codex", "agent": "codex"},
""",
}

_NONE_FOUND = """\
      // No agent was found on PATH: install one (claude or codex), or say where it is with "program": "/path/to/it".
      {"name": "claude", "agent": "claude-code"},
"""

_FOOT = """\

      // The same agent with an API key, and a budget of its own. The key is read from a file (chmod 600):
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
    found = {agent: shutil.which(program, path=path) for agent, program in _PROGRAMS.items()}
    return {agent: program for agent, program in found.items() if program}


def first_config(agents: tuple[str, ...]) -> str:
    """A whole, valid service.json with comments, with a tier for each of `agents`."""
    return _HEAD + ("".join(_TIERS[agent] for agent in agents) or _NONE_FOUND) + _FOOT
