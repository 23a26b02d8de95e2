"""`make sim`: replays one seed and tells its story, or searches fresh seeds for one that breaks a promise."""

from __future__ import annotations

import os
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

from tests.sim.world import simulate

SEEDS = Path(__file__).with_name("seeds.txt")
LOOK_EVERY = 100
Found = tuple[int, str, dict[str, float]]
"""A seed, what it broke ("" if nothing), and its figures."""


def kept() -> list[int]:
    """The seeds that have found something once."""
    return [int(line.split("#")[0]) for line in SEEDS.read_text().splitlines() if line.split("#")[0].strip()]


def one(seed: int) -> Found:
    """Run one seed; a bug of the simulation's own is something broken, too."""
    try:
        report = simulate(seed)
    except Exception:  # noqa: BLE001 - whatever it is, its seed must be told
        return seed, traceback.format_exc(), {}
    return seed, ": ".join(report.broken) if report.broken else "", report.figures


def replay(seed: int) -> int:
    """Tell what happened in one seed, and the verdict."""
    report = simulate(seed)
    print(report.trace.text())
    print(f"\nseed {seed}, digest {report.digest}: {told(report.figures)}")
    print(f"BROKEN ({report.broken[0]}): {report.broken[1]}" if report.broken else "every promise was kept")
    return 1 if report.broken else 0


def told(figures: dict[str, float]) -> str:
    """Figures for people."""
    return ", ".join(f"{value:,.0f} {name.replace('_', ' ')}" for name, value in figures.items())


def search(seeds: Iterable[int]) -> int:
    """Run many seeds on all processors; 1 when one of them broke a promise."""
    began, figures, broken, done = time.monotonic(), Counter[str](), 0, 0
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for seed, what, more in pool.imap_unordered(one, seeds, chunksize=4):
            done += 1
            figures.update(more)  # type: ignore[arg-type]
            if what:
                broken += 1
                print(f"BROKEN by seed {seed}: {what}\n  its story: make sim SEED={seed}", flush=True)
            if done % LOOK_EVERY == 0:
                print(f"{done:,} seeds, {broken} broken, {time.monotonic() - began:.0f} s", flush=True)
    lasted = time.monotonic() - began
    print(f"{done:,} seeds in {lasted:.0f} s: {told(dict(figures))}")
    print(
        f"{figures['hours'] / lasted:.1f} hours of the daemon and {figures['agent_hours'] / lasted:.2f} of its agents a second"
    )
    return 1 if broken else 0


def main(seed: str = "", count: str = "", start: str = "") -> int:
    """`make sim`: one seed, or `count` of them from `start` on; fresh ones where no start is given."""
    if seed:
        return replay(int(seed))
    first, many = int(start or secrets.randbelow(10**9)), int(count or 2000)
    print(f"{many:,} seeds from {first} on")
    return search([*kept(), *range(first, first + many)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
