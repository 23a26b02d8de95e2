"""The only place that reads time and makes randomness, so that both can be simulated."""

from __future__ import annotations

import os
import random
import secrets
import struct
import time
import uuid
from pathlib import Path
from typing import Protocol

_AHEAD = struct.Struct("<q")


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

    def key(self) -> str:
        """256 random bits for a secret, fit for a URL."""
        ...

    def nap(self, seconds: float) -> float:
        """How many seconds of the host to sleep at most when `seconds` of this clock are to pass."""
        ...

    def stamped_ms(self, host_ms: int) -> int:
        """What this clock shows (epoch milliseconds) for a moment of the host's: the time stamp of a file."""
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

    def key(self) -> str:
        """256 random bits for a secret, fit for a URL."""
        return secrets.token_urlsafe(32)

    def nap(self, seconds: float) -> float:
        """All of them: this clock goes as the host does."""
        return seconds

    def stamped_ms(self, host_ms: int) -> int:
        """The same: this clock shows what the host's does."""
        return host_ms


class LeapClock(SystemClock):
    """The host's clock, and as far ahead of it as a file says: who rehearses leaps over the hours nobody waits for.

    Every process that reads the same file lives in the same time. No option, variable or key of service.json leads
    here: only `locum drill` starts a daemon on one.
    """

    LONGEST_NAP = 0.05
    """Seconds after which whoever sleeps looks whether there was a leap."""

    def __init__(self, path: Path) -> None:
        """Read `path`, where `leap` writes. Raises OSError when it cannot be opened."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def ahead_ms(self) -> int:
        """How far ahead of the host's clock this one is, in milliseconds."""
        told = os.pread(self._file, _AHEAD.size, 0)
        return int(_AHEAD.unpack(told)[0]) if len(told) == _AHEAD.size else 0

    def leap(self, length_ms: int) -> None:
        """Be that much further ahead, in every process that reads the file."""
        assert length_ms >= 0, "time goes forwards only"
        os.pwrite(self._file, _AHEAD.pack(self.ahead_ms + length_ms), 0)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch, UTC."""
        return super().now_ms() + self.ahead_ms

    def monotonic(self) -> float:
        """Seconds that never run backwards; what was leapt over has passed."""
        return super().monotonic() + self.ahead_ms / 1000

    def nap(self, seconds: float) -> float:
        """Short enough to notice a leap."""
        return min(seconds, self.LONGEST_NAP)

    def stamped_ms(self, host_ms: int) -> int:
        """As far ahead as it is now: leaps are made when nobody writes."""
        return host_ms + self.ahead_ms
