"""All the ways in which editors and deployments change a file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from locum.config import watch as module
from locum.config.watch import look, watch

pytestmark = pytest.mark.anyio

SOON_S = 1.5
"""Shorter than the recheck, so that what is seen was seen by an event."""


class Watched:
    """Counts what a watcher tells about a path."""

    def __init__(self) -> None:
        self.saves = 0
        self._told = anyio.Event()

    async def follow(self, path: Path, stop: anyio.Event) -> None:
        """Watch until stopped."""
        async for _ in watch(path, stop=stop):
            self.saves += 1
            self._told.set()
            self._told = anyio.Event()

    async def until(self, saves: int, within_s: float = SOON_S) -> None:
        """Wait until so many saves were told, and see that no more follow."""
        with anyio.fail_after(within_s):
            while self.saves < saves:
                await self._told.wait()
        await anyio.sleep(0.25)
        assert self.saves == saves


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watched]:
    """A watcher that has told its first look and listens."""
    watched, stop = Watched(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(watched.follow, path, stop)
        await watched.until(1, 5)
        yield watched
        stop.set()  # the group ends only when the watcher does


def truncate_and_write(path: Path) -> None:
    """As `>` in a shell."""
    with path.open("w") as file:
        file.write("{")
        file.flush()
        file.write("}  ")


def rename_over(path: Path) -> None:
    """As most editors."""
    (path.parent / ".tmp").write_text("new")
    (path.parent / ".tmp").rename(path)


def backup_and_write(path: Path) -> None:
    """As vim with 'backupcopy=no'."""
    path.rename(path.parent / "service.json~")
    path.write_text("newer")
    (path.parent / "service.json~").unlink()


def delete_and_recreate(path: Path) -> None:
    """As some synchronisers."""
    path.unlink()
    path.write_text("again")


def link_over(path: Path) -> None:
    """As a package manager that replaces a file by a link."""
    (path.parent / "target").write_text("elsewhere")
    (path.parent / "l").symlink_to("target")
    (path.parent / "l").rename(path)


def metadata(path: Path) -> None:
    """As chmod: what could not be read may be read now."""
    path.chmod(0o640)


SAVES: list[Callable[[Path], None]] = [
    truncate_and_write,
    rename_over,
    backup_and_write,
    delete_and_recreate,
    link_over,
    metadata,
]


@pytest.fixture
def path(tmp_path) -> Path:
    """A file to be edited."""
    file = tmp_path / "service.json"
    file.write_text("old")
    return file


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
async def test_one_save_is_one_yield(path, save):
    """However an editor saves, the change is seen once, and so is the next one."""
    async with watching(path) as watched:
        save(path)
        await watched.until(2)
        rename_over(path)
        await watched.until(3)


@pytest.mark.parametrize("save", [truncate_and_write, rename_over, delete_and_recreate], ids=lambda save: save.__name__)
async def test_a_linked_file_is_followed_to_where_it_is(tmp_path, path, save):
    """A save in the folder that a link leads to is seen through the link."""
    link = tmp_path / "etc" / "service.json"
    link.parent.mkdir()
    link.symlink_to("../service.json")
    async with watching(link) as watched:
        save(path)
        await watched.until(2)


async def test_a_swapped_folder_link_is_seen(tmp_path):
    """A mounted configuration that changes by swapping a link to its folder is seen, each time."""
    for version in ("v1", "v2", "v3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "service.json").write_text(version)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "service.json").symlink_to("..data/service.json")
    async with watching(tmp_path / "service.json") as watched:
        for count, version in enumerate(("v2", "v3"), 2):
            (tmp_path / "..tmp").symlink_to(version)
            (tmp_path / "..tmp").rename(tmp_path / "..data")
            await watched.until(count)
        (tmp_path / "v3" / "service.json").write_text("edited in place")
        await watched.until(4)


async def test_other_files_in_the_folder_are_nobodys_business(tmp_path, path):
    """Swap files, backups and neighbours wake nobody."""
    async with watching(path) as watched:
        for name in (".service.json.swp", "service.json~", "4913", "other.json"):
            (tmp_path / name).write_text("x")
        await watched.until(1)


async def test_a_file_that_goes_and_comes_back_is_two_changes(path):
    """A deleted file is told, and so is its return."""
    async with watching(path) as watched:
        path.unlink()
        await watched.until(2, 4)
        path.write_text("back")
        await watched.until(3)


async def test_a_folder_made_later_is_noticed(tmp_path):
    """A configuration may be awaited before its folder is there."""
    path = tmp_path / "a" / "b" / "service.json"
    async with watching(path) as watched:
        path.parent.mkdir(parents=True)
        path.write_text("first")
        await watched.until(2, 6)


async def test_a_replaced_folder_is_noticed(tmp_path):
    """A folder moved away and put back anew does not make the watcher deaf."""
    path = tmp_path / "etc" / "service.json"
    path.parent.mkdir()
    path.write_text("old")
    async with watching(path) as watched:
        path.parent.rename(tmp_path / "gone")
        path.parent.mkdir()
        path.write_text("new")
        await watched.until(2, 6)
        path.write_text("newer still")
        await watched.until(3)


async def test_without_events_the_file_is_looked_at_all_the_same(path, monkeypatch):
    """A host that allows no more watches still gets its edits, a little later."""

    async def refuse(*args, **kwargs):
        raise OSError(28, "watch limit reached")
        yield

    monkeypatch.setattr(module, "awatch", refuse)
    monkeypatch.setattr(module, "RECHECK_MS", 100)
    async with watching(path) as watched:
        rename_over(path)
        await watched.until(2)


async def test_a_change_before_the_watch_is_caught_up(path):
    """The first yield needs no change, so that nothing falls between reading and watching."""
    stop = anyio.Event()
    with anyio.fail_after(5):
        async for _ in watch(path, stop=stop):
            stop.set()


def test_links_in_a_circle_end(tmp_path):
    """A link to itself is a file that is not there."""
    (tmp_path / "loop").symlink_to("loop")
    trail = look(tmp_path / "loop")
    assert not trail.exists
    assert os.fspath(tmp_path / "loop") in trail.entries


async def test_rules_beside_the_file_are_seen(tmp_path):
    """A folder of rules that comes, a rule that is added, replaced and taken out: each is one change."""
    path, folder = tmp_path / "service.json", tmp_path / "signals"
    path.write_text("{}")
    async with watching(path) as watched:
        folder.mkdir()
        (folder / "one.toml").write_text("1")
        await watched.until(2)
        (folder / ".new").write_text("x")
        (folder / ".new").rename(folder / "one.toml")
        await watched.until(3)
        (folder / "README").write_text("nobody's business")
        (folder / "one.toml").unlink()
        await watched.until(4)
