"""Six virtual hours of trouble for each seed, and every promise kept: `make sim SEED=n` tells a seed's story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import kept
from tests.sim.world import simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS, CHUNK = 200, 5


def keeps_every_promise(seed: int) -> None:
    """Fail with the line that replays it."""
    report = simulate(seed)
    assert report.broken is None, f"make sim SEED={seed} tells how: {report.broken[0]}: {report.broken[1]}"


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_trouble_breaks_a_promise(first: int) -> None:
    """Agents, vendors, disk, clock, people and the daemon itself fail by plan; the oracles find nothing."""
    for seed in range(first, first + CHUNK):
        keeps_every_promise(seed)


@pytest.mark.parametrize("seed", kept())
def test_what_was_found_once_stays_mended(seed: int) -> None:
    """Every seed that has ever found something is run for ever."""
    keeps_every_promise(seed)


def test_a_seed_is_the_same_everywhere() -> None:
    """One line replays a failure: the same seed tells the same story in another process, whatever its hashes."""
    tell = "from tests.sim.world import simulate; print(*(simulate(seed).digest for seed in (2, 6)))"
    stories = {
        subprocess.run(
            [sys.executable, "-c", tell],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(stories) == 1
    first, second = stories.pop().split()
    assert first != second, "another seed is another story"
