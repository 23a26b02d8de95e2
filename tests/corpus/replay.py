"""The recorded runs, and where their transcripts lay."""

from __future__ import annotations

from pathlib import Path

from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.agents.replay import CORPUS, CWD, Case, cases
from locum.engine.spool import expand

__all__ = ["CORPUS", "Case", "cases", "is_found_on_disk"]


def is_found_on_disk(case: Case, session: str, home: Path) -> bool:
    """Whether the runner's own search finds the recorded transcript, laid where the agent had laid it."""
    place = case.meta.get("place")
    if not place:
        return False
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).touch()
    agent = AGENTS[case.agent]
    chosen, env = case.meta.get("chosen", ""), {"HOME": "/nowhere"} | case.environ(home)
    patterns = agent.sources(Seat("t", home=home), CWD, session or chosen, env)
    return home / place in expand(patterns)
