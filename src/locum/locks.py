"""File locks that the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """An open, exclusively locked descriptor of `path`; None when somebody else holds it.

    The lock belongs to the open file, so a child that inherits the descriptor keeps it alive.

    Raises:
        OSError: the file cannot be opened; `FileNotFoundError` when it is missing and `create` is False.

    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
