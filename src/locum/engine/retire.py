"""Removes the files of runs that ended long ago, as the rows that go with them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import structlog

from locum.clock import Clock
from locum.config.load import Loaded
from locum.engine.post_task import PostTasks
from locum.errors import StateError
from locum.store.ledger import Ledger
from locum.store.worker import Worker

log = structlog.get_logger(__name__)

RETIRE_EVERY = 3600.0
"""Seconds between two rounds."""


class Service(Protocol):
    """What is needed of the running service."""

    stopping: anyio.Event
    ledger: Ledger
    clock: Clock
    worker: Worker
    state: Path
    post_tasks: PostTasks

    @property
    def loaded(self) -> Loaded:
        """The configuration in use."""
        ...


async def retire(boss: Service) -> None:
    """Remove what ended longer ago than `limits.retention`, every hour, until the service stops."""
    while not boss.stopping.is_set():
        try:
            await once(boss)
        except (StateError, OSError) as error:
            log.error("not_retired", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug
        with anyio.move_on_after(RETIRE_EVERY):
            await boss.stopping.wait()


async def once(boss: Service) -> None:
    """One round.

    Raises:
        StateError: the ledger cannot be read or written now.
        OSError: the folder of runs cannot be read.

    """
    before_ms = boss.clock.now_ms() - boss.loaded.service.limits.retention_ms
    await boss.ledger.prune(before_ms)
    await boss.post_tasks.retire(before_ms)
    kept = {run.id for run in await boss.ledger.open_runs()}
    for folder in (boss.state / "runs").iterdir():
        if folder.name not in kept and folder.lstat().st_mtime_ns < before_ms * 1_000_000:
            await boss.worker.aside(partial(shutil.rmtree, folder, ignore_errors=True))
