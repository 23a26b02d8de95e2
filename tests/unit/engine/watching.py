"""A supervisor that watches homes, told of file events by the test."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from locum.engine.bell import Bell
from tests.unit.web.asgi import supervised
from tests.unit.web.sessions import CONFIG, Session, until


class Told:
    """The host's file events: those that the test tells of, and no other. `refuses` is raised instead of listening."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.refuses: OSError | None = None
        self.rounds = 0
        self._paths: set[str] = set()
        self._bell = Bell()

    def tell(self, *paths: Path) -> None:
        """There was an event for each of these."""
        self._paths |= {str(path) for path in paths}
        self._bell.ring()

    async def __call__(self, folders, wanted, *, stop):
        """As `locum.engine.events.listen`."""
        if self.refuses:
            raise self.refuses
        self.folders = list(folders)
        while not stop.is_set():
            heard, paths = self._bell.heard(), {path for path in self._paths if wanted(path)}
            self._paths.clear()
            self.rounds += 1
            yield paths
            await self._bell.wait(heard, 0.02)


@asynccontextmanager
async def watching(folder: Path, config: dict[str, Any] = CONFIG, told: Told | None = None):
    """A supervisor that watches the homes of its tiers; its events are `boss.sources.events`."""
    async with supervised(folder, config) as boss, anyio.create_task_group() as group:
        boss.sources.events = told or Told()
        boss.intake.begin(group)
        group.start_soon(boss.sources.run)

        async def there() -> bool:
            return boss.sources.events.rounds > 1 or bool(boss.sources.without_events)

        await until(there)
        try:
            yield boss
        finally:
            boss.stop()
            boss.intake.end()
            boss.sources.refresh()


class Unheard(Session):
    """A session without hooks, whose file events arrive."""

    def write(self, data: bytes) -> None:
        """Append to the transcript."""
        super().write(data)
        self.boss.sources.events.tell(self.transcript)


def service(*tiers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A service.json of these tiers."""
    return {"failover": {"tiers": list(tiers)}, **more}


def save(folder: Path, config: dict[str, Any]) -> None:
    """Write service.json anew."""
    (folder / "service.json").write_text(json.dumps(config))
