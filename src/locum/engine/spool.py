"""A run's folder: what lies where, and how its growing files are read."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from locum.agents.base import Line, Source
from locum.files import open_regular, read_regular

CHUNK = 256 << 10
"""Bytes that are read at a time: other work waits no longer than their lines take."""
LONGEST_LINE = 16 << 20
"""Bytes of one line that are kept; the rest of a longer one is read past."""
TAIL = 16 << 10
LARGEST_META = 1 << 20
MOST = 4 << 30
"""Bytes of one file that are read: no session is that long, but a file of holes may be."""
REMEMBERED = 1 << 10
"""Bytes of what was read last that must still be there at the next look: more than two rows of a session share."""
MOST_FOLDERS = 10_000
"""Folders that are looked into for an agent's transcripts: one for each day of 27 years."""
LATEST_MS = 1 << 42
"""A moment in 2109: a file that says it is younger was dated by somebody."""


@dataclass(frozen=True, slots=True)
class Spool:
    """The folder of one run, `$STATE/runs/<run>`."""

    folder: Path

    @property
    def out(self) -> Path:
        """The agent's standard output."""
        return self.folder / "out"

    @property
    def err(self) -> Path:
        """The agent's standard error."""
        return self.folder / "err"

    @property
    def prompt(self) -> Path:
        """The whole prompt, hand-over note included."""
        return self.folder / "prompt.md"

    @property
    def stdin(self) -> Path:
        """What the agent is given as input."""
        return self.folder / "stdin"

    @property
    def tmp(self) -> Path:
        """The run's own TMPDIR."""
        return self.folder / "tmp"

    def create(self, prompt: str) -> None:
        """Make the folder and write the prompt.

        Raises:
            OSError: the disk is full or the folder cannot be written.

        """
        self.tmp.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.folder.chmod(0o700)
        self.prompt.write_text(prompt, encoding="utf-8", errors="surrogatepass")
        for path in (self.out, self.err):
            path.touch(mode=0o600)

    def give(self, files: Mapping[str, bytes]) -> None:
        """Lay the files that its agent needs into the run's folder.

        Raises:
            OSError: the disk is full or the folder cannot be written.

        """
        given = self.folder / "given"
        for name, content in files.items():
            assert Path(name).name == name, "a plain name"
            given.mkdir(mode=0o700, exist_ok=True)
            (given / name).write_bytes(content)

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write what adoption needs to know, whole or not at all."""
        new = self.folder / "meta.new"
        new.write_text(json.dumps(meta))
        new.rename(self.folder / "meta.json")

    def meta(self) -> dict[str, Any]:
        """What was written for adoption; empty when there is nothing readable."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            meta = json.loads(read_regular(self.folder / "meta.json", LARGEST_META))
            if isinstance(meta, dict):
                return meta
        return {}

    def exit(self) -> tuple[int, int] | None:
        """The exit code (0 to 255) and the moment it was written (epoch milliseconds); None when nobody wrote one."""
        with (
            contextlib.suppress(OSError, ValueError),
            open(open_regular(self.folder / "exit"), "rb") as file,  # noqa: PTH123 - by descriptor
        ):
            code, at_ms = int(file.read(16)), os.fstat(file.fileno()).st_mtime_ns // 1_000_000
            if 0 <= code <= 255 and 0 <= at_ms < LATEST_MS:
                return code, at_ms
        return None

    def was_started(self) -> bool:
        """Whether a process was ever started for this run."""
        replaced = os.path.lexists(self.folder) and not self.folder.is_dir()  # only an agent can have done so
        return replaced or os.path.lexists(self.folder / "pid")

    def size(self) -> int:
        """Bytes the agent has written to its streams."""
        total = 0
        for path in (self.out, self.err):
            with contextlib.suppress(OSError):
                status = path.lstat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total

    def written_ms(self) -> int | None:
        """When the agent last wrote to its standard output (epoch milliseconds); None when that cannot be told."""
        with contextlib.suppress(OSError):
            return self.out.lstat().st_mtime_ns // 1_000_000
        return None

    def cut(self, most: int) -> None:
        """Keep no more than the first `most` bytes of each stream; nobody writes them any more."""
        for path in (self.out, self.err):
            with (
                contextlib.suppress(OSError),
                open(open_regular(path, os.O_WRONLY), "wb", buffering=0) as file,  # noqa: PTH123 - by descriptor
            ):
                status = os.fstat(file.fileno())
                if status.st_size > most and status.st_nlink == 1:  # another name is another's file
                    file.truncate(most)

    def clear_tmp(self) -> None:
        """Remove the run's temporary files."""
        shutil.rmtree(self.tmp, ignore_errors=True)


def tail_bytes(path: Path, size: int) -> bytes:
    """The last `size` bytes of a file; none when it cannot be read."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - by descriptor
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except OSError:
        return b""


@dataclass(slots=True)
class Splitter:
    """Cuts what is read of a file into lines. `position` is the byte that is to be read next, `held` the beginning of
    a line whose end is still to come; `skipping`: the rest of a line that was too long is passed over.
    """

    position: int = 0
    skipping: bool = False
    held: bytearray = field(default_factory=bytearray)

    @property
    def settled(self) -> int:
        """The byte up to which everything was handed out: reading may begin there anew."""
        return self.position - len(self.held)

    def split(self, chunk: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """The lines that end in `chunk`, each with the offset of its first byte, and whether it lost its end."""
        at = 0
        while (end := chunk.find(b"\n", at)) >= 0:
            if self.skipping:
                self.skipping = False
            else:
                line = bytes(self.held) + chunk[at:end]
                yield self.position + at - len(self.held), line[:LONGEST_LINE], len(line) > LONGEST_LINE
            self.held.clear()
            at = end + 1
        if not self.skipping:
            self.held += chunk[at:]
        self.position += len(chunk)
        if len(self.held) > LONGEST_LINE:
            yield self.settled, bytes(self.held[:LONGEST_LINE]), True
            self.held.clear()
            self.skipping = True


@dataclass(slots=True)
class Tail:
    """Reads the lines of one growing file, each once, from its first byte.

    A file that was replaced or has shrunk is read again from its start: what it says is counted by key, so
    reading twice costs nothing but time. `most` bytes are read, whatever follows them.
    """

    path: Path
    source: Source
    run: str
    session: str = ""
    run_started_ms: int = 0
    message: str = ""
    model: str | None = None
    most: int = MOST
    behind: bool = False
    """Whether the last look left something unread."""
    _lines: Splitter = field(default_factory=Splitter)
    _inode: int = 0
    _last: bytes = b""

    def read(self, *, last: bool = False) -> Iterator[Line | None]:
        """The complete lines of the next chunk, then None, so that the reader can let others work.

        One look reads one chunk: an agent may write faster than anybody can read, and must not keep its reader from
        everything else. `last`: nothing more is to be written, so all there is now is read and an unfinished line is
        complete.
        """
        self.behind = False
        try:
            descriptor = open_regular(self.path)
        except OSError:
            return
        with open(descriptor, "rb") as file:  # noqa: PTH123 - by descriptor
            status = os.fstat(descriptor)
            self._notice_replacement(status, file)
            file.seek(self._lines.position)
            end = min(status.st_size, self.most)
            while chunk := file.read(max(0, min(CHUNK, end - self._lines.position))):
                yield from self._split(chunk)
                yield None
                if not last:
                    self.behind = len(chunk) == CHUNK
                    break
        if last and self._lines.held:
            yield self._line(self._lines.settled, bytes(self._lines.held))
            self._lines.held.clear()

    @property
    def position(self) -> tuple[int, int]:
        """Which file this is and how far it was read: changes when something was read."""
        return self._inode, self._lines.position

    def rewind(self) -> None:
        """Read everything again at the next look."""
        self._inode = 0

    def _notice_replacement(self, stat: os.stat_result, file: BinaryIO) -> None:
        """Begin anew with another file: one of another number, a shorter one, one that does not hold what was read.

        A number alone is no proof: that of a file that was deleted is given to the next one.
        """
        file.seek(self._lines.position - len(self._last))
        shrunk = stat.st_size < self._lines.position
        if stat.st_ino != self._inode or shrunk or file.read(len(self._last)) != self._last:
            self._lines, self._inode, self._last = Splitter(), stat.st_ino, b""

    def _split(self, chunk: bytes) -> Iterator[Line]:
        yield from (self._line(*each) for each in self._lines.split(chunk))
        self._last = (self._last + chunk)[-REMEMBERED:]

    def _line(self, offset: int, data: bytes, cut: bool = False) -> Line:
        told = (self.session, self.run_started_ms, self.message, self.model)
        return Line(self.source, data.removesuffix(b"\r"), offset, self.run, cut, *told)


def expand(patterns: tuple[str, ...], *, links: bool = True) -> list[Path]:
    """The files that glob patterns name now, regular files only.

    `**` goes into real folders only, and not into more than `MOST_FOLDERS`: a link may lead anywhere, also upwards.
    `links` False: it does not begin at one either.
    """
    found: set[Path] = set()
    for pattern in patterns:
        above, deep, name = pattern.partition("/**/")
        if not deep:
            found.update(map(Path, glob.glob(pattern)))  # noqa: PTH207 - absolute patterns
            continue
        for top in glob.glob(above):  # noqa: PTH207 - as above
            if links or not Path(top).is_symlink():
                found.update(_below(top, name))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _below(top: str, pattern: str) -> Iterator[Path]:
    """What lies in `top` and the folders in it under such a name."""
    for folder, _, names in islice(os.walk(top), MOST_FOLDERS):
        yield from (Path(folder, name) for name in fnmatch.filter(names, pattern))
