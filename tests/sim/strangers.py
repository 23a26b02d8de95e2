"""Claude Code that people run without hooks: all that is known of it is what it writes into its home."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.sim.accounts import iso, line
from tests.sim.actors import Cast
from tests.sim.oracle import Told
from tests.sim.scripts import CLAUDE_NAMES


@dataclass
class Strangers:
    """People who work on the same accounts and tell nobody. They fork, move and copy what was written."""

    cast: Cast
    told: list[Told] = field(default_factory=list)
    sessions: int = 0
    files: int = 0

    async def work(self) -> None:
        """Sessions come and go, some at the same time."""
        cast, chance = self.cast, self.cast.dice("strangers")
        if not cast.swarm.watched:
            return
        async with trio.open_nursery() as nursery:
            while not cast.over:
                await trio.sleep(chance.expovariate(1 / 1200))
                tiers = cast.editions.setup.tiers.values()
                accounts = sorted({tier.account for tier in tiers if tier.agent == "claude-code"})
                if accounts and not cast.over:
                    nursery.start_soon(self._live, chance.choice(accounts), chance)

    async def _live(self, account: str, chance: random.Random) -> None:
        self.sessions += 1
        session, home = f"alone-{self.sessions}", self.cast.processes.accounts[account].folder / "projects"
        path = self._new(home)
        for number in range(chance.randint(1, 8)):
            await trio.sleep(chance.uniform(0.1, 120))
            if self.cast.over:
                return
            counts = (chance.randint(50, 3000), chance.randint(10, 900), chance.choice((0, 5000)), 0)
            self._tell(path, Told(session, account, home, self.cast.clock.now_ms(), counts), number, chance)
            if chance.random() < 0.2:
                path = self._moved(path, home, chance)

    def _tell(self, path: Path, told: Told, number: int, chance: random.Random) -> None:
        usage = dict(zip(CLAUDE_NAMES, told.counts, strict=True))
        message = {"id": f"{told.session}-{number}", "model": "big", "usage": usage, "content": []}
        row = line(type="assistant", sessionId=told.session, timestamp=iso(told.at_ms), message=message)
        with path.open("a") as file:
            file.write(row * chance.choice((1, 1, 2)))
        self.told.append(told)

    def _moved(self, path: Path, home: Path, chance: random.Random) -> Path:
        """Where it goes on: in a copy, in the same file under another name, or in one written anew in its place."""
        match chance.choice(("copied", "moved", "rewritten")):
            case "copied":
                new = self._new(home)
                shutil.copy(path, new)
                return new
            case "moved":
                return path.rename(self._new(home))
            case _:
                rows = path.read_bytes().splitlines(keepends=True)
                path.unlink()
                path.write_bytes(b"".join(reversed(rows)))
                return path

    def _new(self, home: Path) -> Path:
        self.files += 1
        path = home / "alone" / f"{self.files}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
