"""Promises against hostile files: nothing an agent puts into its folder blocks, misleads or ends its reader."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from locum.agents.base import Source
from locum.engine import spool as spool_module
from locum.engine.spool import Spool, Tail, expand, tail_bytes
from locum.files import read_regular
from locum.locks import try_lock

PATIENCE = 5.0
T = TypeVar("T")


def promptly(work: Callable[[], T]) -> T:
    """What `work` returns, which must not take long: a thread of its own may hang, the test may not."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs, or has failed"
    return found[0]


def fifo(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def device(path: Path) -> None:
    """A link to a file without an end."""
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    """A folder."""
    path.mkdir()


def elsewhere(path: Path) -> None:
    """A link to a file that is none of ours."""
    (path.parent / "precious").write_text("7\n" * 1000)
    path.symlink_to(path.parent / "precious")


TRAPS = pytest.mark.parametrize("trap", [fifo, device, folder, elsewhere])


@TRAPS
def test_a_trap_in_the_place_of_a_file_is_a_missing_file(tmp_path: Path, trap: Callable[[Path], None]) -> None:
    """Pipes, devices, folders and links in the places of a run's files are as if nothing lay there."""
    spool = Spool(tmp_path)
    for name in ("out", "err", "meta.json", "exit"):
        trap(tmp_path / name)
    tail = Tail(spool.out, Source.OUT, "r")
    assert promptly(lambda: [*tail.read(), *tail.read(last=True)]) == []
    assert promptly(lambda: tail_bytes(spool.out, 9)) == b""
    assert promptly(spool.meta) == {}
    assert promptly(lambda: spool.exit() or "none") == "none"
    assert promptly(spool.size) == 0
    promptly(lambda: [spool.cut(10)])
    if trap is elsewhere:
        assert (tmp_path / "precious").stat().st_size == 2000


def test_cutting_harms_no_file_that_has_another_name(tmp_path: Path) -> None:
    """A hard link to a file of the user's is not cut."""
    (tmp_path / "precious").write_text("x" * 1000)
    (tmp_path / "out").hardlink_to(tmp_path / "precious")
    Spool(tmp_path).cut(10)
    assert (tmp_path / "precious").stat().st_size == 1000


def test_a_stream_is_cut_to_what_may_be_kept(tmp_path: Path) -> None:
    """What is too long keeps its beginning; what is not, all of it."""
    (tmp_path / "out").write_text("x" * 1000)
    (tmp_path / "err").write_text("y" * 10)
    Spool(tmp_path).cut(100)
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("x" * 100, "y" * 10)


def test_the_last_look_ends_though_the_file_still_grows(tmp_path: Path) -> None:
    """Something that escaped and goes on writing keeps nobody reading for ever."""
    path = tmp_path / "out"
    path.write_text("a\n")
    seen = []
    with path.open("a") as more:
        for line in Tail(path, Source.OUT, "r").read(last=True):
            if line is not None:
                seen.append(line.data)
                more.write("b\n" * 200_000)
                more.flush()
            assert len(seen) < 10, "it reads on and on"
    assert seen == [b"a"]


def test_no_more_of_a_file_is_read_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a terabyte of holes is read as far as agreed, and what was left does not count as being behind."""
    monkeypatch.setattr(spool_module, "CHUNK", 100)
    path = tmp_path / "out"
    path.write_text("a\n" * 500)
    tail = Tail(path, Source.OUT, "r", most=250)
    assert len([line for line in tail.read(last=True) if line is not None]) == 125
    assert [*tail.read()] == []
    assert not tail.behind


@pytest.mark.parametrize("text", ["9" * 40, "9" * 5000, "-1", "256", "", "x", "7 7"])
def test_an_exit_code_that_is_none_is_not_believed(tmp_path: Path, text: str) -> None:
    """Only what a shell can have written is an exit code: the ledger takes nothing else."""
    (tmp_path / "exit").write_text(text)
    assert Spool(tmp_path).exit() is None
    (tmp_path / "exit").write_text("255\n")
    assert (Spool(tmp_path).exit() or (None,))[0] == 255


@pytest.mark.parametrize("moment", [-5, 2**40])
def test_an_end_outside_of_our_times_is_not_believed(tmp_path: Path, moment: int) -> None:
    """A file dated into antiquity or the far future tells no moment that calendars could reckon with."""
    (tmp_path / "exit").write_text("0\n")
    os.utime(tmp_path / "exit", (moment, moment))
    if int((tmp_path / "exit").stat().st_mtime) == moment:  # else the file system itself has put it right
        assert Spool(tmp_path).exit() is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\ud800", "[1]"])
def test_a_meta_file_that_is_none_is_empty(tmp_path: Path, text: str) -> None:
    """Neither depth nor digits nor bytes that are no text do more than lose what the file was for."""
    (tmp_path / "meta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert Spool(tmp_path).meta() == {}


def test_a_file_in_the_place_of_the_folder_is_a_run_without_files(tmp_path: Path) -> None:
    """A run whose folder was replaced was started, and has nothing to say."""
    spool = Spool(tmp_path / "r-1")
    spool.folder.write_text("not a folder")
    assert (spool.meta(), spool.exit(), spool.size(), spool.was_started()) == ({}, None, 0, True)
    spool.clear_tmp()
    assert not Spool(tmp_path / "r-2").was_started()


def test_a_transcript_is_a_file_itself_wherever_its_folder_lies(tmp_path: Path) -> None:
    """Folders may be links, as people make them; a link in the place of the transcript leads nowhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "real" / "a.jsonl").write_text("{}\n")
    device(tmp_path / "real" / "b.jsonl")
    assert expand((f"{tmp_path}/linked/*.jsonl",)) == [tmp_path / "linked" / "a.jsonl"]


@TRAPS
def test_a_lock_is_a_file(tmp_path: Path, trap: Callable[[Path], None]) -> None:
    """Whatever else lies in its place is an error with a name and a reason, at once."""
    trap(tmp_path / "lock")

    def told() -> OSError | str:
        try:
            return str(try_lock(tmp_path / "lock"))
        except OSError as error:
            return error

    error = promptly(told)
    assert isinstance(error, OSError)
    assert error.filename == str(tmp_path / "lock")
    assert error.strerror


def test_links_are_followed_where_people_place_them(tmp_path: Path) -> None:
    """A file that its owner has linked is read when that is asked for, up to the bound; a pipe behind a link is not."""
    elsewhere(tmp_path / "linked")
    assert read_regular(tmp_path / "linked", 4, follow=True) == b"7\n7\n"
    with pytest.raises(OSError, match="symbolic"):
        read_regular(tmp_path / "linked", 4)
    fifo(tmp_path / "pipe")
    (tmp_path / "other").symlink_to("pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "other", 4, follow=True)
