"""Regular files, opened where somebody else may have put a pipe, a device or a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """An open descriptor of the regular file `path`; never waits, and follows a link in its place only on request.

    Raises:
        OSError: it cannot be opened, or is something else; `filename` and `strerror` say which and why.

    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return descriptor


def read_regular(path: Path, most: int, *, follow: bool = False) -> bytes:
    """The first `most` bytes of the regular file `path`.

    Raises:
        OSError: as `open_regular`, or it cannot be read.

    """
    with open(open_regular(path, follow=follow), "rb") as file:
        return file.read(most)
