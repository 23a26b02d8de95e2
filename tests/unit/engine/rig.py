"""A supervisor whose clock and processes are the test's own: everything else is real."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from locum.agents.registry import agents
from locum.clock import SystemClock
from locum.config.load import load
from locum.config.reload import Reloader
from locum.engine.process import Command, Spawn
from locum.engine.spool import Spool
from locum.engine.supervisor import Supervisor
from locum.errors import StateError
from locum.policy.task import Task, TaskState
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker
from tests.ledgers import START

OK = '{"type":"result","status":"ok"}\n'


class HandClock(SystemClock):
    """A clock that moves when it is told to; durations are real ones, and more when told to."""

    def __init__(self, now_ms: int = START) -> None:
        self.wall_ms = now_ms
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        """The hand's position."""
        return self.wall_ms

    def monotonic(self) -> float:
        """Real seconds, and those that were leapt over."""
        return time.monotonic() + self.ahead_s

    def fraction(self) -> float:
        """No jitter."""
        return 0.0


@dataclass
class FakeProcess:
    """A run that writes when the test says so."""

    spawn: Spawn | None
    spool: Spool
    pid: int = 4_000_000
    children: bool = False
    stops: list[float] = field(default_factory=list)
    left: int = 0
    over: anyio.Event = field(default_factory=anyio.Event)

    def say(self, text: str) -> None:
        """Write to standard output."""
        with self.spool.out.open("a") as file:
            file.write(text)

    def end(self, code: int | None = 0, text: str = "") -> None:
        """End with that exit code; None: without one."""
        self.say(text)
        if code is not None:
            (self.spool.folder / "exit").write_text(f"{code}\n")
        self.over.set()

    async def wait(self) -> None:
        """Return when it has ended."""
        await self.over.wait()

    async def stop(self, grace: float) -> None:
        """Be told to stop."""
        self.stops.append(grace)
        if not self.over.is_set():
            self.end(143)

    async def sweep(self) -> int:
        """As many as the test has left."""
        return self.left

    def has_children(self) -> bool:
        """Whether a tool is at work."""
        return self.children


@dataclass
class FakeChild:
    """A command that ends when the test says so."""

    command: Command
    output: bytes = b""
    stops: list[float] = field(default_factory=list)
    code: int = 0
    over: anyio.Event = field(default_factory=anyio.Event)

    def told(self) -> Any:
        """What it reads on its standard input."""
        return json.loads(self.command.stdin.read_text())

    def end(self, code: int = 0, output: bytes = b"") -> None:
        """End with that exit code."""
        self.code, self.output = code, output
        self.over.set()

    async def wait(self) -> int:
        """Return when it has ended."""
        await self.over.wait()
        return self.code

    async def stop(self, grace: float) -> None:
        """Be told to stop."""
        self.stops.append(grace)
        self.over.set()


@dataclass
class FakeProcesses:
    """Starts runs that play `acts`, one after another; the last one again and again. Commands wait for the test."""

    acts: list[Callable[[FakeProcess], None]] = field(default_factory=list)
    started: list[FakeProcess] = field(default_factory=list)
    living: dict[str, FakeProcess] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)
    begun: list[FakeChild] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    refusing: OSError | None = None
    host: str = "boot 1"

    def begin(self, command: Command) -> FakeChild:
        """Begin a command, unless the host refuses."""
        if self.refusing:
            raise self.refusing
        self.begun.append(FakeChild(command))
        return self.begun[-1]

    async def clear(self, task: str) -> int:
        """Remember that it was asked for."""
        self.cleared.append(task)
        return 1

    def boot(self) -> str:
        """The start of the host."""
        return self.host

    def start(self, spawn: Spawn) -> FakeProcess:
        """Start a run."""
        process = FakeProcess(spawn, Spool(spawn.folder))
        (spawn.folder / "pid").write_text("4000000\n")
        act = self.acts[min(len(self.started), len(self.acts) - 1)] if self.acts else None
        self.started.append(process)
        if act:
            act(process)
        return process

    async def find(self, run: str, folder: Path) -> FakeProcess | None:
        """A run that the test says is alive."""
        return self.living.get(run)

    async def sweep(self, run: str) -> int:
        """Remember that it was asked for."""
        self.swept.append(run)
        return 0


def done(process: FakeProcess) -> None:
    """An act: success at once."""
    process.end(0, OK)


def fails(kind: str, **more: Any) -> Callable[[FakeProcess], None]:
    """An act: that failure at once."""
    return lambda process: process.end(1, json.dumps({"type": "failure", "kind": kind, **more}) + "\n")


class Flaky:
    """A method of the ledger that fails while `broken`, and counts how often it did."""

    def __init__(self, ledger: Any, name: str) -> None:
        self.real = getattr(ledger, name)
        self.broken = True
        self.failed = 0
        setattr(ledger, name, self)

    async def __call__(self, *args: Any, **more: Any) -> Any:
        """Fail, or pass it on."""
        if self.broken:
            self.failed += 1
            await anyio.lowlevel.checkpoint()
            raise StateError("the disk is full")
        return await self.real(*args, **more)


def service_of(*tiers: str, **more: Any) -> dict[str, Any]:
    """A service.json with these `command` tiers, each an account of its own."""
    made = [{"name": name, "agent": "command", "command": ["agent"], "account": name} for name in tiers]
    return {"failover": {"tiers": made}, "limits": {"min_free": "1K"}, **more}


@dataclass
class Rig:
    """A supervisor and everything it stands on."""

    boss: Supervisor
    ledger: Ledger
    clock: HandClock
    processes: FakeProcesses
    config: Path
    work: Path

    def configure(self, service: Mapping[str, Any]) -> None:
        """Edit service.json."""
        self.config.write_text(json.dumps(service))

    async def submit(self, prompt: str = "do it", **more: Any) -> Task:
        """Queue a task in a directory of its own."""
        place = self.work / f"{len(list(self.work.iterdir()))}"
        place.mkdir()
        return await self.boss.submit("default", prompt.encode(), str(place), **more)

    async def reach(self, task: Task, *states: TaskState) -> Task:
        """The task once it is in one of these states."""
        await self.until_async(lambda: self._state_in(task, states))
        return await self.ledger.task(task.id)

    async def ended(self, task: Task) -> Task:
        """The task once it has ended."""
        return await self.reach(task, TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED)

    async def _state_in(self, task: Task, states: tuple[TaskState, ...]) -> bool:
        return (await self.ledger.task(task.id)).state in states

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true, bounded."""
        with anyio.fail_after(10):
            while not true():  # noqa: ASYNC110 - nothing tells a test what the engine has not been asked to tell
                await anyio.sleep(0.005)

    async def until_async(self, true: Callable[[], Any]) -> None:
        """Wait until something that has to be asked for is true, bounded."""
        with anyio.fail_after(10):
            while not await true():  # noqa: ASYNC110 - as above
                await anyio.sleep(0.005)

    def leap(self, seconds: float) -> None:
        """Step the wall clock, and wake whoever waits for it."""
        self.clock.wall_ms += int(seconds * 1000)
        self.boss.bell.ring()


async def make(
    folder: Path, service: Mapping[str, Any], *acts: Callable[[FakeProcess], None], clock: HandClock | None = None
) -> Rig:
    """A rig that does not run yet."""
    (folder / "state" / "runs").mkdir(parents=True)
    (folder / "work").mkdir(parents=True)
    config = folder / "service.json"
    config.write_text(json.dumps(service))
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    reloader = Reloader(load(config, environ), environ)
    clock = clock or HandClock()
    ledger = await Ledger.open(folder / "ledger.db", reloader.loaded.plan, clock.now_ms(), InlineWorker())
    processes = FakeProcesses(list(acts))
    known = agents()
    boss = Supervisor(ledger, reloader, lambda _: known, clock, processes, folder / "state", environ)
    return Rig(boss, ledger, clock, processes, config, folder / "work")


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """The rig's supervisor at work, ended when the test is."""
    async with anyio.create_task_group() as group:
        group.start_soon(rig.boss.run)
        try:
            yield rig
        finally:
            rig.boss.stop()
    await rig.ledger.close()
