"""The only place that reads time and makes randomness, so that both can be simulated."""

from __future__ import annotations

import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """What the daemon knows of time and chance."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch, UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for measuring durations."""
        ...

    def fraction(self) -> float:
        """A random number in [0, 1), for jitter."""
        ...

    def uuid(self) -> str:
        """A fresh random UUID."""
        ...


class SystemClock:
    """The real clock of the host."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def fraction(self) -> float:
        """A random number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not a secret

    def uuid(self) -> str:
        """A fresh random UUID."""
        return str(uuid.uuid4())
