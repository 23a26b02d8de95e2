"""What was added to a transcript since it was read last."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from locum import words
from locum.engine.spool import CHUNK, LONGEST_LINE, MOST, REMEMBERED, Splitter
from locum.files import open_regular
from locum.policy.transcript import Transcript


@dataclass
class Stretch:
    """One open transcript, read from where it was left off, else from its first byte.

    Close it. What is read is of one file, even if another takes its place meanwhile: that one is read the next time.
    """

    known: Transcript
    """How far it was read; of a file that is not the one that was read, nothing."""
    descriptor: int
    size: int
    mtime_ns: int
    cut: bool = field(init=False)
    """Whether a line was too long, and its rest passed over."""
    _split: Splitter = field(init=False)

    def __post_init__(self) -> None:
        self._split = Splitter(self.known.position, self.known.skipping)
        self.cut = self.known.skipping

    @property
    def trouble(self) -> str:
        """Why not all of it was read, for people; "" when it was."""
        return trouble_of(self.size, cut=self.cut)

    def read(self) -> Iterator[tuple[int, bytes, bool]] | None:
        """The lines that end within the next chunk, each with its offset and whether it lost its end; None: no more.

        Raises:
            OSError: it cannot be read.

        """
        room = max(0, min(CHUNK, MOST - self._split.position))
        chunk = os.pread(self.descriptor, room, self._split.position)
        return self._split.split(chunk) if chunk else None

    def told(self, session: str, message: str, model: str | None) -> None:
        """Keep what its rows have told for those that follow."""
        self.known = replace(self.known, session=session, message=message, model=model)

    def place(self) -> Transcript:
        """How far it was read by now.

        Raises:
            OSError: it cannot be read.

        """
        position = self._split.settled
        return replace(
            self.known,
            size=self.size,
            mtime_ns=self.mtime_ns,
            position=position,
            mark=mark_of(before(self.descriptor, position)),
            skipping=self._split.skipping,
        )

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)


def opened(known: Transcript, folder: str, owners: frozenset[int]) -> Stretch:
    """The transcript, if it lies within `folder` (a real path) and belongs to one of the users `owners`.

    Raises:
        OSError: it cannot be read, is no regular file, is another user's, or lies elsewhere behind a link.

    """
    descriptor = open_regular(Path(known.path))
    try:
        status = os.fstat(descriptor)
        _check(known.path, descriptor, status.st_uid in owners, folder)
        there = replace(known, device=status.st_dev, inode=status.st_ino)
        same = there == known and status.st_size >= known.position
        if not same or mark_of(before(descriptor, known.position)) != known.mark:
            there = replace(there, position=0, mark="", skipping=False, session="", message="", model=None)
        return Stretch(there, descriptor, status.st_size, status.st_mtime_ns)
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: str, descriptor: int, ours: bool, folder: str) -> None:
    """Refuse what is another user's or lies elsewhere; asked of the open file, so that nobody can swap it."""
    if not ours:
        raise OSError(errno.EPERM, "it belongs to another user", path)
    real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a text that may hold anything
    if not real.startswith(f"{folder}/"):
        raise OSError(errno.EXDEV, "it lies outside its agent's home, behind a link", path)


def trouble_of(size: int, *, cut: bool) -> str:
    """Why not all of a transcript was read, for people; "" when it was. `cut`: one of its lines was too long."""
    if size > MOST:
        return f"only its first {words.size(MOST)} are read"
    return f"a line of more than {words.size(LONGEST_LINE)} was passed over" if cut else ""


def before(descriptor: int, position: int) -> bytes:
    """The bytes just before a position, up to `REMEMBERED`: what `mark_of` is made of. Raises OSError."""
    start = max(0, position - REMEMBERED)
    return os.pread(descriptor, position - start, start)


def mark_of(last: bytes) -> str:
    """A digest of the bytes that were read last: another file seldom has the same ones in that place."""
    return hashlib.blake2b(last, digest_size=12).hexdigest()
