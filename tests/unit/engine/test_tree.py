"""The transcripts below a folder: only those, each change once, and no way out."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.engine import tree as module
from locum.engine.tree import Tree, parse

LATER_NS = 10**18  # every folder has been as it is for long


@pytest.fixture
def tree(tmp_path):
    """What an agent keeps in `home/projects`."""
    return tree_of(tmp_path / "home/projects/**/*.jsonl")


def tree_of(pattern: Path | str) -> Tree:
    """The tree of one pattern."""
    parsed = parse(str(pattern))
    return Tree(str(parsed.top), [parsed.levels])


def written(path: Path, text: str = "x\n") -> str:
    """A file, made with its folders; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def changed(tree: Tree) -> list[str]:
    """What the next look finds to have changed."""
    return sorted(path for path, _ in tree.look(time.time_ns() + LATER_NS).changed)


def test_each_change_is_told_once(tree, tmp_path):
    """New, grown, rewritten at the same size, replaced, and gone: told by one look, and not by the next."""
    assert changed(tree) == [], "there is no home yet"
    one, two = written(tmp_path / "home/projects/a/1.jsonl"), written(tmp_path / "home/projects/a/b/c/2.jsonl")
    assert (changed(tree), changed(tree), tree.files) == ([one, two], [], 2)
    with Path(one).open("a") as file:
        file.write("y\n")
    assert (changed(tree), changed(tree)) == ([one], [])
    os.utime(one, ns=(1, 1))
    assert (changed(tree), changed(tree)) == ([one], [])
    Path(written(tmp_path / "new", "x\ny\n")).rename(two)
    assert (changed(tree), changed(tree)) == ([two], [])
    Path(one).unlink()
    look = tree.look(LATER_NS)
    assert (look.changed, look.gone, tree.files) == ([], [one], 1)
    os.renames(tmp_path / "home", tmp_path / "away/home")
    assert tree.look(LATER_NS).gone == [two]
    assert tree.files == 0


def test_a_file_in_a_folder_that_changed_just_now_is_found(tree, tmp_path):
    """A folder's time of change may be too coarse to tell two changes apart: a fresh one proves nothing."""
    one = written(tmp_path / "home/projects/1.jsonl")
    now_ns = time.time_ns()
    assert [path for path, _ in tree.look(now_ns).changed] == [one]
    status = (tmp_path / "home/projects").stat()
    two = written(tmp_path / "home/projects/2.jsonl")
    os.utime(tmp_path / "home/projects", ns=(status.st_atime_ns, status.st_mtime_ns))  # within the same tick
    assert [path for path, _ in tree.look(now_ns).changed] == [two]


def test_only_transcripts_are_seen(tree, tmp_path):
    """No other name, no link to a file or folder, no pipe, no folder of such a name, nothing with an impossible name."""
    home = tmp_path / "home/projects"
    one = written(home / "a/1.jsonl")
    for name in ("a/1.json", "a/1.jsonl.bak", "jsonl"):
        written(home / name)
    elsewhere = written(tmp_path / "elsewhere/2.jsonl")
    (home / "a/link.jsonl").symlink_to(elsewhere)
    (home / "folder").symlink_to(tmp_path / "elsewhere")
    (home / "up").symlink_to("..")
    (home / "d.jsonl").mkdir()
    os.mkfifo(home / "pipe.jsonl")
    Path(os.fsdecode(os.fsencode(home) + b"/\xff.jsonl")).write_text("x")
    assert (changed(tree), changed(tree)) == ([one], [])
    assert set(tree.folders) == {str(home), str(home / "a"), str(home / "d.jsonl")}


def test_a_file_that_becomes_something_else_is_gone(tree, tmp_path):
    """A link or a pipe in its place is not it."""
    one = written(tmp_path / "home/projects/1.jsonl")
    assert changed(tree) == [one]
    for make in (lambda: Path(one).symlink_to("/etc/passwd"), lambda: os.mkfifo(one)):
        Path(one).unlink()
        make()
        tree.look(LATER_NS)
        assert tree.files == 0
        assert tree.glance(one) is None


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("/h/projects/**/*.jsonl", ("a.jsonl", "x/a.jsonl", "x/y/z/.a.jsonl"), ("a.json", "x/a.jsonl/b", "")),
        ("/h/tmp/*/chats/*.jsonl", ("p/chats/a.jsonl",), ("p/a.jsonl", "chats/a.jsonl", "p/q/chats/a.jsonl")),
        ("/h/s/**/rollout-*.jsonl", ("2026/1/2/rollout-a.jsonl",), ("2026/other.jsonl",)),
        ("/h/one.log", ("one.log",), ("two.log", "x/one.log")),
        ("/h/[[]a[*]/x?.log", ("x1.log",), ("x.log", "x12.log")),
    ],
)
def test_patterns_mean_what_adapters_mean(pattern, fits, others):
    """`**` is any number of folders, `*` never a slash, and what glob.escape has written is taken literally."""
    tree = tree_of(pattern)
    assert tree.top == {"/h/one.log": "/h", "/h/[[]a[*]/x?.log": "/h/[a*"}.get(pattern, tree.top)
    assert all(tree.fits(f"{tree.top}/{name}") for name in fits)
    assert not any(tree.fits(f"{tree.top}/{name}") for name in others)
    assert not tree.fits(f"/elsewhere/{fits[0]}")


def test_there_is_an_end_to_what_is_watched(tree, tmp_path, monkeypatch):
    """More folders or files than are watched are left out, and that is said; nothing of them is called gone."""
    for number in range(8):
        written(tmp_path / f"home/projects/{number}/a.jsonl")
    monkeypatch.setattr(module, "MOST_FOLDERS", 4)
    assert len(changed(tree)) == 3
    assert tree.full
    assert tree.look(LATER_NS).gone == []
    monkeypatch.setattr(module, "MOST_FOLDERS", 100)
    monkeypatch.setattr(module, "MOST_FILES", 5)
    tree.look(LATER_NS)
    assert tree.full
    monkeypatch.setattr(module, "MOST_FILES", 100)
    tree.look(LATER_NS)
    assert (tree.full, tree.files) == (False, 8)


names = st.sampled_from(["a.jsonl", "b.jsonl", "x/a.jsonl", "x/y/b.jsonl", "z/c.txt"])
acts = st.lists(st.tuples(st.sampled_from(["write", "remove", "look", "replace"]), names), max_size=30)


@given(acts)
def test_a_tree_always_knows_what_is_there(done):
    """After any acts, what was told as changed and not as gone is exactly what lies there, each at its last state."""
    with tempfile.TemporaryDirectory() as folder:
        tree, known = tree_of(f"{folder}/**/*.jsonl"), {}

        def look() -> None:
            found = tree.look(time.time_ns())
            for path in found.gone:
                del known[path]
            known.update(found.changed)

        for number, (act, name) in enumerate(done):
            path = Path(folder, name)
            if act == "look":
                look()
            elif act == "remove":
                path.unlink(missing_ok=True)
            elif act == "replace":
                Path(written(Path(folder, "new"), "n" * number)).rename(Path(written(path)))
            else:
                written(path, "w" * number)
        look()
        real = {str(path): path.stat() for path in Path(folder).rglob("*.jsonl")}
        assert known == {path: (each.st_mtime_ns, each.st_size, each.st_ino) for path, each in real.items()}
