"""The registry names every agent, and says which there are when asked for another."""

from __future__ import annotations

import pytest

from locum.agents.registry import AGENTS, agent, agents
from locum.agents.rules import parse_rules
from locum.config import model
from locum.errors import UsageError


def test_every_agent_is_known_by_its_own_name() -> None:
    """The key is the adapter's name, with the user's rules or without."""
    own = parse_rules([{"id": "mine", "kind": "network", "pattern": "x"}])
    assert tuple(AGENTS) == tuple(agents(own)) == model.AGENTS
    assert all(agent(name).name == name for name in AGENTS)


def test_an_unknown_agent_is_refused_with_the_known_ones() -> None:
    """The error is the help."""
    with pytest.raises(UsageError, match=", ".join(model.AGENTS)):
        agent("hal")
