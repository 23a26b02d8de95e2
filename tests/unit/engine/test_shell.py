"""Short commands: run, heard, and bounded."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from locum.engine.shell import Finished, Program, run_line, run_several
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


def several(*lines, seconds=20.0, most=1_000):
    """What lines of sh answer that are run at once."""
    env = {"PATH": os.environ["PATH"], "MINE": "this"}
    return run_several([Program(("/bin/sh", "-c", line), env) for line in lines], seconds, most)


def test_several_programs_are_answered_in_their_order():
    """Each has its own exit code and words, however many there are and whichever ends first; none of them hears us."""
    found = several("sleep 0.2; echo $MINE", "cat; echo err >&2; exit 7", "kill -9 $$", "printf '\\377'", "pwd", "true")
    wanted = [(0, "this\n", ""), (7, "", "err\n"), (-9, "", ""), (0, "\ufffd", ""), (0, "/\n", ""), (0, "", "")]
    assert found == [Finished(*each) for each in wanted]


def test_a_program_that_cannot_be_started_keeps_no_other_from_its_answer(tmp_path):
    """Missing, not executable, and not a program at all: each is told for itself."""
    (tmp_path / "plain").write_text("no")
    (tmp_path / "broken").write_bytes(b"\x7fELF\x00\x01")
    (tmp_path / "broken").chmod(0o755)
    programs = [Program((str(tmp_path / name),), {}) for name in ("gone", "plain", "broken")]
    *failed, fine = run_several([*programs, Program(("/bin/true",), {})], 20, 100)
    assert [type(each) for each in failed] == [FileNotFoundError, PermissionError, OSError]
    assert fine == Finished(0, "", "")


def test_what_hangs_or_floods_is_ended_with_its_children(tmp_path):
    """A bound holds for each program alone, and nothing of one that broke it goes on."""
    begin = time.monotonic()
    child = f"sleep 60 & echo $! >{tmp_path}/pid; echo early"
    hung, flooded, left, fine = several(
        f"{child}; trap '' TERM; wait", "yes", "sleep 61 & echo gone", "echo fine", seconds=1
    )
    assert isinstance(hung, TimeoutError)
    assert isinstance(flooded, OSError)
    assert flooded.errno == errno.EFBIG
    assert (left, fine) == (Finished(0, "gone\n", ""), Finished(0, "fine\n", ""))
    assert time.monotonic() - begin < 20
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX", "its child is gone")


@pytest.mark.parametrize(("more", "whole"), [(0, True), (1, False)])
def test_as_much_as_was_agreed_is_no_flood(more, whole):
    """The bound is on what is over it."""
    (found,) = several(f"head -c {1_000 + more} /dev/zero")
    assert (found == Finished(0, "\0" * 1_000, "")) is whole
