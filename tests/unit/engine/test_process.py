"""Promises of the process seam: runs outlive us, are found again, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from locum.engine import process as process_module
from locum.engine.proc import POST_TASK_VARIABLE, marked
from locum.engine.process import Command, Spawn, SystemChild, SystemProcess, SystemProcesses, clean_environment
from locum.engine.spool import Spool
from locum.locks import try_lock

pytestmark = pytest.mark.anyio


def spawn(tmp_path: Path, script: str) -> Spawn:
    """A run that executes `script` with sh; its id is unique, as the mark of its processes must be."""
    run = f"r-{uuid.uuid4().hex[:12]}"
    spool = Spool(tmp_path / run)
    spool.create("the prompt")
    spool.stdin.write_text("the prompt")
    return Spawn(run, ["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, tmp_path, spool.folder)


@pytest.fixture
def decoy() -> Iterator[subprocess.Popen[bytes]]:
    """A process group that is none of ours."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


async def finish(processes: SystemProcesses, what: Spawn) -> Spool:
    """Run to the end."""
    process = processes.start(what)
    with anyio.fail_after(20):
        await process.wait()
    return Spool(what.folder)


async def test_output_and_exit_code_are_in_the_spool(tmp_path: Path) -> None:
    """The agent writes to files and its exit code is kept, so a dead daemon loses nothing."""
    spool = await finish(SystemProcesses(), spawn(tmp_path, "cat; echo oops >&2; exit 7"))
    assert spool.out.read_text() == "the prompt"
    assert spool.err.read_text() == "oops\n"
    assert (spool.exit() or (None,))[0] == 7


async def test_a_missing_program_is_an_exit_code_and_a_sentence(tmp_path: Path) -> None:
    """An agent that is not installed ends as 127 with the shell's words, not as an exception in the daemon."""
    what = spawn(tmp_path, "")
    what = Spawn(what.run, ["/nonexistent/agent", "--flag"], what.env, what.cwd, what.folder)
    spool = await finish(SystemProcesses(), what)
    assert (spool.exit() or (None,))[0] == 127
    assert "nonexistent" in spool.err.read_text()


async def test_a_run_is_found_while_it_lives_and_only_then(tmp_path: Path) -> None:
    """The lock, not a pid, says whether a run lives: no reused pid is ever taken for a run."""
    processes = SystemProcesses()
    what = spawn(tmp_path, "sleep 30")
    process = processes.start(what)
    found = await processes.find(what.run, what.folder)
    assert found is not None
    assert found.pid == process.pid
    await process.stop(grace=5)
    assert await processes.find(what.run, what.folder) is None


def test_the_start_of_the_host_is_known_and_stays() -> None:
    """Two daemons of one boot are told the same, so that no run is taken for one of an earlier boot."""
    assert SystemProcesses().boot() == SystemProcesses().boot() != ""


async def test_stop_ends_the_whole_group_and_what_left_it(tmp_path: Path) -> None:
    """After a stop nothing of the run is alive: not the stubborn one, not the one that made itself a daemon."""
    escape = "import os,time; os.setsid(); time.sleep(60)"
    script = f"trap '' TERM; {sys.executable} -c '{escape}' & sleep 60 & sleep 60"
    what = spawn(tmp_path, script)
    process = SystemProcesses().start(what)
    with anyio.fail_after(10):
        while len(marked(what.run)) < 4:  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)
    with anyio.fail_after(20):
        await process.stop(grace=0.2)
    assert [pid for pid in marked(what.run) if pid != process.pid] == []


async def test_what_sheds_its_mark_but_not_its_group_ends_with_the_run(tmp_path: Path) -> None:
    """At an ordinary end, too, a child with an emptied environment is gone."""
    what = spawn(tmp_path, "env -i sleep 60 & echo $!")
    process = SystemProcesses().start(what)
    with anyio.fail_after(10):
        await process.wait()
        await process.sweep()
        assert await process.sweep() == 0
        stat = Path("/proc", Spool(what.folder).out.read_text().strip(), "stat")
        while stat.exists() and stat.read_text().split()[2] != "Z":  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)


async def test_a_term_to_the_group_still_leaves_an_exit_code(tmp_path: Path) -> None:
    """The wrapper outlives a TERM long enough to write how the agent took it."""
    what = spawn(tmp_path, "echo ready; exec sleep 60")
    process = SystemProcesses().start(what)
    with anyio.fail_after(10):
        while not Spool(what.folder).size():  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)
        await process.stop(grace=5)
    assert (Spool(what.folder).exit() or (None,))[0] == 128 + signal.SIGTERM


async def test_the_agent_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A child that outlives its run does not make the run look alive."""
    processes = SystemProcesses()
    what = spawn(tmp_path, "setsid sleep 30 >/dev/null 2>&1 & exit 0")
    spool = await finish(processes, what)
    assert await processes.find(what.run, what.folder) is None
    assert spool.was_started()
    await processes.sweep(what.run)
    assert marked(what.run) == []


async def test_a_run_survives_its_daemon(tmp_path: Path) -> None:
    """After kill -9 of the parent the run is alive, adoptable, and its end readable."""
    run = f"r-{uuid.uuid4().hex[:12]}"
    spool = Spool(tmp_path / run)
    spool.create("x")
    spool.stdin.write_text("x")
    code = (
        "import sys; from pathlib import Path; from locum.engine.process import *\n"
        "f=Path(sys.argv[1]); SystemProcesses().start(Spawn(f.name,['sh','-c','sleep 1; echo survived; exit 3'],"
        "{'PATH':'/usr/bin:/bin'},f,f)); import os; os.kill(os.getpid(), 9)"
    )
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code, str(spool.folder)], check=False, timeout=30)
    )
    assert done.returncode == -signal.SIGKILL
    process = await SystemProcesses().find(run, spool.folder)
    assert process is not None
    with anyio.fail_after(20):
        await process.wait()
    assert spool.out.read_text() == "survived\n"
    assert (spool.exit() or (None,))[0] == 3


@pytest.mark.parametrize("told", ["", "0", "1", "-1", "9" * 40, "decoy"])
async def test_a_run_is_found_without_what_its_agent_can_write(
    tmp_path: Path, decoy: subprocess.Popen[bytes], told: str
) -> None:
    """Whatever the pid file names, the run is its own wrapper; another process is never taken for it, nor harmed."""
    processes = SystemProcesses()
    what = spawn(tmp_path, "sleep 30")
    process = processes.start(what)
    (what.folder / "pid").write_text(str(decoy.pid) if told == "decoy" else told)
    found = await processes.find(what.run, what.folder)
    assert found is not None
    assert found.pid == process.pid
    with anyio.fail_after(20):
        await found.stop(grace=1)
        await process.wait()
    assert await processes.find(what.run, what.folder) is None
    assert decoy.poll() is None


async def test_a_held_lock_alone_is_no_run(
    tmp_path: Path, decoy: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else who holds the lock, and is named by the pid file, is not the run: there is none."""
    monkeypatch.setattr(process_module, "FIND_ROUNDS", 3)
    what = spawn(tmp_path, "true")
    held = try_lock(what.folder / "lock")
    assert held is not None
    (what.folder / "pid").write_text(str(decoy.pid))
    try:
        assert await SystemProcesses().find(what.run, what.folder) is None
    finally:
        os.close(held)
    assert decoy.poll() is None


async def test_a_child_that_leads_a_group_is_not_the_wrapper(tmp_path: Path) -> None:
    """Of all processes that carry the mark and lead a group, only the one that was started for the run is it."""
    processes = SystemProcesses()
    what = spawn(tmp_path, "setsid sleep 30 & sleep 30")
    process = processes.start(what)
    with anyio.fail_after(10):
        while len(marked(what.run)) < 4:  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)
        found = await processes.find(what.run, what.folder)
        assert found is not None
        assert found.pid == process.pid
        await process.stop(grace=1)


@pytest.mark.parametrize("trap", ["fifo", "folder", "dangling", "missing", "no folder"])
async def test_a_lock_that_was_tampered_with_hides_no_run(tmp_path: Path, trap: str) -> None:
    """A lock file that is gone, or is none, or lies in no folder any more: the living run is found all the same."""
    processes = SystemProcesses()
    what = spawn(tmp_path, "sleep 30")
    process = processes.start(what)
    lock = what.folder / "lock"
    with anyio.fail_after(20):
        while not (what.folder / "pid").exists():  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)
        lock.unlink()
        match trap:
            case "fifo":
                os.mkfifo(lock)
            case "folder":
                lock.mkdir()
            case "dangling":
                lock.symlink_to("nowhere")
            case "no folder":
                what.folder.rename(tmp_path / "moved")
                what.folder.write_text("not a folder")
        found = await processes.find(what.run, what.folder)
        assert found is not None
        assert found.pid == process.pid
        await process.stop(grace=1)
        assert await processes.find(what.run, what.folder) is None


def test_no_group_of_everybody_is_ever_signalled() -> None:
    """The groups 0 and 1 and negative ones are ourselves, init and everybody: none of them is a run."""
    for pid in (-1, 0, 1):
        with pytest.raises(AssertionError):
            SystemProcess("r", pid)


def test_the_daemons_own_variables_do_not_reach_an_agent() -> None:
    """An agent cannot speak to systemd in the daemon's name, nor read its credentials folder."""
    environ = {
        "NOTIFY_SOCKET": "x",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "1",
        "CREDENTIALS_DIRECTORY": "/run",
        "LOCUM_STATE": "/x",
        "HOME": "/home/x",
    }
    assert clean_environment(environ) == {"HOME": "/home/x"}


def command(tmp_path: Path, script: str, kept: int = 1 << 16) -> Command:
    """A command that executes `script` with sh; its task is unique, as the mark of its processes must be."""
    stdin = tmp_path / "result.json"
    stdin.write_text('{"schema": 1}')
    task = f"t-{uuid.uuid4().hex[:12]}"
    return Command(task, ["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, tmp_path, stdin, kept)


async def left(what: Command, number: int) -> None:
    """Wait until that many processes of the command live, bounded: even KILL takes a moment."""
    with anyio.fail_after(10):
        while len(marked(what.task, POST_TASK_VARIABLE)) != number:  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)


async def test_a_command_reads_its_file_and_both_its_streams_are_kept(tmp_path: Path) -> None:
    """What it is told is its input, what it says on either stream is its output, and its exit code is its own."""
    child = SystemProcesses().begin(command(tmp_path, "cat; echo; echo oops >&2; pwd; exit 7"))
    with anyio.fail_after(10):
        assert await child.wait() == 7
        assert await child.wait() == 7, "asking twice changes nothing"
    assert child.output.decode() == f'{{"schema": 1}}\noops\n{tmp_path}\n'


@pytest.mark.parametrize("script", ["exit 0", "exec <&-; exit 0", "true", "exec >&- 2>&-; sleep 0.1"])
async def test_a_command_that_reads_and_says_nothing_is_well(tmp_path: Path, script: str) -> None:
    """Input that nobody reads breaks no pipe, and streams that are closed early end nothing early."""
    child = SystemProcesses().begin(command(tmp_path, script))
    with anyio.fail_after(10):
        assert await child.wait() == 0
    assert child.output == b""


async def test_only_the_end_of_a_flood_is_kept(tmp_path: Path) -> None:
    """60 MB of output take neither memory nor disk: the last bytes are there, and no others."""
    child = SystemProcesses().begin(command(tmp_path, "yes 0123456 | head -c 60M; echo last", kept=1000))
    with anyio.fail_after(60):
        assert await child.wait() == 0
    assert len(child.output) == 1000
    assert child.output.endswith(b"0123456\nlast\n")
    assert isinstance(child, SystemChild)
    assert len(child._output) < 200_000, "memory is bounded too"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


async def test_a_command_carries_its_own_mark_and_not_a_run_s(tmp_path: Path) -> None:
    """What the daemon trusts an operator with, it does not take for an agent's."""
    what = command(tmp_path, "env; mkdir up; sleep 30")
    child = SystemProcesses().begin(what)
    with anyio.fail_after(10):
        while not (tmp_path / "up").exists():  # noqa: ASYNC110 - other processes have no event
            await anyio.sleep(0.02)
        await child.stop(grace=5)
    assert b"LOCUM_POST_TASK=" in child.output
    assert b"LOCUM_RUN" not in child.output
    assert await child.wait() == 128 + signal.SIGTERM
    await left(what, 0)


async def test_a_command_that_will_not_stop_is_killed_with_its_group(tmp_path: Path) -> None:
    """TERM is asked, KILL is not: neither the stubborn one nor its children are left when the grace is over."""
    what = command(tmp_path, "trap '' TERM; (trap '' TERM; sleep 60) & echo up; while :; do sleep 0.1; done")
    child = SystemProcesses().begin(what)
    with anyio.move_on_after(0.5):
        await child.wait()
    with anyio.fail_after(10):
        await child.stop(grace=0.2)
        assert await child.wait() == 128 + signal.SIGKILL
    await left(what, 0)
    assert child.output == b"up\n"


async def test_what_a_command_leaves_behind_does_not_keep_it_waiting(tmp_path: Path) -> None:
    """A grandchild in its group ends with it; one that made a session of its own lives, and holds nothing up."""
    escape = 'import os,time; os.setsid(); os.mkdir("up"); time.sleep(60)'
    what = command(
        tmp_path, f"sleep 60 & {sys.executable} -c '{escape}' & while [ ! -d up ]; do sleep 0.02; done; echo done"
    )
    child = SystemProcesses().begin(what)
    with anyio.fail_after(10):
        assert await child.wait() == 0
    assert child.output == b"done\n"
    await left(what, 1)
    assert await SystemProcesses().clear(what.task) == 1
    await left(what, 0)


@pytest.mark.parametrize(
    ("name", "mode", "error"), [("no", None, FileNotFoundError), ("plain", 0o600, PermissionError)]
)
async def test_a_command_that_cannot_be_started_raises_and_leaks_nothing(tmp_path: Path, name, mode, error) -> None:
    """A program that is missing or may not be executed is an error of the caller's, with no descriptor left open."""
    if mode:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    what = command(tmp_path, "")
    what = Command(what.task, [str(tmp_path / name)], what.env, what.cwd, what.stdin, what.kept)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(error):
            SystemProcesses().begin(what)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_pipe_in_the_place_of_the_input_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Whatever lies where the result was written, the daemon never waits for somebody to write there."""
    what = command(tmp_path, "cat")
    what.stdin.unlink()
    os.mkfifo(what.stdin)
    with pytest.raises(OSError, match="not a regular file"):
        SystemProcesses().begin(what)
