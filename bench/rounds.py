"""Measured things side by side: one of each a round, the order turning, so that noise meets all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

TIMES = "×"  # noqa: RUF001 - the sign that people write

Arms = Mapping[str, Callable[[], float]]
"""By name, what measures itself once and returns its figure."""


def interleaved(arms: Arms, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """The figures of every arm, round by round; those of the warm-up are thrown away."""
    names = list(arms)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figure = arms[name]()
            if number >= warm_up:
                found[name].append(figure)
    return found


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """An arm: how many milliseconds `work` takes."""

    def measure() -> float:
        began = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - began) / 1e6

    return measure


def quantile(figures: Sequence[float], part: float) -> float:
    """The figure that `part` of all do not exceed (nearest rank)."""
    ordered = sorted(figures)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def median(figures: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(figures)


def told(figures: Sequence[float], unit: str) -> str:
    """Median and spread, for people: `3.1 ms (p10 2.9, p90 4.0, p99 7.7; 40 rounds)`."""
    spread = ", ".join(f"p{part} {short(quantile(figures, part / 100))}" for part in (10, 90, 99))
    return f"{short(median(figures))} {unit} ({spread}; {len(figures)} rounds)"


def short(figure: float) -> str:
    """Three digits that matter, and no fewer than the whole ones: 0.0123, 4.56, 78.9, 12,345."""
    if figure == 0 or not math.isfinite(figure):
        return f"{figure:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(figure))))
    return f"{figure:,.{digits}f}"
