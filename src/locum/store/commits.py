"""How long commits take, as a histogram: what a disk in trouble shows first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator
from contextlib import contextmanager

from locum.clock import SystemClock

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""The upper ends of the histogram's parts, in seconds; the last part has none."""


class Commits:
    """Commits since the file was opened. One thread writes, others may read at any moment."""

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        """Measure with the host's own clock, also where the daemon's time is rehearsed: a disk takes what it takes."""
        self._monotonic = monotonic or SystemClock().monotonic
        self.parts = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    @property
    def number(self) -> int:
        """How many there have been."""
        return sum(self.parts)

    @contextmanager
    def one(self) -> Generator[None, None, None]:
        """Measure a commit; one that fails is not counted."""
        began = self._monotonic()
        yield
        taken = self._monotonic() - began
        self.parts[bisect_left(BOUNDS_S, taken)] += 1
        self.seconds += taken
