"""A disk whose writes and syncs are Python functions, so that the daemon can be killed between two of them."""

from __future__ import annotations

from typing import Any

import apsw


class Disk(apsw.VFS):
    """The host's disk, used for every database that is opened from now on."""

    def __init__(self) -> None:
        self.host = apsw.vfs_names()[0]
        super().__init__("crash", self.host, makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802 - the name SQLite calls
        """Open a file: the write-ahead log as a `LogFile`, every other as a `BaseFile`."""
        is_log = flags[0] & apsw.SQLITE_OPEN_WAL
        return (LogFile if is_log else BaseFile)(self.host, name, flags)


class BaseFile(apsw.VFSFile):
    """The database itself: written by the first start and by checkpoints."""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name SQLite calls
        """Write as the host does."""
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - the name SQLite calls
        """Sync as the host does."""
        super().xSync(flags)


class LogFile(BaseFile):
    """The write-ahead log: written and synced by every commit."""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name SQLite calls
        """Write as the host does."""
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - the name SQLite calls
        """Sync as the host does."""
        super().xSync(flags)
