"""What is said of agents that are not run."""

from __future__ import annotations

import pytest

from locum.agents.known import MEASURED, Support, support
from locum.agents.registry import AGENTS, hooks
from tests.acceptance.install_agents import AGENTS as INSTALLED

HOOKS = hooks(AGENTS)


def test_measured_is_what_the_tests_install():
    """The versions that people are told are the ones that the real programs are tested with, and no agent lacks one."""
    assert {name: agent.version for name, agent in INSTALLED.items()} == MEASURED
    assert set(AGENTS) - {"command"} <= set(MEASURED)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("claude-code", Support(usage=True, resume=True, hooks=True, halt=True, transcripts=True)),
        ("codex", Support(usage=True, resume=True, hooks=True, halt=False, transcripts=True)),
        ("opencode", Support(usage=True, resume=True, hooks=False, halt=False, transcripts=False)),
        ("pi", Support(usage=True, resume=True, hooks=False, halt=False, transcripts=True)),
        ("copilot", Support(usage=True, resume=True, hooks=False, halt=False, transcripts=True)),
        ("aider", Support(usage=True, resume=False, hooks=False, halt=False, transcripts=False)),
        ("command", Support(usage=False, resume=False, hooks=False, halt=False, transcripts=False)),
    ],
)
def test_support_is_what_the_adapter_answers(name, found):
    """Nothing is claimed that the adapter, or its hooks, cannot do."""
    assert support(AGENTS[name], HOOKS.get(name)) == found


def test_without_hooks_nobody_is_heard_or_halted():
    """An agent whose hooks are not known is not said to have any."""
    found = support(AGENTS["codex"], None)
    assert (found.hooks, found.halt) == (False, False)
