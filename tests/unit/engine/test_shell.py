"""Short commands: run, heard, and bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from locum.engine.shell import Finished, run_line
from tests.harness import until


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cat", Finished(0, "said", "")),
        ("echo out; echo err >&2; exit 7", Finished(7, "out\n", "err\n")),
        ("kill -9 $$", Finished(-9, "", "")),
        ("printf '\\377'", Finished(0, "\ufffd", "")),
        ('echo "$MINE"', Finished(0, "this\n", "")),
    ],
)
def test_a_line_tells_how_it_ended_and_what_it_said(line, found):
    """Exit code, output and errors come back apart, whatever bytes they are."""
    assert run_line(line, b"said", {"MINE": "this", "PATH": os.environ["PATH"]}, 20) == found


def test_one_that_does_not_listen_is_no_trouble():
    """A command that leaves its input unread ends as it ends."""
    assert run_line("exit 3", b"x" * (1 << 20), dict(os.environ), 20).code == 3


def test_when_its_time_is_up_nothing_of_it_is_left(tmp_path):
    """A command that waits is killed with its children, who would keep its output open for ever."""
    begin = time.monotonic()
    found = run_line(f"sleep 60 & echo $! >{tmp_path}/pid; echo early; wait", b"", dict(os.environ), 0.5)
    assert (found.code, found.out) == (None, "early\n")
    assert time.monotonic() - begin < 20
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX", "its child is gone")
