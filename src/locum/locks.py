"""File locks that the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from locum.files import open_regular


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """An open, exclusively locked descriptor of `path`; None when somebody else holds it.

    The lock belongs to the open file, so a child that inherits the descriptor keeps it alive.

    Raises:
        OSError: the file cannot be opened, or is no regular one; `FileNotFoundError` when it is missing and
            `create` is False.

    """
    descriptor = open_regular(path, os.O_RDWR | (os.O_CREAT if create else 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
