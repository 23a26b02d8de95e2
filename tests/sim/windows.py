"""What was spent in a window, worked out from the entries alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from tests.sim.setups import Reset

MINUTE = 60_000
DAY = 86_400_000
MADRID = ZoneInfo("Europe/Madrid")
Weights = tuple[int, int, int, int]


@dataclass
class Spent:
    """Everything that one scope has spent, by moment."""

    rows: list[tuple[int, tuple[int, int, int, int]]] = field(default_factory=list)
    _sums: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, at_ms: int, counts: tuple[int, int, int, int]) -> None:
        """One more entry; late ones too."""
        insort(self.rows, (at_ms, counts), key=lambda row: row[0])
        if self.rows[-1] != (at_ms, counts) or len(self._sums) != len(self.rows) - 1:
            self._sums = []
        for _, each in self.rows[len(self._sums) :]:
            before = self._sums[-1] if self._sums else (0, 0, 0, 0)
            self._sums.append(tuple(a + b for a, b in zip(before, each, strict=True)))  # type: ignore[arg-type]

    def within(self, start_ms: int, end_ms: int | None, weights: Weights) -> int:
        """The weighed sum (thousandths of a token) of start <= at < end."""
        first = bisect_left(self.rows, start_ms, key=lambda row: row[0])
        last = len(self.rows) if end_ms is None else bisect_left(self.rows, end_ms, key=lambda row: row[0])
        if last <= first:
            return 0
        top, bottom = self._sums[last - 1], self._sums[first - 1] if first else (0, 0, 0, 0)
        return sum((a - b) * weight for a, b, weight in zip(top, bottom, weights, strict=True))

    def frees_at(self, length_ms: int, limit: int, weights: Weights, now_ms: int) -> int:
        """The first moment after now at which the last `length_ms` hold less than `limit` tokens."""
        moments = sorted({at + length_ms for at, _ in self.rows if at > now_ms - length_ms})
        for moment in moments:
            if self.within(moment - length_ms + 1, None, weights) < limit * 1000:
                return max(now_ms + 1, moment)
        return now_ms + length_ms


@dataclass
class Blocks:
    """Where the blocks of one rule began, for one scope."""

    length_ms: int
    starts: list[int] = field(default_factory=list)

    def use(self, at_ms: int) -> None:
        """Something was used at that moment: it may open a block, and never moves one."""
        if not self.starts or at_ms >= self.starts[-1] + self.length_ms:
            self.starts.append(at_ms)

    def start(self, now_ms: int) -> int | None:
        """Where the block that is open now began."""
        begun = [start for start in self.starts if start <= now_ms < start + self.length_ms]
        return begun[-1] if begun else None


def length_of(reset: Reset) -> int:
    """The length of a rolling window or a block."""
    return reset[1] * MINUTE


def window(reset: Reset, now_ms: int, blocks: Blocks | None) -> tuple[int, int | None]:
    """From when to when counts what is counted now; end None: it moves, or never comes."""
    match reset[0]:
        case "day":
            start = now_ms // DAY * DAY
            return start, start + DAY
        case "week":
            day = now_ms // DAY
            monday = (day - (day + 3) % 7) * DAY
            return monday, monday + 7 * DAY
        case "madrid":
            local = datetime.fromtimestamp(now_ms // 1000, MADRID).replace(tzinfo=None)
            first = (local - timedelta(hours=4)).date()
            return _four(first), _four(first + timedelta(days=1))
        case "rolling":
            return now_ms - length_of(reset) + 1, None
        case "block":
            start_ms = blocks.start(now_ms) if blocks else None
            return (now_ms, now_ms) if start_ms is None else (start_ms, start_ms + length_of(reset))
        case _:
            return 0, None


def _four(day: object) -> int:
    return int(datetime.combine(day, time(4), MADRID).timestamp()) * 1000  # type: ignore[arg-type]
