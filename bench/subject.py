"""What one benchmark is: the limits it is held against, how it measures, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of the table: a figure that shall be at most (or at least) `bound`."""

    what: str
    bound: float
    unit: str
    at_least: bool = False

    @property
    def target(self) -> str:
        """The bound as people write it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}"

    def kept(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        return figure >= self.bound if self.at_least else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Found:
    """What a benchmark measured: a figure for each of its limits, and in `details` what else is worth telling."""

    figures: tuple[float, ...]
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """One benchmark. `how` tells readers what was done; `tiny` are arguments of `measure` for a run of a second or two.

    `measure` is given an empty folder on the disk that is measured. `known_miss` says why a target is missed, as
    long as it is, and `cannot` why it cannot be measured here, "" where it can.
    """

    name: str
    limits: tuple[Limit, ...]
    how: str
    measure: Callable[..., Found]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    known_miss: str = ""
    cannot: Callable[[], str] = str

    def at_full_size(self, folder: Path) -> Found:
        """The figures that count."""
        return self._checked(self.measure(folder))

    def at_tiny_size(self, folder: Path) -> Found:
        """The same work, too little of it for its figures to mean anything."""
        return self._checked(self.measure(folder, **self.tiny))

    def _checked(self, found: Found) -> Found:
        assert len(found.figures) == len(self.limits), "each limit has its figure"
        return found
