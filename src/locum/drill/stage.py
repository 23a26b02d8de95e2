"""One rehearsal's world: the real daemon on a scratch state, its stand-ins, and a clock that leaps."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import anyio
from anyio.abc import TaskGroup

from locum.agents.base import Agent
from locum.clock import LeapClock, SystemClock
from locum.config.load import Loaded, load
from locum.config.zone import host_timezone
from locum.daemon import agents_for
from locum.drill import double
from locum.drill.ask import Json, ask
from locum.drill.director import Director, Played
from locum.drill.double import Folders
from locum.drill.promises import OUTLIVE, REFUSE
from locum.engine.process import Command, SystemChild, SystemProcesses, signal_group
from locum.engine.seats import Seats
from locum.errors import LocumError, UnreachableError
from locum.policy.plan import Chain, Tier
from locum.policy.window import Calendar, window_at
from locum.store.peek import run_named
from locum.words import from_iso

KILL = 9
SERVE = (sys.executable, "-m", "locum.drill.serve")
"""What is started as the daemon; its arguments follow."""
PATIENCE = 30.0
"""Real seconds in which anything must have happened."""
LOOK_EVERY = 0.02
_LOG_KEPT = 256 << 10
_CALM_MS = 20 * 60_000
_SETTLED = 0.35
"""Real seconds in which the daemon has read what a silent agent said last."""


class BrokenPromiseError(LocumError):
    """The daemon has broken a promise, so that the rehearsal cannot go on."""

    code = "broken_promise"

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(what)
        self.promise = promise


class UsedUpError(Exception):
    """Every tier of a chain is held until somebody raises a limit, so that nothing more can be rehearsed with it."""


@dataclass
class Stage:
    """A world that is running. `leaps` are the leaps of its clock (from, to; epoch milliseconds); `bumped` the targets
    that were held by hand; `cancelled` the tasks that were; `still` how often what is wrong is still so when the first
    tier of a chain that waited comes back.
    """

    folders: Folders
    loaded: Loaded
    agents: Mapping[str, Agent]
    director: Director
    clock: LeapClock
    group: TaskGroup
    serve: Sequence[str]
    environ: Mapping[str, str]
    tasks: list[str] = field(default_factory=list)
    leaps: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bumped: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    began_ms: int = 0
    kills: int = 0
    still: int = 0
    _daemon: SystemChild | None = None
    _gone: anyio.Event = field(default_factory=anyio.Event)
    _host: SystemClock = field(default_factory=SystemClock)

    @property
    def chains(self) -> Mapping[str, Chain]:
        """Every chain of the double."""
        return self.loaded.plan.chains

    @property
    def log(self) -> str:
        """The end of what the daemon wrote."""
        return self._daemon.output.decode(errors="replace") if self._daemon else ""

    def now_ms(self) -> int:
        """The rehearsed time."""
        return self.clock.now_ms()

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        folders = self.folders
        stdin = folders.top / "nothing"
        stdin.touch()
        places = map(str, (folders.config, folders.state, folders.socket, folders.clock))
        command = Command("drill", (*self.serve, *places), self.environ, folders.top, stdin, _LOG_KEPT)
        self._daemon, self._gone = SystemProcesses().begin(command), anyio.Event()
        self.group.start_soon(self._watch, self._daemon, self._gone)
        await self.until(self._answers, OUTLIVE, "the daemon did not start")

    async def _watch(self, child: SystemChild, gone: anyio.Event) -> None:
        await child.wait()
        gone.set()

    async def _answers(self) -> bool:
        if self._gone.is_set():
            raise BrokenPromiseError(OUTLIVE, "the daemon ended by itself")
        try:
            return (await ask(self.folders.socket, "GET", "/healthz"))[0] == 200
        except UnreachableError:
            return False

    async def kill(self) -> None:
        """Kill -9, in whatever it is doing."""
        assert self._daemon is not None
        self.kills += 1
        signal_group(self._daemon.pid, KILL)
        await self._gone.wait()

    async def stop(self) -> None:
        """End it at once, and whatever is left of the agents: nothing here is worth the wait for a clean end.

        Nobody else may watch the daemon any more.
        """
        if self._daemon is None:
            return
        if not self._gone.is_set():
            signal_group(self._daemon.pid, KILL)
            await self._daemon.wait()
        processes = SystemProcesses()
        for folder in (self.folders.state / "runs").glob("*"):
            if not (folder / "exit").exists():
                await processes.sweep(folder.name)

    # ── what is asked of it ──────────────────────────────────────────────────────────────────────────────

    async def get(self, path: str, **query: str | int) -> Json:
        """An answer of the daemon."""
        return await self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    async def post(self, path: str, body: Json | None = None) -> Json:
        """An order to the daemon."""
        return await self._ask("POST", path, body or {})

    async def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            status, answer = await ask(self.folders.socket, method, path, body)
        except UnreachableError as error:
            raise BrokenPromiseError(OUTLIVE, error.sentence()) from error
        if status >= 400:
            raise BrokenPromiseError(REFUSE, f"{method} {path} was refused: {answer.get('detail')}")
        return answer

    async def submit(self, chain: str, *, no_wait: bool = False) -> str:
        """Queue a task in a directory of its own; its id."""
        cwd = self.folders.top / "work" / f"{len(self.tasks) + 1}"
        cwd.mkdir()
        order: Json = {"prompt": "rehearse", "cwd": str(cwd), "chain": chain, "no_wait": no_wait}
        task = str((await self.post("/tasks", order))["id"])
        self.tasks.append(task)
        return task

    async def task(self, task: str) -> Json:
        """A task with its runs."""
        return await self.get(f"/tasks/{task}")

    async def standing(self, chain: str) -> Json:
        """How a chain stands."""
        found: Json = (await self.get("/status"))["chains"][chain]
        return found

    async def holds(self) -> dict[tuple[str, str], int | None]:
        """The end of every hold that is in force, by target and kind."""
        chains = (await self.get("/status"))["chains"].values()
        found = [hold for chain in chains for tier in chain["tiers"] for hold in tier["holds"]]
        return {(hold["target"], hold["kind"]): from_iso(hold["until"]) for hold in found}

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────

    def leap(self, length_ms: int) -> None:
        """Let so much time have passed."""
        if length_ms > 0:
            now_ms = self.now_ms()
            self.leaps.append((now_ms, now_ms + length_ms))
            self.clock.leap(length_ms)

    def leap_to(self, at_ms: int) -> None:
        """Let it be then, if it is not later already."""
        self.leap(at_ms - self.now_ms())

    async def until(self, true: Callable[[], object], promise: str, what: str) -> None:
        """Wait until something is true. Raises BrokenPromiseError when that does not come."""
        with anyio.move_on_after(PATIENCE):
            while True:
                found = true()
                if await found if hasattr(found, "__await__") else found:
                    return
                await anyio.sleep(LOOK_EVERY)
        raise BrokenPromiseError(promise, what)

    def due_ms(self, run: str) -> int:
        """When the task of an ended run is tried again in place: no later, for holds beside it may be as short."""
        found = run_named(self.folders.ledger, run)
        return (found.ended_ms or 0) + found.wait_ms if found else 0

    async def hurry(self) -> None:
        """Leap over the silence of an agent that hangs: nobody waits for it."""
        busy = self.director.on_stage
        if busy and all(each.silent for each in busy):
            await anyio.sleep(_SETTLED)
            if self.director.on_stage == busy:
                self.leap(max(self._patience_ms(each) for each in busy) + 1_000)
                await anyio.sleep(_SETTLED)

    def _patience_ms(self, played: Played) -> int:
        entry = self.loaded.service.tier_entries[played.tier]
        return entry.stall_after_ms or self.loaded.service.limits.stall_after_ms

    def tier(self, name: str) -> Tier:
        """The tier of that name."""
        return self.loaded.plan.tiers[name]


@asynccontextmanager
async def staged(original: Loaded, top: Path, environ: Mapping[str, str], serve: Sequence[str]) -> AsyncIterator[Stage]:
    """A world for `original` in the folder `top`; whatever happens, nothing of it runs on."""
    top.mkdir(mode=0o700)
    folders = Folders(top)
    double.write(original, folders)
    ours = double.environment(environ, folders)
    loaded = load(folders.config, ours)
    clock, known = LeapClock(folders.clock), agents_for(loaded)
    seats = Seats(loaded, known, ours)
    places = {name: seats.seat(name) for name in loaded.service.tier_entries}
    director = Director(loaded.plan.tiers, known, places, host_timezone(ours), clock)
    stage: Stage | None = None
    try:
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: director.serve(folders.director, task_status=task_status))
            stage = Stage(folders, loaded, known, director, clock, group, tuple(serve), ours)
            _find_calm(stage)
            stage.began_ms = stage.now_ms()
            yield stage
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            if stage:
                await stage.stop()
        clock.close()


def _find_calm(stage: Stage) -> None:
    """Begin at a moment with no turn of a window just ahead: what a window counts shall not depend on the hour."""
    rules = {each.window for each in stage.loaded.plan.budgets if isinstance(each.window, Calendar)}
    for _ in range(100):
        ends = [window_at(rule, stage.now_ms()).end_ms or 0 for rule in rules]
        near = [end for end in ends if end < stage.now_ms() + _CALM_MS]
        if not near:
            return
        stage.clock.leap(max(near) - stage.now_ms() + 1_000)


def remove(top: Path) -> None:
    """Take a world's folder away."""
    shutil.rmtree(top, ignore_errors=True)
