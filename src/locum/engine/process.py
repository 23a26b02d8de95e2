"""The only place that starts, watches and ends processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio

from locum.locks import try_lock

WRAPPER = r"""
trap : TERM INT HUP
dir=$1; shift
echo $$ >"$dir/pid"
"$@" <"$dir/stdin" >>"$dir/out" 2>>"$dir/err"
echo $? >"$dir/exit.new" && mv "$dir/exit.new" "$dir/exit"
"""
# The wrapper's standard input is the locked descriptor: as long as it lives, the run's lock is held, and the
# agent, whose input is the prompt, never inherits it. `trap :` lets the wrapper outlive a TERM to the group
# long enough to write the exit code; ignoring the signals would be inherited by the agent.

WRAPPER_NAME = b"locum-run"
"""The wrapper's own name ($0); the run's folder follows it."""
STARTED = 19
"""Where, after the command name, /proc/PID/stat tells when a process was started."""

RUN_VARIABLE = "LOCUM_RUN"
"""Marks every process that descends from a run, so that what leaves the process group is still found."""

PRIVATE = (
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
    "CREDENTIALS_DIRECTORY",
    "LOCUM_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
)
"""Variables of the daemon (by prefix) that are none of an agent's business."""

SWEEP_ROUNDS = 20
SWEEP_PAUSE = 0.05
FIND_ROUNDS = 40
FIND_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Spawn:
    """What to start: `env` is the whole environment, `folder` the run's spool, where `stdin` already lies."""

    run: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    folder: Path


class Process(Protocol):
    """A run's process group, ours or found again."""

    pid: int

    async def wait(self) -> None:
        """Return when the wrapper is gone."""
        ...

    async def stop(self, grace: float) -> None:
        """TERM to the group, `grace` seconds, KILL, then sweep; returns when nothing is left."""
        ...

    async def sweep(self) -> int:
        """Kill what is left of the group, and what escaped it; how many had escaped."""
        ...

    def has_children(self) -> bool:
        """Whether the agent has a child process of its own: a tool at work."""
        ...


class Processes(Protocol):
    """How runs are started and found again."""

    def start(self, spawn: Spawn) -> Process:
        """Start a run.

        Raises:
            OSError: the wrapper cannot be started (the directory is gone, no more processes).

        """
        ...

    async def find(self, run: str, folder: Path) -> Process | None:
        """The run's process when it is alive, else None."""
        ...

    async def sweep(self, run: str) -> int:
        """Kill every process that is left of a run whose wrapper is gone; how many there were."""
        ...


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment without what must not reach an agent."""
    return {name: value for name, value in environ.items() if not name.startswith(PRIVATE)}


class SystemProcesses:
    """Processes of the host."""

    def start(self, spawn: Spawn) -> Process:
        """Start a run in its own session and process group, its lock held from before it exists."""
        lock = try_lock(spawn.folder / "lock")
        assert lock is not None, "a new run's lock is free"
        try:
            child = subprocess.Popen(
                ["/bin/sh", "-c", WRAPPER, WRAPPER_NAME, str(spawn.folder), *spawn.argv],
                stdin=lock,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=spawn.cwd,
                env={**spawn.env, RUN_VARIABLE: spawn.run},
                start_new_session=True,
            )
        finally:
            os.close(lock)
        return SystemProcess(spawn.run, child.pid, child)

    async def find(self, run: str, folder: Path) -> Process | None:
        """Look for the run's wrapper among all processes; a while longer as long as its lock is held."""
        for _ in range(FIND_ROUNDS):
            if pid := wrapper_of(run):
                return SystemProcess(run, pid)
            if not _is_held(folder / "lock"):
                break
            await anyio.sleep(FIND_PAUSE)  # a wrapper has its lock an instant before it has its mark
        return None

    async def sweep(self, run: str) -> int:
        """Kill every process that carries the run's mark, until none does."""
        return await sweep(run)


class SystemProcess:
    """One process group of the host, led by a wrapper."""

    def __init__(self, run: str, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Watch the group that `pid` leads; `child` when it is our own child and has to be reaped."""
        assert pid > 1, "init leads no run, and 0 and below are groups of everybody"
        self.run = run
        self.pid = pid
        self._child = child

    async def wait(self) -> None:
        """Return when the wrapper is gone: a pidfd tells, for children and for adopted ones alike."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self._reap()
        try:
            await anyio.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        return self._reap()

    async def stop(self, grace: float) -> None:
        """TERM to the group, `grace` seconds, KILL, then sweep what escaped the group."""
        self._signal(signal.SIGTERM)
        with anyio.move_on_after(grace):
            await self.wait()
        await self.sweep()
        with anyio.move_on_after(5):
            await self.wait()

    async def sweep(self) -> int:
        """Kill what is left of the run, in its group or out of it."""
        self._signal(signal.SIGKILL)  # the group first: what is in it may have shed the mark
        return await sweep(self.run, spare=self.pid)

    def has_children(self) -> bool:
        """Whether some process of the run is neither the wrapper nor its own child."""
        pids = marked(self.run)
        return any(parent_of(pid) not in (self.pid, 0) and pid != self.pid for pid in pids)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.poll()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a short command ended: its exit code (None: it was killed when its time was up), and what it said."""

    code: int | None
    out: str
    err: str


def run_line(line: str, said: bytes, env: Mapping[str, str], seconds: float) -> Finished:
    """Run a line of sh that hears `said`, for `seconds` at most; when they are up, all of its group is killed."""
    with subprocess.Popen(
        ["/bin/sh", "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(said, timeout=seconds)
            code = child.returncode
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            out, err, code = error.stdout or b"", error.stderr or b"", None
    return Finished(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def sweep(run: str, spare: int = 0) -> int:
    """Kill every process that carries the run's mark but `spare`, in bounded rounds; how many were killed."""
    killed: set[int] = set()
    for _ in range(SWEEP_ROUNDS):
        left = [pid for pid in marked(run) if pid != spare]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        await anyio.sleep(SWEEP_PAUSE)
    return len(killed)


def marked(run: str) -> list[int]:
    """The live processes that carry this run's mark in the environment they were started with."""
    mark = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environ = Path(entry.path, "environ").read_bytes()
            if mark in environ.split(b"\0") and _state_of(int(entry.name)) not in ("Z", "X"):
                found.append(int(entry.name))
    return found


def wrapper_of(run: str) -> int | None:
    """The wrapper of a run while it lives: carries the mark, leads its group, and was started as that run's wrapper.

    Files of the run's folder are not asked: its agent can write them, and a number in them may be anybody's.
    """
    found = []
    for pid in marked(run):
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            is_named = argv[3:4] == [WRAPPER_NAME] and [Path(os.fsdecode(each)).name for each in argv[4:5]] == [run]
            if is_named and os.getpgid(pid) == pid and (fields := _stat(pid)):
                found.append((int(fields[STARTED]), pid))
    return min(found)[1] if found else None  # what imitates a wrapper came after it


def parent_of(pid: int) -> int:
    """The parent of a process, 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _state_of(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else "X"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name (which may hold spaces and brackets)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _is_held(path: Path) -> bool:
    """Whether somebody holds this lock; not when it is no lock."""
    try:
        lock = try_lock(path, create=False)
    except OSError:
        return False
    if lock is not None:
        os.close(lock)
    return lock is None
