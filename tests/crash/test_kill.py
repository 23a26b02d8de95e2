"""Kill -9 of the real daemon under running agents, 300 times: nothing lost, nothing doubled, nothing run twice."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.driver import Driver, Kill, first_starts, plan
from tests.crash.field import Field
from tests.crash.oracle import examine
from tests.crash.points import SHARES, TIMES
from tests.harness import LOCUM, Daemon, scripted

Record = Callable[[str, object], None]


def survive(folder: Path, kills: list[Kill], seed: int, record: Record) -> None:
    """Make these kills in one folder; everything must be right afterwards."""
    driver = Driver(Field(folder, random.Random(seed)))
    try:
        for kill in kills:
            driver.live(kill)
        problems, figures = examine(driver)
    finally:
        driver.clear()
    record("figures", figures)
    assert not problems, "\n".join([f"CRASH_SEED={seed}", *problems])
    assert driver.kills == len(kills)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", range(SHARES))
def test_kills_lose_and_double_nothing(share: int, tmp_path: Path, seed: int, record_property: Record) -> None:
    """However often and wherever the daemon is killed: every token that agents issued is in the ledger once, every
    task that was acknowledged has run to its end once, every agent is accounted for, and every crossing told once.
    """
    survive(tmp_path, plan(share, seed), seed, record_property)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("turn", range(TIMES))
def test_a_first_start_may_be_killed_anywhere(turn: int, tmp_path: Path, seed: int, record_property: Record) -> None:
    """A daemon that dies while it makes its very first files leaves nothing in the next one's way."""
    survive(tmp_path, first_starts(seed, turn), seed, record_property)


def test_two_daemons_never_share_a_state(tmp_path: Path) -> None:
    """A second daemon on the same state ends at once and says who is there; the first goes on."""
    made = Daemon(tmp_path, {"failover": {"tiers": [scripted({}, name="a", stage=tmp_path)]}})
    made.start()
    try:
        second = subprocess.run(
            [LOCUM, "serve"],
            env={**made.env, "LOCUM_SOCKET": str(tmp_path / "other.sock")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert "another locum daemon" in second.stderr
        assert made.answers()
    finally:
        made.stop()
