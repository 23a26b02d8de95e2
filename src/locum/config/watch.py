"""Noticing every way in which editors and deployments change a file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
from watchfiles import awatch

from locum.config.added import folder_of, names_in

STEP_MS = 50
"""A save is over when nothing has happened for so long."""
GAP_STEPS = 20
"""How many steps an editor may leave the file away between deleting and writing it."""
LOOK_MS = 200
"""How often it is asked whether there was an event: each time wakes a daemon that has nothing to do."""
RECHECK_MS = 2_000
"""How often the file is looked at even without an event: some file systems send none."""
MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class Trail:
    """How a path leads to its file: the directory entries that decide it, where they are, and what they say now.

    `beside` is the folder of rules beside it, whose files decide too.
    """

    entries: frozenset[str]
    folders: frozenset[tuple[str, int]]
    state: tuple[object, ...]
    exists: bool
    beside: str


def look(path: Path) -> Trail:
    """Follow `path` link by link, as far as it goes."""
    here, links = "/", list[tuple[str, str]]()
    todo = str(Path.cwd() / path).split("/")[::-1]
    while todo:
        name = todo.pop()
        entry = os.path.normpath(os.path.join(here, name))  # noqa: PTH118 - `..` after links are followed
        try:
            target = os.readlink(entry) if len(links) < MOST_LINKS else ""  # noqa: PTH115 - a text that may hold anything
        except OSError:
            target = ""
        if target:
            links.append((entry, target))
            todo += target.split("/")[::-1]
        here = "/" if target.startswith("/") else here if target else entry
    status, beside = _stat(here), str(folder_of(Path.cwd() / path))
    entries = {here, beside, *(entry for entry, _ in links)}
    folders = {_nearest_folder(entry, entries) for entry in tuple(entries)}
    rules = _rules(beside)
    if rules is not None and (inside := _stat(beside)) is not None:
        folders.add((beside, inside.st_ino))
    state = (*links, *_known(status), rules)
    return Trail(frozenset(entries), frozenset(folders), state, exists=status is not None, beside=beside)


class Changes(Protocol):
    """Says when a file may have changed."""

    def __call__(self, path: Path, *, stop: anyio.Event) -> AsyncIterator[None]:
        """As `watch` does."""
        ...


async def watch(path: Path, *, stop: anyio.Event) -> AsyncIterator[None]:
    """Yield once at the start (a change may have come before), then once after each save, until `stop` is set."""
    seen = await _settled(path)
    yield
    while not stop.is_set():
        await _until_different(path, seen, stop)
        fresh = await _settled(path)
        if fresh.state != seen.state and not stop.is_set():
            seen = fresh
            yield


async def _settled(path: Path) -> Trail:
    """The trail once it keeps still, and the file is there unless it stays away."""
    before = look(path)
    for _ in range(GAP_STEPS):
        await anyio.sleep(STEP_MS / 1000)
        trail = look(path)
        if trail.exists and trail == before:
            break
        before = trail
    return before


async def _until_different(path: Path, seen: Trail, stop: anyio.Event) -> None:
    """Wait until the file is not as it was `seen`, or other folders are to be watched, or `stop`."""
    events = awatch(
        *sorted(folder for folder, _ in seen.folders),
        watch_filter=lambda _change, name: name in seen.entries or name.startswith(f"{seen.beside}/"),
        stop_event=stop,
        step=LOOK_MS,
        rust_timeout=RECHECK_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    try:
        async with aclosing(events):
            async for _ in events:
                if look(path) != seen:
                    return
    except OSError:  # a folder has just gone, or the host allows no more watches: look again later
        with anyio.move_on_after(RECHECK_MS / 1000):
            await stop.wait()


def _rules(folder: str) -> tuple[object, ...] | None:
    """What the rules in that folder are like now; None when there is no such folder."""
    try:
        names = names_in(Path(folder))
    except OSError:
        return None
    return tuple((name, *_known(_stat(f"{folder}/{name}"))) for name in names)


def _known(status: os.stat_result | None) -> tuple[int, ...]:
    """What changes whenever a file does."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else ()


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - a text that may hold anything
    except (OSError, ValueError):
        return None


def _nearest_folder(entry: str, entries: set[str]) -> tuple[str, int]:
    """The folder of `entry`, or the nearest one above that is there; then the way down to it decides too."""
    folder = os.path.dirname(entry)  # noqa: PTH120 - a text that may hold anything
    while (status := _stat(folder)) is None and folder != "/":
        entries.add(folder)
        folder = os.path.dirname(folder)  # noqa: PTH120 - as above
    return folder, status.st_ino if status else 0
