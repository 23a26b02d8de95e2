"""Virtual time, and chance that depends on the seed alone."""

from __future__ import annotations

import random
import uuid

import trio

BASE_MS = 1_000_000_000_000
"""The wall clock when a simulation begins: 2001-09-09 01:46:40 UTC, long before any file's real date."""


def dice(seed: int, name: str) -> random.Random:
    """A stream of chance of its own, so that one actor's choices do not move another's."""
    return random.Random(f"{seed}:{name}")


def elapsed() -> float:
    """Virtual seconds since the simulation began."""
    return trio.current_time()


class SimClock:
    """The host's clock: `offset_ms` is how wrong it is set, `booted` when the host was last started."""

    def __init__(self, seed: int) -> None:
        self._dice = dice(seed, "clock")
        self.offset_ms = 0
        self.booted = 0.0
        self.furthest_ms = 0  # the latest moment it has ever shown
        self.back_until_ms = 0  # what it has to pass before a step back is made up for

    def now_ms(self) -> int:
        """The wall clock; steps."""
        return BASE_MS + round(elapsed() * 1000) + self.offset_ms

    def monotonic(self) -> float:
        """Seconds since the host was started, asleep or not counted alike."""
        return elapsed() - self.booted

    def fraction(self) -> float:
        """Jitter."""
        return self._dice.random()

    def key(self) -> str:
        """As the clock says: nobody logs in to a simulation."""
        raise AssertionError("a simulated daemon gives out no secrets")

    def uuid(self) -> str:
        """A UUID of the seed's."""
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def nap(self, seconds: float) -> float:
        """All of them: what sleeps sleeps in virtual time."""
        return seconds

    def stamped_ms(self, host_ms: int) -> int:
        """The same: what stamps files here does so by this clock."""
        return host_ms

    def step(self, seconds: float) -> None:
        """Set the wall clock forwards or back."""
        self.furthest_ms = max(self.furthest_ms, self.now_ms())
        self.offset_ms += int(seconds * 1000)
        if self.now_ms() < self.furthest_ms:
            self.back_until_ms = self.furthest_ms
