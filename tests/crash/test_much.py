"""Very much at once, in homes that people use: all of it counted once, in bounded memory, while the daemon answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.crash.driver import DYING
from tests.harness import LOCUM, PYTHON, Daemon, running, until

FILES = 10_000
FOLDERS = 40
ROWS = 2
"""Messages in each of many transcripts: an import of them all takes more than one commit."""
ROOM = 128 << 20
"""Bytes by which the daemon may grow, and which a process that reads for it may take."""
LONG = 200 << 20
SOLID, HUGE = 512 << 20, 2 << 30
SPENT = 3
"""Tokens of one message."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that watches an empty home of Claude Code."""
    (tmp_path / "home/projects").mkdir(parents=True)
    tier = {"name": "a", "agent": "claude-code", "home": str(tmp_path / "home")}
    made = Daemon(tmp_path / "daemon", {"failover": {"tiers": [tier]}, "usage_reset": "all"})
    with running(made):
        until(lambda: bool(made.client.get("/status")["usage_sources"]["homes"]), "the home is watched")
        yield made


def row(key: str, ago: timedelta = timedelta()) -> bytes:
    """A message in a transcript."""
    message = {"id": key, "role": "assistant", "model": "opus", "usage": {"input_tokens": 1, "output_tokens": 2}}
    at = (datetime.now(UTC) - ago).isoformat()
    return json.dumps({"type": "assistant", "sessionId": "s", "timestamp": at, "message": message}).encode() + b"\n"


def fill(folder: Path, ago: timedelta = timedelta()) -> int:
    """Make many transcripts, one of which tells all rows of another again; how many tokens they tell."""
    for number in range(FILES):
        below = folder / f"p{number % FOLDERS}"
        below.mkdir(parents=True, exist_ok=True)
        rows = [row(f"m{number}-{each}", ago) for each in range(ROWS)]
        (below / f"s-{number}.jsonl").write_bytes(b"".join(rows))
    (folder / "p0" / "fork.jsonl").write_bytes(b"".join(rows))
    return FILES * ROWS * SPENT


def counted(daemon: Daemon) -> int:
    """Tokens that the tier has used."""
    return int(daemon.client.get("/usage")["tiers"]["a"]["totals"]["total"])


def watched(daemon: Daemon) -> dict[str, Any]:
    """What is told of the home."""
    (home,) = daemon.client.get("/status")["usage_sources"]["homes"]
    return dict(home)


def is_looked_at(daemon: Daemon) -> bool:
    """Whether a daemon that has just started knows its home already, and has found it there."""
    return any(each["there"] for each in daemon.client.get("/status")["usage_sources"]["homes"])


def memory(pid: int, what: str = "VmHWM") -> int:
    """The most bytes a process has held so far (`VmRSS`: holds now); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:")), 0)


def seconds(pid: int) -> float:
    """How long a process has used a processor."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def pid_of(daemon: Daemon) -> int:
    """The daemon's process."""
    assert daemon.process is not None
    return daemon.process.pid


def readers(daemon: Daemon) -> list[int]:
    """The processes that read for the daemon just now."""
    tasks = Path(f"/proc/{pid_of(daemon)}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def said_by(pid: int) -> bytes:
    """The command line of a process; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def rests(daemon: Daemon) -> bool:
    """Whether the daemon does next to nothing for a while."""
    began = seconds(pid_of(daemon))
    time.sleep(2)
    return seconds(pid_of(daemon)) - began < 0.5


def seen_while(daemon: Daemon, most: int, still: Callable[[], bool]) -> set[int]:
    """What was counted at each of the answers that came `still`, bounded."""
    seen, end = set(), time.monotonic() + 120
    while still() and time.monotonic() < end:
        assert watched(daemon)["there"]
        seen.add(counted(daemon))
        time.sleep(0.02)
    assert max(seen) <= most, "nothing is counted twice"
    return seen


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_new_transcripts_are_counted_once(daemon: Daemon, tmp_path: Path) -> None:
    """There all at once: the daemon answers before they are counted, over a kill -9 each counts once, in bounded
    memory, and then it rests.
    """
    before = memory(pid_of(daemon), "VmRSS")
    total = fill(tmp_path / "made")
    for folder in (tmp_path / "made").iterdir():
        folder.rename(tmp_path / "home/projects" / folder.name)
    until(lambda: counted(daemon) > 0, "some are counted", 60)
    assert seen_while(daemon, total, lambda: counted(daemon) < total // 2) - {total}, "it answers meanwhile"
    assert memory(pid_of(daemon)) - before < ROOM
    daemon.kill()
    daemon.start()
    seen_while(daemon, total, lambda: counted(daemon) < total)
    assert counted(daemon) == total
    assert memory(pid_of(daemon)) - before < ROOM
    assert rests(daemon)
    assert watched(daemon)["files"] == FILES + 1
    assert daemon.client.get("/audit", timeout=60)["problems"] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_import_of_ten_thousand_goes_on_after_a_kill_between_two_commits(daemon: Daemon, tmp_path: Path) -> None:
    """The daemon dies when the first part is committed: that part is there, whoever read for it ends too, and the next
    import completes it, once.
    """
    total = fill(tmp_path / "home/projects", timedelta(days=1))
    daemon.stop()
    daemon.program = (PYTHON, DYING, "history-counted-after", "1")
    daemon.start()
    cut_off = subprocess.Popen([LOCUM, "import"], env=daemon.env, stdout=subprocess.PIPE)
    reading = set[int]()
    while cut_off.poll() is None:
        reading.update(readers(daemon))
        time.sleep(0.02)
    cut_off.communicate()
    assert cut_off.returncode == 69
    assert daemon.process is not None
    assert daemon.process.wait(30) == -signal.SIGKILL
    assert reading
    until(lambda: not any(b"locum.engine.scanner" in said_by(pid) for pid in reading), "nobody reads any more")
    daemon.program = (LOCUM, "serve")
    daemon.start()
    until(lambda: is_looked_at(daemon), "the home is looked at")
    before = memory(pid_of(daemon), "VmRSS")
    part = counted(daemon)
    assert 0 < part < total
    importing = subprocess.Popen([LOCUM, "import"], env=daemon.env, stdout=subprocess.PIPE, text=True)
    assert seen_while(daemon, total, lambda: importing.poll() is None)
    told, _ = importing.communicate()
    assert f"{total - part:,} new tokens" in told
    assert (importing.returncode, counted(daemon)) == (0, total)
    assert memory(pid_of(daemon)) - before < ROOM
    assert rests(daemon)
    assert daemon.client.get("/audit", timeout=60)["problems"] == []


def no_newline(path: Path, more: bytes) -> None:
    """512 MB of one line."""
    with path.open("wb") as file:
        file.write(more)
        for _ in range(SOLID >> 20):
            file.write(b'"usage":' * (1 << 17))


def holes(path: Path, more: bytes) -> None:
    """2 GB of nothing."""
    path.write_bytes(more)
    os.truncate(path, HUGE)


def long_line(path: Path, more: bytes) -> None:
    """One row of 200 MB."""
    head, tail = row("long").split(b'"opus"')
    with path.open("wb") as file:
        file.write(more + head + b'"')
        for _ in range(LONG >> 20):
            file.write(b"o" * (1 << 20))
        file.write(b'"' + tail.rstrip(b"\n"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", [no_newline, holes, long_line])
@pytest.mark.parametrize("how", ["watched", "imported"])
def test_a_line_without_end_costs_itself_only(
    daemon: Daemon, tmp_path: Path, make: Callable[[Path, bytes], None], how: str
) -> None:
    """However long: memory stays bounded, what stands before and behind it is counted, and it is said what is not."""
    before, ago = memory(pid_of(daemon), "VmRSS"), timedelta(days=how == "imported")
    path = tmp_path / "home/projects/p/s.jsonl"
    path.parent.mkdir()
    make(tmp_path / "made", row("m1", ago))
    (tmp_path / "made").rename(path)
    with path.open("ab") as file:
        file.write(b"\n" + row("m2", ago))
    if how == "imported":
        importing = subprocess.Popen([LOCUM, "import"], env=daemon.env, stdout=subprocess.PIPE, text=True)
        peaks = [0]
        while importing.poll() is None:
            peaks += [memory(pid) for pid in readers(daemon)]
            time.sleep(0.02)
        told, _ = importing.communicate()
        assert "s.jsonl: a line of more than 16M was passed over" in told
        assert 0 < max(peaks) < ROOM
    else:
        until(lambda: bool(watched(daemon)["trouble"]), "it is said", 60)
        assert watched(daemon)["trouble"].endswith("s.jsonl: a line of more than 16M was passed over")
    until(lambda: counted(daemon) == 2 * SPENT, "what stands before and behind is counted", 60)
    assert memory(pid_of(daemon)) - before < ROOM
    with path.open("ab") as file:
        file.write(row("m3"))
    until(lambda: counted(daemon) == 3 * SPENT, "the file goes on", 60)
    assert rests(daemon)
    path.unlink()  # nobody keeps so much
