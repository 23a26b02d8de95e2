"""Accounts at vendors, with troubles that come and go."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from tests.sim.clock import SimClock, dice, elapsed
from tests.sim.swarm import PROVIDER, Swarm
from tests.sim.trace import Trace

DAY = 86_400.0
LASTS = {  # seconds: from, to
    "auth_error": (300, 3600),
    "credit_exhausted": (600, 10_000),
    "usage_limit": (300, 9000),
    "rate_limit": (5, 900),
    "overloaded": (5, 900),
    "server_error": (5, 900),
    "network": (5, 1200),
    "model_unavailable": (600, 9000),
}


@dataclass(frozen=True)
class Refusal:
    """What an agent is told instead of an answer."""

    kind: str
    reset_ms: int | None = None
    window: str | None = None
    model: str | None = None


@dataclass
class Account:
    """One login at a vendor."""

    name: str
    folder: Path
    swarm: Swarm
    trace: Trace
    clock: SimClock
    seed: int
    well: bool = False  # from the moment all troubles end
    _trouble: tuple[str, float, str | None] | None = None  # kind, when it ends, the model it is about
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = dice(self.seed, f"account {self.name}")
        self.folder.mkdir()
        self.log_in()

    @property
    def login(self) -> str:
        """The content of its login file."""
        return (self.folder / ".credentials.json").read_text()

    def log_in(self) -> None:
        """A new login: the file is replaced whole."""
        new = self.folder / "new"
        new.write_text(json.dumps({"token": self._dice.getrandbits(64)}))
        new.rename(self.folder / ".credentials.json")

    def mend(self) -> None:
        """All is well from now on; a broken login is renewed."""
        self.well, trouble, self._trouble = True, self._trouble, None
        if trouble and trouble[0] == "auth_error":
            self.log_in()

    def refuse(self, model: str | None) -> Refusal | None:
        """What the vendor says to a request now; None: it answers."""
        if self._trouble is None:
            return None
        kind, ends, only = self._trouble
        if only is not None and only != model:
            return None
        reset_ms, window = None, None
        if kind in ("usage_limit", "rate_limit"):
            reset_ms = self._reset_ms(ends)
            window = self._dice.choice((None, None, "five_hour", "seven_day")) if kind == "usage_limit" else None
        elif self._dice.random() < 0.1:
            reset_ms = self._reset_ms(ends)
        named = only if kind == "usage_limit" else None
        return Refusal(kind, reset_ms, window, named)

    def _reset_ms(self, ends: float) -> int | None:
        """When the vendor says it is over: true, stale, absurd, or not told at all."""
        true_ms = self.clock.now_ms() + round(max(0.0, ends - elapsed()) * 1000)
        lie = self._dice.choice((0, 0, -3600, -60, 60 * DAY, None))
        return None if lie is None else (true_ms if lie == 0 else self.clock.now_ms() + int(lie * 1000)) // 1000 * 1000

    async def live(self) -> None:
        """Troubles come and go, as far as the seed knows them."""
        kinds = self.swarm.on(*PROVIDER)
        while kinds:
            await trio.sleep(self._dice.expovariate(1 / 2400))
            if self.well:
                return
            kind = self._dice.choices(kinds, [self.swarm.rate(each) for each in kinds])[0]
            lasts = self._dice.uniform(*LASTS[kind])
            only = None
            if kind == "model_unavailable" or (kind == "usage_limit" and self._dice.random() < 0.3):
                only = self._dice.choice(("big", "small"))
            self._trouble = (kind, elapsed() + lasts, only)
            self.trace.fault("vendor", f"{self.name}: {kind} for {lasts:.0f} s{f', {only} only' if only else ''}")
            await trio.sleep(lasts)
            if self.well:
                return
            self._trouble = None
            self.trace.tell("vendor", f"{self.name}: well again")
            if kind == "auth_error" or (kind == "credit_exhausted" and self._dice.random() < 0.5):
                self.log_in()


def iso(at_ms: int) -> str:
    """A moment as vendors write it."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def line(**told: Any) -> str:
    """One line of JSON."""
    return json.dumps(told) + "\n"
