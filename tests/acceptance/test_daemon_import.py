"""Promises of `locum import`, kept by the real command line, the real daemon and its reading processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.transcripts import Tree, Truth, build
from locum.policy.usage import Tokens
from tests.acceptance.terminal import Terminal
from tests.harness import LOCUM, Daemon, running, until


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, Truth]:
    """A home of Claude Code with the sessions of a week."""
    tree = Tree(3_000_000, files=30, days=7, end_ms=time.time_ns() // 1_000_000 - 60_000)
    return tmp_path / "claude", build(tmp_path / "claude", tree)


@pytest.fixture
def daemon(tmp_path: Path, home: tuple[Path, Truth]) -> Iterator[Daemon]:
    """A daemon with a tier in that home."""
    tiers = [{"name": "a", "agent": "claude-code", "home": str(home[0])}]
    with running(Daemon(tmp_path, {"failover": {"tiers": tiers}, "usage_reset": "all"})) as made:
        yield made


def counted(daemon: Daemon) -> Tokens:
    """What the tier has used."""
    found = daemon.client.get("/usage")["tiers"]["a"]["totals"]
    return Tokens(*(found[name] for name in ("input", "output", "cache_read", "cache_write")))


def clean(daemon: Daemon) -> bool:
    """Whether the audit finds nothing."""
    return bool(daemon.client.get("/audit", timeout=60)["problems"] == [])


@pytest.mark.parametrize("victim", ["command", "daemon"])
def test_an_import_that_is_cut_off_goes_on(daemon: Daemon, home: tuple[Path, Truth], victim: str) -> None:
    """Ctrl-C or kill -9 in the middle: what is counted is whole, and the next import completes it to the token."""
    importing = subprocess.Popen(
        [LOCUM, "import", "--json"], env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert importing.stdout is not None
    importing.stdout.readline()  # it has begun
    if victim == "daemon":
        daemon.kill()
        daemon.start()
    else:
        importing.send_signal(signal.SIGINT)
    importing.communicate(timeout=60)
    assert importing.returncode in ((0, 69) if victim == "daemon" else (0, 130))
    until(lambda: all(a <= b for a, b in zip(counted(daemon), home[1].total, strict=True)), "nothing is too much")
    assert clean(daemon)
    done = daemon.run("import", "--json")
    while "goes on already" in done.stderr:  # the first one is just being stopped
        done = daemon.run("import", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "done"
    assert counted(daemon) == home[1].total
    assert clean(daemon)


def test_the_windows_of_today_are_right_and_stay_right(daemon: Daemon, home: tuple[Path, Truth]) -> None:
    """After an import the tier's window holds its history, and what is written from then on is added to it once."""
    done = daemon.run("import")
    assert done.returncode == 0, done.stderr
    assert f"{home[1].total.total:,} new tokens" in done.stdout
    assert counted(daemon) == home[1].total
    path = next((home[0] / "projects").rglob("*.jsonl"))
    usage = {"input_tokens": 5, "output_tokens": 6}
    row = {"type": "assistant", "sessionId": path.stem, "message": {"id": "msg_new", "usage": usage}}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    until(lambda: counted(daemon) == home[1].total + Tokens(5, 6), "the new row is counted")
    assert "0 new tokens" in daemon.run("import").stdout
    assert counted(daemon) == home[1].total + Tokens(5, 6)


def test_on_a_terminal_there_is_a_bar(daemon: Daemon, home: tuple[Path, Truth]) -> None:
    """Who sits there sees how far it is, in files and bytes, and at the end, in the bar's place, what came of it."""
    with Terminal([LOCUM, "import"], daemon.env, daemon.work) as terminal:
        terminal.wait_for(f"{home[1].total.total:,} new tokens")
        shown = terminal.shown
    files, size = home[1].files, home[1].size
    bar, _, outcome = shown.rpartition("Read")
    drawn = re.findall(r"Importing([^I]*?)([\d,]+)of([\d,]+)files", bar)
    assert drawn, shown
    assert [(int(each[1]), int(each[2])) for each in drawn][-1] == (files, files)
    assert {each[0][0] for each in drawn} <= set("━╸╺"), "a bar is drawn"
    assert f"{size / 1e6:.1f}/{size / 1e6:.1f}MB" in drawn[-1][0]
    assert outcome.startswith(f"{files}transcripts")
    assert "%" not in shown, "lines are for logs"
