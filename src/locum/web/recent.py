"""Answers that many ask for at once: worked out once for all of them, as long as nothing has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from locum.engine.supervisor import Supervisor
from locum.web.endpoint import encode
from locum.web.shapes import Usage

OLDEST_S = 1.0
"""How old an answer may be although nothing was written since: windows move with the time."""


class Recent:
    """Keeps the last answer about usage. `work` makes a new one."""

    def __init__(self, supervisor: Supervisor, work: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.supervisor = supervisor
        self._work = work
        self._lock = anyio.Lock()
        self._body = b""
        self._commits = -1
        self._at = 0.0

    async def usage(self) -> bytes:
        """What was used, as JSON: with every commit in it that was there when this was called."""
        commits = self.supervisor.ledger.commits.number
        if not self._serves(commits):
            async with self._lock:
                if not self._serves(commits):
                    began, at = self.supervisor.ledger.commits.number, self.supervisor.clock.monotonic()
                    self._body = encode(await self._work(), Usage)
                    self._commits, self._at = began, at
        return self._body

    def _serves(self, commits: int) -> bool:
        return self._commits >= commits and self.supervisor.clock.monotonic() - self._at < OLDEST_S
