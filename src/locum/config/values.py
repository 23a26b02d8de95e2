"""Small values that are written as text: lengths of time and sizes."""

from __future__ import annotations

import re

from locum.policy.failure import DAY, HOUR, MINUTE, SECOND

DURATION_PATTERN = r"^([0-9]+[smhd])+$"
SIZE_PATTERN = r"^[0-9]+[KMGT]$"
LONGEST_MS = 3660 * DAY
LARGEST_BYTES = 1 << 60

_UNIT_MS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_UNIT_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def duration_ms(text: object) -> int:
    """Milliseconds of `90s`, `5m`, `5h`, `7d` or `1h30m`: more than nothing, at most ten years. Raises ValueError."""
    if not isinstance(text, str) or len(text) > 40 or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError("not a length of time")
    total = sum(int(number) * _UNIT_MS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))
    if not 0 < total <= LONGEST_MS:
        raise ValueError("out of range")
    return total


def size_bytes(text: object) -> int:
    """Bytes of `64K`, `512M`, `1G` or `2T` (powers of 1024), more than nothing. Raises ValueError."""
    if not isinstance(text, str) or len(text) > 20 or not re.fullmatch(SIZE_PATTERN, text):
        raise ValueError("not a size")
    total = int(text[:-1]) * _UNIT_BYTES[text[-1]]
    if not 0 < total <= LARGEST_BYTES:
        raise ValueError("out of range")
    return total


def thousandths(weight: object) -> int:
    """A weight as thousandths of a token: true is 1000, false 0, 0.1 is 100. Raises ValueError."""
    if isinstance(weight, bool):
        return 1000 * weight
    if not isinstance(weight, (int, float)) or not 0 <= weight <= 1000:
        raise ValueError("not a weight")
    exact = round(weight * 1000)
    if exact / 1000 != weight:
        raise ValueError("more than three decimals")
    return exact
