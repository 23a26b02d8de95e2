"""What a vendor says of its own windows: a dated reading, never taken for more than it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from locum.policy.failure import HOUR, WINDOW_MS

STALE_MS = HOUR
"""The age from which a reading says little: the account may have been used elsewhere since."""


class Freshness(StrEnum):
    """What a reading is still worth."""

    CURRENT = "current"
    STALE = "stale"  # older than STALE_MS
    OVER = "over"  # its window has ended since: of the new one nothing is known


@dataclass(frozen=True, slots=True)
class VendorWindow:
    """One reading of one window of an account. `name` is a key of `WINDOW_MS`, or the vendor's own name for another.

    `used` is the percentage used (None: not told), `reset_ms` when the window ends, `at_ms` when this was so (epoch
    milliseconds); `model` the one model it is about; `status` the vendor's own word.
    """

    account: str
    name: str
    status: str
    at_ms: int
    used: float | None = None
    reset_ms: int | None = None
    model: str | None = None

    @property
    def began_ms(self) -> int | None:
        """When the window began; None when its end or its length is not known."""
        length_ms = WINDOW_MS.get(self.name)
        return None if length_ms is None or self.reset_ms is None else self.reset_ms - length_ms

    def freshness(self, now_ms: int) -> Freshness:
        """What it is worth at a moment. One of a clock that was ahead is not fresher for that."""
        if self.reset_ms is not None and self.reset_ms <= now_ms:
            return Freshness.OVER
        return Freshness.STALE if abs(now_ms - self.at_ms) >= STALE_MS else Freshness.CURRENT
