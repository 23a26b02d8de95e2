"""The transcripts below one folder: which are there, and which have changed since the last look."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_FOLDERS = 20_000
"""Folders that are looked into below one folder; what lies in further ones is not seen, and that is said."""
MOST_FILES = 200_000
"""Files that are remembered below one folder; further ones are not seen, and that is said."""
SETTLED_NS = 2_000_000_000
"""A folder's time of change is taken for proof that nothing was added only if it lay so long ago when it was read:
some file systems tell time in steps of a second or two."""
_ESCAPED = re.compile(r"\[([*?[])\]")

State = tuple[int, int, int]
"""A file as it was seen: its time of change in nanoseconds, its size in bytes, its inode."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob pattern as a real `top` folder and what matches below it, one expression a level (None: any levels)."""

    top: Path
    levels: tuple[re.Pattern[str] | None, ...]

    def matches(self, names: Sequence[str]) -> bool:
        """Whether a file below `top` is meant, by the names on the way to it."""
        return _matches(self.levels, names)


def parse(pattern: str) -> Pattern:
    """An absolute glob pattern, as adapters give it. `*` never matches a slash, `**` any number of folders."""
    first, *parts = pattern.split("/")
    assert not first, "an absolute path"
    top = Path("/")
    while len(parts) > 1 and not _is_glob(parts[0]):
        top /= _ESCAPED.sub(r"\1", parts.pop(0))
    levels = (None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts)
    return Pattern(top, tuple(levels))


@dataclass(slots=True)
class _Folder:
    """What lay in one folder at the last look. `proved`: its time of change proves that no name was added or gone."""

    changed: tuple[int, int]
    proved: bool
    files: dict[str, State] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Look:
    """What a look has found: files that are new or not as they were, and those that are gone, by path."""

    changed: list[tuple[str, State]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


@dataclass
class Tree:
    """The files below a real folder that fit any of `levels`. No link is followed; only regular files are seen.

    A folder that has not changed is not listed again; each known file is looked at by its inode alone.
    """

    top: str
    levels: list[tuple[re.Pattern[str] | None, ...]]
    full: bool = False
    """Whether there is more than is looked at."""
    unread: str = ""
    """The last folder that could not be read, and why."""
    files: int = 0
    _folders: dict[str, _Folder] = field(default_factory=dict)

    @property
    def folders(self) -> list[str]:
        """Every folder that is there, as of the last look."""
        return list(self._folders)

    def fits(self, path: str) -> bool:
        """Whether a path below the folder is that of a transcript."""
        names = path[len(self.top) :].strip("/").split("/")
        return path.startswith(f"{self.top}/") and any(_matches(each, names) for each in self.levels)

    def look(self, now_ns: int) -> Look:
        """Every difference since the last look. `now_ns` is the wall clock in nanoseconds."""
        found, before = Look(), self._folders
        self._folders, self.files, self.full, self.unread = {}, 0, False, ""
        todo = [self.top]
        while todo:
            path = todo.pop()
            if len(self._folders) >= MOST_FOLDERS or self.files >= MOST_FILES:
                self.full = True
                break
            known = self._visit(path, before.pop(path, None), now_ns, found)
            if known is not None:
                self._folders[path] = known
                self.files += len(known.files)
                todo += [f"{path}/{name}" for name in known.folders]
        if not self.full:
            found.gone += [f"{path}/{name}" for path, known in before.items() for name in known.files]
        return found

    def glance(self, path: str) -> State | None:
        """How one file is now; None when everything is to be looked at: it is new in a folder, or gone."""
        folder, _, name = path.rpartition("/")
        known = self._folders.get(folder)
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if known is None or not stat.S_ISREG(status.st_mode) or name not in known.files:
            return None
        state = known.files[name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return state

    def _visit(self, path: str, known: _Folder | None, now_ns: int, found: Look) -> _Folder | None:
        """Look at one folder; None when it is no folder any more."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self.unread = f"{path}: {(error.strerror or 'it cannot be opened').lower()}"
            return None
        try:
            status = os.fstat(descriptor)
            changed = (status.st_mtime_ns, status.st_ino)
            if known is None or known.changed != changed or not known.proved:
                known = self._listed(path, descriptor, changed, known, now_ns, found)
            _compare(path, descriptor, known.files, found)
        except OSError as error:
            self.unread = f"{path}: {(error.strerror or 'it cannot be read').lower()}"
            return known
        finally:
            os.close(descriptor)
        return known

    def _listed(
        self, path: str, descriptor: int, changed: tuple[int, int], known: _Folder | None, now_ns: int, found: Look
    ) -> _Folder:
        """The folder with the names that are in it now; what is known of its files stays known."""
        before = known.files if known else {}
        listed = _Folder(changed, now_ns - changed[0] > SETTLED_NS)
        above = path[len(self.top) :].strip("/").split("/") if path != self.top else []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    listed.folders.append(entry.name)
                elif entry.name in before:
                    listed.files[entry.name] = before.pop(entry.name)
                elif entry.is_file(follow_symlinks=False) and self._is_ours([*above, entry.name]):
                    listed.files[entry.name] = (-1, -1, -1)
        found.gone += [f"{path}/{name}" for name in before]
        return listed

    def _is_ours(self, names: Sequence[str]) -> bool:
        return _is_text(names[-1]) and any(_matches(each, names) for each in self.levels)


def _compare(path: str, descriptor: int, files: dict[str, State], found: Look) -> None:
    """Look at each known file of a folder."""
    gone: list[str] = []
    for name, known in files.items():
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            gone.append(name)
            continue
        if (status.st_mtime_ns, status.st_size, status.st_ino) != known:
            if stat.S_ISREG(status.st_mode):
                state = files[name] = (status.st_mtime_ns, status.st_size, status.st_ino)
                found.changed.append((f"{path}/{name}", state))
            else:
                gone.append(name)
    for name in gone:
        del files[name]
        found.gone.append(f"{path}/{name}")


def _matches(levels: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    if not levels or not names:
        return not levels and not names
    if levels[0] is None:
        return any(_matches(levels[1:], names[skipped:]) for skipped in range(len(names)))
    return bool(levels[0].match(names[0])) and _matches(levels[1:], names[1:])


def _is_glob(part: str) -> bool:
    return any(each in _ESCAPED.sub("", part) for each in "*?[")


def _is_text(name: str) -> bool:
    """Whether a name can be written down: one that is no UTF-8 is no agent's."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
