"""What happened when, in virtual time: to be read by people, and compared by digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.sim.clock import SimClock, elapsed


@dataclass
class Trace:
    """Every happening as (virtual seconds, wall clock, who, what)."""

    clock: SimClock
    root: Path
    lines: list[tuple[float, int, str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: int = 0

    def tell(self, who: str, what: str) -> None:
        """One line."""
        self.lines.append((elapsed(), self.clock.now_ms(), who, what))
        self.counts[who] = self.counts.get(who, 0) + 1

    def fault(self, who: str, what: str) -> None:
        """One line about something that was made to go wrong."""
        self.faults += 1
        self.tell(who, f"! {what}")

    def log(self, _logger: Any, _method: str, event: dict[str, Any]) -> str:
        """A processor for structlog: the daemon's own log is part of the story."""
        name = event.pop("event")
        if "exc_info" in event:
            event["exc_info"] = repr(event.get("exc_info"))
        text = " ".join(f"{key}={value}" for key, value in sorted(event.items())).replace(str(self.root), "")
        self.tell("log", f"{name} {text}")
        return ""

    def digest(self) -> str:
        """The same for the same happenings."""
        seen = hashlib.sha256()
        for at, wall, who, what in self.lines:
            seen.update(f"{at:.6f} {wall} {who} {what}\n".encode())
        return seen.hexdigest()[:16]

    def text(self) -> str:
        """For people."""
        return "\n".join(
            f"{int(at) // 3600:3d}:{int(at) // 60 % 60:02}:{at % 60:06.3f}  "
            f"{datetime.fromtimestamp(wall / 1000, UTC):%m-%d %H:%M:%S}  {who:9} {what}"
            for at, wall, who, what in self.lines
        )
