"""The daemon's life: started, killed at any moment, stopped cleanly, started again."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import trio

from locum.agents.registry import agents
from locum.config.load import load
from locum.config.reload import Reloader
from locum.engine.supervisor import Supervisor
from locum.errors import ConfigError, StateError
from locum.store.ledger import Ledger
from locum.store.sqlite import Database
from tests.sim.agents import SimProcesses
from tests.sim.clock import SimClock, dice, elapsed
from tests.sim.disk import Disk, FaultyWorker, GoneError
from tests.sim.setups import Setup
from tests.sim.trace import Trace


@dataclass
class Editions:
    """service.json on disk, and who is told that it has changed."""

    path: Path
    setup: Setup  # the last good content that was written
    history: list[Setup] = field(default_factory=list)
    bad_since: float | None = None
    saves: int = 0
    saved: trio.Event = field(default_factory=trio.Event)
    at: float = 0.0

    def write(self, setup: Setup) -> None:
        """Save a good file."""
        self.setup, self.bad_since = setup, None
        self.history.append(setup)
        self.save(json.dumps(setup.written()))

    def save(self, text: str) -> None:
        """Save whatever this is, whole."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)
        self.tell()

    def tell(self) -> None:
        """Wake who watches the file."""
        self.saves, self.at = self.saves + 1, elapsed()
        self.saved.set()
        self.saved = trio.Event()


class _Changes:
    """Says when the file may have changed; several saves in a row are one."""

    def __init__(self, editions: Editions, stop: anyio.Event) -> None:
        self._editions, self._stop, self._seen = editions, stop, -1

    def __aiter__(self) -> AsyncIterator[None]:
        return self

    async def __anext__(self) -> None:
        while self._editions.saves == self._seen and not self._stop.is_set():
            async with trio.open_nursery() as nursery:
                for event in (self._editions.saved, self._stop):
                    nursery.start_soon(self._either, event, nursery.cancel_scope)
        if self._stop.is_set():
            raise StopAsyncIteration
        if self._seen >= 0:
            await trio.sleep(0.1)
        self._seen = self._editions.saves

    async def _either(self, event: Any, scope: trio.CancelScope) -> None:
        await event.wait()
        scope.cancel()


class FileEvents:
    """The host's file events: now and then it tells of everything that has changed, at times of nothing."""

    def __init__(self, seed: int, start: int, quiet: Callable[[], bool]) -> None:
        self._dice, self._quiet = dice(seed, f"events {start}"), quiet
        self._seen: dict[str, int] = {}

    async def __call__(
        self, folders: Sequence[str], wanted: Callable[[str], bool], *, stop: anyio.Event
    ) -> AsyncGenerator[set[str], None]:
        """As `locum.engine.events.listen`, but for how often."""
        while not stop.is_set():
            yield self._changed(folders, wanted) if self._dice.random() < 0.8 else set()
            await self._silence(10 if self._quiet() else self._dice.expovariate(1 / 100), stop)

    async def _silence(self, seconds: float, stop: anyio.Event) -> None:
        """Nothing for so long, or until all is quiet: the end is judged soon after that."""
        until = trio.current_time() + seconds
        while not stop.is_set() and (left := until - trio.current_time()) > 0:
            with trio.move_on_after(min(left, 30)):
                await stop.wait()
            if self._quiet():
                return

    def _changed(self, folders: Sequence[str], wanted: Callable[[str], bool]) -> set[str]:
        found = {path: size for each in folders for path, size in _sizes(each) if wanted(path)}
        changed = {path for path, size in found.items() if self._seen.get(path) != size}
        self._seen = found
        return changed


def _sizes(folder: str) -> list[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted((entry.path, entry.stat(follow_symlinks=False).st_size) for entry in entries)
    return []


@dataclass
class Daemon:
    """What systemd keeps running."""

    root: Path
    clock: SimClock
    disk: Disk
    processes: SimProcesses
    editions: Editions
    trace: Trace
    seed: int
    seen: Callable[[Database[Any]], None]
    broken: Callable[[str, str], None]
    boss: Supervisor | None = None
    up_since: float = 0.0
    stopping: bool = False
    finished: bool = False
    starts: int = 0
    asked: set[str] = field(default_factory=set)  # the runs that lived when it was told to stop
    kill_in: int | None = None  # so many calls of the store from now
    _worker: FaultyWorker | None = None
    _scope: trio.CancelScope | None = None
    _down: trio.Event = field(default_factory=trio.Event)
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = dice(self.seed, "daemon")
        (self.root / "state" / "runs").mkdir(parents=True)
        self.environ = {"HOME": str(self.root), "PATH": "/usr/bin:/bin", "TZ": "UTC"}

    async def keep(self) -> None:
        """Start it, and start it again, until it is finished."""
        while not self.finished:
            await self._once()
            await trio.sleep(self._dice.choice((0.05, 1.0, 5.0, 60.0)) if not self.disk.quiet else 1.0)

    async def _once(self) -> None:
        self.starts += 1
        self._down, self._scope, self.kill_in = trio.Event(), trio.CancelScope(), None
        worker = self._worker = FaultyWorker(self.disk, self.seen, self._at_call, self.broken)
        try:
            with self._scope:
                await self._serve(worker)
        except* GoneError:
            pass
        except* ConfigError as group:
            self.trace.tell("daemon", f"does not start: {type(group.exceptions[0]).__name__}")
            if self.editions.bad_since is None:
                self.broken("daemon", f"it does not start with a good service.json: {group.exceptions!r}")
        except* StateError as group:
            self.trace.tell("daemon", "does not start: the disk fails")
            if self.disk.troubled < elapsed() - 1:
                self.broken("daemon", f"it died of {group.exceptions!r}, and nothing was wrong with the disk")
        finally:
            if self._scope.cancelled_caught:
                self.trace.fault("daemon", "is dead")
            self.boss, self.stopping = None, False
            worker.die()
            self._down.set()

    async def _serve(self, worker: FaultyWorker) -> None:
        reloader = Reloader(load(self.editions.path, self.environ), self.environ)
        ledger = await Ledger.open(
            self.root / "locum.db", reloader.loaded.plan, self.clock.now_ms(), worker, mark="simulated"
        )
        known = agents()
        self.boss = Supervisor(
            ledger=ledger,
            reloader=reloader,
            agents_for=lambda _: known,
            clock=self.clock,
            processes=self.processes,
            state=self.root / "state",
            environ=self.environ,
            worker=worker,
            changes=lambda _path, *, stop: _Changes(self.editions, stop),
            events=FileEvents(self.seed, self.starts, lambda: self.disk.quiet),
        )
        self.up_since = elapsed()
        self.trace.tell("daemon", "is up")
        await self.boss.run()
        open_runs = await ledger.open_runs()
        if self.disk.troubled < elapsed() - 60:
            if open_runs:
                self.broken("stop", f"{len(open_runs)} runs are open after a clean stop")
            if self.processes.alive:
                self.broken("stop", f"{sorted(self.processes.alive)} live on after a clean stop")
        self.trace.tell("daemon", "has stopped")
        await ledger.close()

    def _at_call(self) -> bool:
        """Whether the daemon dies at this very call."""
        if self.kill_in is None:
            return False
        self.kill_in -= 1
        if self.kill_in > 0:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """Nothing of it runs any more: kill -9."""
        self.kill_in = None
        if self._scope and self._worker and not self._down.is_set():
            self.trace.fault("daemon", "kill -9")
            self.boss = None
            self._worker.dead = True
            self._scope.cancel()

    async def stop(self) -> None:
        """A clean stop, and wait for it."""
        if self.boss:
            self.stopping = True
            self.asked |= set(self.processes.alive)
            self.trace.fault("daemon", "is told to stop")
            self.boss.stop()
            await self._down.wait()

    @property
    def steady_for(self) -> float:
        """For how long it has been up, with a disk that works and a clock that only ticks."""
        if self.boss is None or self.stopping:
            return 0.0
        return elapsed() - max(self.up_since, self.disk.troubled)
