"""How far a transcript was read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transcript:
    """How far a file (by its real path) was read: `position` is the byte up to which its rows have been counted, as
    far as they are dated from `since_ms` on.

    `device`, `inode` and `mark` (a digest of the bytes just before `position`) tell whether it is still that file,
    `size` and `mtime_ns` whether anything was added. `skipping`: `position` lies within a line that is too long, the
    rest of which is passed over. `session`, `message` and `model` are what its rows have told so far (see `Line`).
    """

    path: str
    agent: str
    since_ms: int
    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    position: int = 0
    mark: str = ""
    skipping: bool = False
    session: str = ""
    message: str = ""
    model: str | None = None
