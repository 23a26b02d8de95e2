"""The recordings of the corpus are what the installed agents write: a verdict that is right of them is right today."""

from __future__ import annotations

from pathlib import Path

import pytest

from locum.agents.replay import CORPUS
from tests.corpus.refresh import refresh

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]


@pytest.mark.parametrize("agent", sorted({path.parent.name for path in CORPUS.glob("*/live.*")}))
def test_a_fresh_recording_means_what_the_old_one_means(agent: str, tmp_path: Path) -> None:
    """Kind, tokens and session of a success and of a failure are read from today's output as from the recorded."""
    names = ("tool", "auth")  # the other cases are tried again for minutes: `make corpus-refresh` has them
    assert refresh([agent], names, tmp_path)
    fresh = {path.parent.name for path in tmp_path.glob(f"{agent}/*/expected.json")}
    assert fresh == {f"live.{name}" for name in names}
    assert all((CORPUS / agent / name).is_dir() for name in fresh), (
        "a fresh recording has an old one to be compared with"
    )
