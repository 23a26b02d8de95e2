"""The database file: opened with care, written in grouped commits by one thread, read beside it by another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import apsw

from locum.errors import ConflictError, StateError
from locum.store.commits import Commits
from locum.store.queries import migrations, queries
from locum.store.worker import Job, Worker

APPLICATION_ID = 0x6C6F6375
"""Marks the file as locum's (`locu` in ASCII)."""

_HEADER_BYTES = 512  # the smallest database there is
BUSY_MS = 5_000
BATCH_LIMIT = 512
"""The most jobs that share one commit."""

Row = tuple[Any, ...]
T = TypeVar("T")
M = TypeVar("M")


class Sql:
    """Runs named queries on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._queries = queries()

    def rows(self, name: str, /, **values: object) -> Iterator[Row]:
        """The rows of a query, fetched as they are asked for."""
        return cast("Iterator[Row]", self.connection.execute(self._queries[name], cast("Any", values)))

    def all(self, name: str, /, **values: object) -> list[Row]:
        """All rows of a query."""
        return list(self.rows(name, **values))

    def one(self, name: str, /, **values: object) -> Row | None:
        """The first row of a query, None without one."""
        return next(iter(self.rows(name, **values)), None)

    def run(self, name: str, /, **values: object) -> int:
        """Execute a statement; the number of rows it changed."""
        self.connection.execute(self._queries[name], cast("Any", values))
        return self.connection.changes()

    def many(self, name: str, /, rows: Iterable[Row]) -> None:
        """Execute a statement whose values have no names, once for each row."""
        self.connection.executemany(self._queries[name], cast("Any", rows))

    def added(self, name: str, /, **values: object) -> int:
        """Execute an INSERT; the new row's number."""
        self.connection.execute(self._queries[name], cast("Any", values))
        return self.connection.last_insert_rowid()


class Tx(Sql, Generic[M]):
    """A write transaction, with the value kept in memory beside the database: both change together or not at all."""

    def __init__(self, connection: apsw.Connection, memory: M) -> None:
        super().__init__(connection)
        self.memory = memory


class Database(Generic[M]):
    """One SQLite file and the in-memory value that goes with it."""

    def __init__(self, path: Path, worker: Worker, memory: M, vfs: str | None = None) -> None:
        """Open (or make) the file and bring its schema up to date.

        Raises `StateError` for a file that cannot be opened, is no database of locum's, is damaged, or was made
        by a newer locum; such a file is left as it is.
        """
        self.path = path
        _inspect(path)
        try:
            writer = _connect(path, vfs)
            _migrate(writer, path)
            reader = _connect(path, vfs)
        except apsw.Error as error:
            raise explain(error, path) from error
        self.memory = memory
        self.commits = Commits()
        self._tx = Tx(writer, memory)
        self._sql = Sql(reader)
        self._writes = worker.lane("locum-writer", self._write, BATCH_LIMIT)
        self._reads = worker.lane("locum-reader", self._read, 1)

    async def write(self, script: Callable[[Tx[M]], T]) -> T:
        """Run `script` in a transaction; returns once it is durable.

        What `script` raises undoes all it did, and is raised here. Raises `StateError` when the disk fails.
        """
        return cast("T", await self._writes.call(script))

    async def read(self, script: Callable[[Sql], T]) -> T:
        """Run `script` on one consistent picture of what is committed."""
        return cast("T", await self._reads.call(script))

    async def close(self) -> None:
        """Finish what was asked for and close the file."""
        await self._writes.close()
        await self._reads.close()
        self._sql.connection.close()
        self._tx.connection.close()

    def _write(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        tx, before = self._tx, self._tx.memory
        _roll_back(tx.connection)  # a disk in trouble may have refused it the last time
        try:
            tx.connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._attempt(job)
            with self.commits.one():
                tx.connection.execute("COMMIT")
        except apsw.Error as error:
            _roll_back(tx.connection)
            tx.memory = before
            for job in jobs:
                job.error = job.error or explain(error, self.path)
            return
        self.memory = tx.memory

    def _attempt(self, job: Job) -> None:
        """Run one job so that its failure undoes only itself. Trouble with the disk is everybody's: it is raised."""
        tx, before = self._tx, self._tx.memory
        tx.connection.execute("SAVEPOINT job")
        try:
            job.value = job.work(tx)
        except apsw.ConstraintError as error:
            job.error = ConflictError(str(error))
        except apsw.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked for the job
            job.error = error
        if job.error is not None:
            tx.connection.execute("ROLLBACK TO job")
            tx.memory = before
        tx.connection.execute("RELEASE job")

    def _read(self, jobs: Sequence[Job]) -> None:
        connection = self._sql.connection
        for job in jobs:
            try:
                connection.execute("BEGIN")
                job.value = job.work(self._sql)
            except apsw.Error as error:
                job.error = explain(error, self.path)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked for the job
                job.error = error
            finally:
                _roll_back(connection)


def _inspect(path: Path) -> None:
    """Refuse what SQLite itself would take for a new, empty database and write over."""
    wal = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size if path.is_file() else 0
    if 0 < size < _HEADER_BYTES:
        raise explain(apsw.NotADBError(f"it has {size} bytes"), path)
    if size == 0 and wal.is_file() and wal.stat().st_size:
        raise explain(apsw.CorruptError(f"it is empty or gone, but {wal.name} is not"), path)


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    with suppress(OSError):  # SQLite itself will tell what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(BUSY_MS)
    for pragma in ("foreign_keys = ON", "synchronous = FULL", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _migrate(connection: apsw.Connection, path: Path) -> None:
    version, known = _version(connection), len(migrations())
    if version > known:
        raise StateError(
            f"{path} was made by a newer locum (schema {version}, this one knows {known})",
            remedy="Install that version again, or start with another state folder",
        )
    foreign = connection.pragma("application_id") != APPLICATION_ID
    if foreign and (version or connection.execute("SELECT 1 FROM sqlite_schema").fetchone()):
        raise StateError(f"{path} is a database of another program", remedy="Start with another state folder")
    connection.pragma("journal_mode", "wal")
    for number, script in enumerate(migrations()[version:], start=version + 1):
        with connection:
            connection.execute(script)
            connection.pragma("user_version", number)
            connection.pragma("application_id", APPLICATION_ID)


def _version(connection: apsw.Connection) -> int:
    return cast("int", connection.pragma("user_version"))


def _roll_back(connection: apsw.Connection) -> None:
    if connection.in_transaction:  # some errors have rolled back already
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")


_DAMAGED = (
    "It was left as it is. Stop locum, move the file away together with its -wal and -shm files, and either "
    "restore a copy or read what is left with `sqlite3 FILE .recover`"
)
_CAUSES: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (apsw.NotADBError, "is not a database", "Move it away, or start with another state folder"),
    (apsw.CorruptError, "is damaged", _DAMAGED),
    (apsw.FullError, "cannot grow: the disk is full", "Nothing was written. Make room and try again"),
    (apsw.BusyError, "is locked by another program", "Close whatever else has it open"),
    (apsw.ReadOnlyError, "cannot be written", "Give the user that runs locum write access to it and its folder"),
    (apsw.CantOpenError, "cannot be opened", "See that its folder exists and may be written"),
    (apsw.IOError, "cannot be read or written", "Nothing was written. Look at the disk's health and the kernel's log"),
)


def explain(error: apsw.Error, path: Path) -> StateError:
    """What an error of SQLite means for the person who runs locum."""
    for kind, what, remedy in _CAUSES:
        if isinstance(error, kind):
            return StateError(f"{path} {what} ({error})", remedy=remedy)
    return StateError(f"{path}: {error}")
