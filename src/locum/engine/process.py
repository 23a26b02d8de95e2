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

from locum.engine.proc import POST_TASK_VARIABLE, RUN_VARIABLE, marked, parent_of, started_at
from locum.files import open_regular
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

CHUNK = 64 << 10
"""Bytes of a command's output that are read at a time: as much as a pipe holds."""
PIPE_CHUNKS = 16
FLOOD_PAUSE = 0.002
"""Seconds before a command that fills its pipe is read again: it waits, and the daemon has time for others."""
UNKILLABLE = 5.0
"""Seconds after which it is not waited any longer for what even KILL does not end."""

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


@dataclass(frozen=True, slots=True)
class Command:
    """A program of the operator's own to run after `task`: `env` is the whole environment, `stdin` a file.

    The last `kept` bytes of what it writes are kept, however much that is.
    """

    task: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    stdin: Path
    kept: int


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
        """Kill what is left of the run, in its group or out of it; how many processes there were."""
        ...

    def has_children(self) -> bool:
        """Whether the agent has a child process of its own: a tool at work."""
        ...


class Child(Protocol):
    """A command that was begun and is waited for."""

    @property
    def output(self) -> bytes:
        """The end of what it has written so far, to either stream."""
        ...

    async def wait(self) -> int:
        """Read what it writes until it has ended; its exit code, 128 + N when signal N ended it."""
        ...

    async def stop(self, grace: float) -> None:
        """TERM to its group, `grace` seconds, KILL; returns when it is gone."""
        ...


class Processes(Protocol):
    """How runs are started and found again, and commands are run."""

    def boot(self) -> str:
        """The start of the host, or of the container: no process is older, and none outlives it; "" if unknown."""
        ...

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

    def begin(self, command: Command) -> Child:
        """Begin a command in a session of its own.

        Raises:
            OSError: it cannot be started (there is no such program, it may not be executed, no more processes).

        """
        ...

    async def clear(self, task: str) -> int:
        """Kill what a daemon that is gone has left of the command after `task`; how many processes there were."""
        ...


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment without what must not reach an agent."""
    return {name: value for name, value in environ.items() if not name.startswith(PRIVATE)}


class SystemProcesses:
    """Processes of the host."""

    def boot(self) -> str:
        """The kernel's id of this boot, and when the first process was started, which in a container is later."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        first = started_at(1)
        return "" if first is None else f"{boot} {first}"

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

    def begin(self, command: Command) -> SystemChild:
        """Begin a command whose two streams are one pipe: what nobody keeps fills no disk."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            with open(open_regular(command.stdin), "rb") as stdin:  # noqa: PTH123 - by descriptor
                child = subprocess.Popen(
                    command.argv,
                    stdin=stdin,
                    stdout=writing,
                    stderr=writing,
                    cwd=command.cwd,
                    env={**command.env, POST_TASK_VARIABLE: command.task},
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return SystemChild(child, reading, command.kept)

    async def clear(self, task: str) -> int:
        """Kill every process that carries the mark of the command after `task`, until none does."""
        return await sweep(task, variable=POST_TASK_VARIABLE)


class SystemProcess:
    """One process group of the host, led by a wrapper."""

    def __init__(self, run: str, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Watch the group that `pid` leads; `child` when it is our own child and has to be reaped."""
        assert pid > 1, "init leads no run, and 0 and below are groups of everybody"
        self.run = run
        self.pid = pid
        self._child = child

    async def wait(self) -> None:
        """Return when the wrapper is gone."""
        await gone(self.pid)
        if self._child is not None:
            self._child.poll()

    async def stop(self, grace: float) -> None:
        """TERM to the group, `grace` seconds, KILL, then sweep what escaped the group."""
        self._signal(signal.SIGTERM)
        with anyio.move_on_after(grace):
            await self.wait()
        await self.sweep()
        with anyio.move_on_after(5):
            await self.wait()

    async def sweep(self) -> int:
        """Kill what is left of the run, in its group or out of it; how many processes there were."""
        left = [pid for pid in marked(self.run) if pid != self.pid]
        self._signal(signal.SIGKILL)  # the group first: what is in it may have shed the mark
        return max(len(left), await sweep(self.run, spare=self.pid))

    def has_children(self) -> bool:
        """Whether some process of the run is neither the wrapper nor its own child."""
        pids = marked(self.run)
        return any(parent_of(pid) not in (self.pid, 0) and pid != self.pid for pid in pids)

    def _signal(self, number: int) -> None:
        signal_group(self.pid, number)


class SystemChild:
    """A command of the host: leader of its group, with a pipe from it."""

    def __init__(self, child: subprocess.Popen[bytes], reading: int, kept: int) -> None:
        self._child = child
        self._reading = reading
        self._kept = kept
        self._output = bytearray()

    @property
    def pid(self) -> int:
        """The leader of its group."""
        return self._child.pid

    @property
    def output(self) -> bytes:
        """The last bytes it has written so far."""
        return bytes(self._output[-self._kept :])

    async def wait(self) -> int:
        """Read until it has ended. What is then left of its group is killed; what has left the group lives on."""
        if self._child.returncode is None:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read)
                await gone(self._child.pid)
                group.cancel_scope.cancel()
            signal_group(self._child.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            for _ in range(PIPE_CHUNKS):  # what it wrote last; others may write there for ever
                if not self._take():
                    break
            os.close(self._reading)
            self._child.wait()
        code: int = self._child.returncode
        return 128 - code if code < 0 else code

    async def stop(self, grace: float) -> None:
        """TERM to its group, `grace` seconds, KILL; returns when it is gone, or cannot be killed."""
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, UNKILLABLE)):
            if self._child.returncode is None:
                signal_group(self._child.pid, number)
                with anyio.move_on_after(patience):
                    await self.wait()

    async def _read(self) -> None:
        while True:
            await anyio.wait_readable(self._reading)
            taken = self._take()
            if not taken:
                return  # nobody is left who could write
            if taken == CHUNK:
                await anyio.sleep(FLOOD_PAUSE)

    def _take(self) -> int:
        """Read once, and keep the end of it; how much there was."""
        try:
            data = os.read(self._reading, CHUNK)
        except BlockingIOError:
            return 0
        self._output += data
        if len(self._output) > self._kept + CHUNK:
            del self._output[: -self._kept]
        return len(data)


async def gone(pid: int) -> None:
    """Return when a process has ended: a pidfd tells, for children and for adopted ones alike."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that `pid` leads, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def sweep(mark: str, spare: int = 0, variable: str = RUN_VARIABLE) -> int:
    """Kill every process that carries the mark but `spare`, in bounded rounds; how many were killed."""
    killed: set[int] = set()
    for _ in range(SWEEP_ROUNDS):
        left = [pid for pid in marked(mark, variable) if pid != spare]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        await anyio.sleep(SWEEP_PAUSE)
    return len(killed)


def wrapper_of(run: str) -> int | None:
    """The wrapper of a run while it lives: carries the mark, leads its group, and was started as that run's wrapper.

    Files of the run's folder are not asked: its agent can write them, and a number in them may be anybody's.
    """
    found = []
    for pid in marked(run):
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            is_named = argv[3:4] == [WRAPPER_NAME] and [Path(os.fsdecode(each)).name for each in argv[4:5]] == [run]
            if is_named and os.getpgid(pid) == pid and (begun := started_at(pid)):
                found.append((begun, pid))
    return min(found)[1] if found else None  # what imitates a wrapper came after it


def _is_held(path: Path) -> bool:
    """Whether somebody holds this lock; not when it is no lock."""
    try:
        lock = try_lock(path, create=False)
    except OSError:
        return False
    if lock is not None:
        os.close(lock)
    return lock is None
