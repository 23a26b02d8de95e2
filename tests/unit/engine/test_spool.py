"""Promises of the spool: every line is read once, whole, whatever the writer does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.agents.base import Source
from locum.engine import spool as spool_module
from locum.engine.spool import Spool, Tail, expand, tail_bytes


def lines(tail: Tail, *, last: bool = False) -> list[bytes]:
    """The data of all lines there are now."""
    return [line.data for line in tail.read(last=last) if line is not None]


@given(
    st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"")), max_size=12),
    st.data(),
)
def test_lines_come_whole_and_once_however_they_are_written(
    tmp_path_factory: object, written: list[bytes], data: st.DataObject
) -> None:
    """Whatever the pieces in which bytes arrive, each line is read exactly once, with its right offset."""
    path = Path(os.fspath(tmp_path_factory.mktemp("tail"))) / "out"  # type: ignore[attr-defined]
    whole = b"".join(line + b"\n" for line in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    tail = Tail(path, Source.OUT, "r")
    seen: list[bytes] = []
    with path.open("wb") as file:
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            file.write(whole[start:end])
            file.flush()
            for line in tail.read():
                if line is not None:
                    assert whole[line.offset : line.offset + len(line.data)] == line.data
                    seen.append(line.data)
    assert seen + lines(tail, last=True) == written


def test_an_unfinished_last_line_counts_when_nothing_more_comes(tmp_path: Path) -> None:
    """An agent killed in the middle of a line still gets that line read."""
    path = tmp_path / "out"
    path.write_bytes(b"one\ntw")
    tail = Tail(path, Source.OUT, "r")
    assert lines(tail) == [b"one"]
    assert lines(tail, last=True) == [b"tw"]
    assert lines(tail, last=True) == []


def test_an_endless_line_is_cut_and_the_next_one_is_read(tmp_path: Path, monkeypatch: object) -> None:
    """A gigantic line without a newline neither fills the memory nor hides what follows it."""
    monkeypatch.setattr(spool_module, "LONGEST_LINE", 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(spool_module, "CHUNK", 300)  # type: ignore[attr-defined]
    path = tmp_path / "out"
    path.write_bytes(b"x" * 10_000 + b"\nnext\n")
    found = [line for line in Tail(path, Source.OUT, "r").read(last=True) if line is not None]
    assert [line.cut for line in found] == [True, False]
    assert len(found[0].data) == 1000
    assert found[1].data == b"next"


def test_a_replaced_or_truncated_file_is_read_from_its_start(tmp_path: Path) -> None:
    """A transcript that is rewritten loses nothing: it is read again, and counting is by key."""
    path = tmp_path / "t"
    path.write_bytes(b"a\nb\n")
    tail = Tail(path, Source.TRANSCRIPT, "r")
    assert lines(tail) == [b"a", b"b"]
    path.write_bytes(b"c\n")
    assert lines(tail) == [b"c"]
    (tmp_path / "new").write_bytes(b"d\ne\nf\n")
    (tmp_path / "new").rename(path)
    assert lines(tail) == [b"d", b"e", b"f"]


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    """Looking before the agent has written anything is not an error."""
    assert lines(Tail(tmp_path / "none", Source.OUT, "r"), last=True) == []
    assert tail_bytes(tmp_path / "none", 9) == b""


def test_only_regular_files_are_transcripts(tmp_path: Path) -> None:
    """A FIFO or a folder in the place of a transcript never blocks the daemon."""
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").mkdir()
    (tmp_path / "c.jsonl").write_text("")
    assert expand((f"{tmp_path}/*.jsonl",)) == [tmp_path / "c.jsonl"]


def test_meta_is_whole_or_absent(tmp_path: Path) -> None:
    """Adoption never trips over a half-written meta file."""
    spool = Spool(tmp_path / "r")
    spool.create("p")
    assert spool.meta() == {}
    spool.write_meta({"home": None})
    assert spool.meta() == {"home": None}
    (spool.folder / "meta.json").write_text("{")
    assert spool.meta() == {}
    assert (spool.folder.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize("way", ["in place", "another file"])
@pytest.mark.parametrize("more", [0, 3])
def test_a_file_that_was_written_anew_is_read_from_its_start(tmp_path: Path, way: str, more: int) -> None:
    """As long as before or longer, in place or under the number of the file that was deleted: nothing is missed."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"old1\nold2\n")
    tail = Tail(path, Source.TRANSCRIPT, "r")
    assert [line.data for line in tail.read() if line] == [b"old1", b"old2"]
    if way == "another file":
        path.unlink()
    with path.open("r+b" if path.exists() else "xb") as file:
        file.write(b"new1\nnew2\n" + b"new3\n" * more)
    assert [line.data for line in tail.read() if line] == [b"new1", b"new2"] + [b"new3"] * more
    assert [line for line in tail.read() if line] == []
