"""A daemon with a past and work going on, for tests that look at its page: scripted agents, a ledger filled beforehand."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio

from locum.config.load import load
from locum.policy.usage import Payer, Tokens, Usage
from locum.policy.vendor import VendorWindow
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker
from tests.harness import Daemon, scripted, until

HOUR = 3_600_000
SAYS = (
    "Reading src/parser/lexer.py and its tests",
    "Found 3 places where a comment is read as a value",
    "Editing src/parser/lexer.py (2 hunks)",
    "$ pytest -q tests/parser",
    "........F....",
    "1 failed, 12 passed: test_nested_comment still expects the old column",
    "Editing tests/parser/test_lexer.py",
    "$ pytest -q tests/parser",
    "............. 13 passed in 0.41 s",
    "Now the same for src/parser/writer.py",
)
LIMIT = {
    "failure": "usage_limit",
    "message": "You\N{RIGHT SINGLE QUOTATION MARK}ve hit your usage limit. It resets at the end of the 5-hour window.",
    "reset": 2540,
    "usage": {"input": 700, "output": 300, "cache_read": 9000, "cache_write": 1100},
}
LOGIN = {"failure": "auth_error", "message": "Invalid API key · Please run /login"}
SHARE = {"claude-max": 0.62, "claude-api": 0.1, "codex": 0.2, "house": 0.08}
"""What part of the past each tier had."""


class Stage(Daemon):
    """A daemon of one chain, whose first two tiers fail, whose third works, and whose fourth stands ready."""

    def __init__(self, folder: Path, **more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.gate = folder / "gate"
        works = {
            "say": "\n".join(SAYS),
            "usage": {"input": 1200, "output": 600, "cache_read": 14_000, "cache_write": 1900},
            "gate": str(self.gate),
        }
        done = {
            "say": "The tests pass again.",
            "usage": {"input": 500, "output": 400, "cache_read": 7000, "cache_write": 800},
        }
        tiers = [
            scripted(done, LIMIT, done, name="claude-max", stage=folder, model="opus"),
            scripted(LOGIN, done, name="claude-api", stage=folder, model="opus"),
            scripted(done, done, works, name="codex", stage=folder, model="gpt-5.2-codex"),
            scripted(
                done, name="house", stage=folder, model="local", usage_threshold_tokens=400_000, usage_reset="day"
            ),
        ]
        config = {
            "usage_threshold_tokens": 5_000_000,
            "usage_reset": "week",
            "failover": {"tiers": tiers},
            "limits": {"parallel": 2},
            **more,
        }
        super().__init__(folder, config)

    def fill(self, tokens: int = 3_400_000, days: int = 30) -> None:
        """Write a past into the ledger, some of it in the window: about `tokens` in the last seven days."""
        self.state.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(1) as elsewhere:  # the browser's own loop runs here
            elsewhere.submit(anyio.run, self._fill, tokens, days).result()

    async def _fill(self, tokens: int, days: int) -> None:
        now_ms, chance = int(time.time() * 1000), random.Random(7)
        loaded = load(self.config, self.env)
        ledger = await Ledger.open(self.state / "locum.db", loaded.plan, now_ms, InlineWorker())
        try:
            for tier, share in SHARE.items():
                entry = loaded.plan.tiers[tier]
                payer = Payer("command", "default", tier, entry.account, entry.model, f"past-{tier}")
                hours = [hour for hour in range(1, days * 24) if self._works(now_ms - hour * HOUR, chance)]
                week = sum(hour < 7 * 24 for hour in hours)
                usages = [
                    Usage(
                        f"{tier}-{hour}", _some(tokens * share / week, chance), entry.model, None, now_ms - hour * HOUR
                    )
                    for hour in hours
                ]
                await ledger.record_outside(payer, usages, now_ms)
            await ledger.saw_vendor(
                [
                    VendorWindow(
                        "command:claude-max", "five_hour", "allowed_warning", now_ms - 240_000, 91.0, now_ms + 2_540_000
                    ),
                    VendorWindow(
                        "command:claude-max", "seven_day", "allowed", now_ms - 240_000, 64.0, now_ms + 61 * HOUR
                    ),
                    VendorWindow("command:codex", "five_hour", "", now_ms - 2 * HOUR, 37.5, now_ms + HOUR),
                ]
            )
        finally:
            await ledger.close()

    @staticmethod
    def _works(at_ms: int, chance: random.Random) -> bool:
        at = time.gmtime(at_ms / 1000)
        return chance.random() < (0.85 if 7 <= at.tm_hour <= 22 and at.tm_wday < 5 else 0.2)

    def play(self) -> None:
        """Some tasks end, two tiers fail, two tasks are at work and two wait; returns once it is so."""
        for title in ("Update the changelog", "Port the config loader to TOML 1.1", "Tidy the error messages"):
            self.ended(self.submit(f"{title}.", self.place(title), title=title))
        for title in ("Fix comments inside of nested lists", "Find the slow query behind /orders"):
            self.submit(f"{title}.", self.place(title), title=title)
        until(lambda: self.status()["running"] == 2, "two tasks are at work", log=self.log)
        for title in ("Write the migration guide for 2.0", "Remove the deprecated flags"):
            self.submit(f"{title}.", self.place(title), title=title)

    def place(self, name: str) -> Path:
        """A working directory of its own."""
        place = self.work / name.lower().replace(" ", "-").replace("/", "")
        place.mkdir(parents=True, exist_ok=True)
        return place

    def status(self) -> dict[str, Any]:
        """How the chain stands."""
        found: dict[str, Any] = self.client.get("/status")["chains"]["default"]
        return found


def _some(tokens: float, chance: random.Random) -> Tokens:
    """About so many, as agents use them: most of it read from the cache."""
    total = tokens * chance.uniform(0.4, 1.6)
    return Tokens(int(total * 0.06), int(total * 0.05), int(total * 0.78), int(total * 0.11))
