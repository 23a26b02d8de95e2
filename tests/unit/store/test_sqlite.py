"""The database file when things go wrong: bad files, full disks, sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from locum.errors import ConflictError, StateError
from locum.store import sqlite
from locum.store.queries import migrations
from locum.store.sqlite import Database, explain
from locum.store.worker import InlineWorker, ThreadWorker
from tests.ledgers import START, budget, crossings, held, opened, plan_of, spend, started

pytestmark = pytest.mark.anyio

CONNECT = sqlite._connect


def database(path: Path) -> Database[int]:
    """A database whose memory is a number."""
    return Database(path, InlineWorker(), 0)


def test_a_new_database_has_the_newest_schema(tmp_path):
    """All migrations run from empty, and the file is readable by its owner only."""
    path = tmp_path / "x.db"
    database(path)
    assert apsw.Connection(str(path)).pragma("user_version") == len(migrations())
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_migration_is_whole_or_not_at_all(tmp_path, monkeypatch):
    """A step that fails half-way leaves the schema of the step before, and can be taken later."""
    path, broken = tmp_path / "x.db", "CREATE TABLE one (a); CREATE TABLE two (a); CREATE nonsense;"
    database(path)
    steps = migrations()
    monkeypatch.setattr(sqlite, "migrations", lambda: (*steps, broken))
    with pytest.raises(StateError):
        database(path)
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == len(steps)
    assert connection.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('one', 'two')").get == 0
    connection.close()
    monkeypatch.setattr(sqlite, "migrations", lambda: (*steps, broken.replace("nonsense", "TABLE three (a)")))
    database(path)
    assert apsw.Connection(str(path)).pragma("user_version") == len(steps) + 1


def test_a_newer_database_is_refused_and_left_alone(tmp_path):
    """What a later version wrote is not touched by this one."""
    path = tmp_path / "x.db"
    database(path)
    apsw.Connection(str(path)).pragma("user_version", 99)
    with pytest.raises(StateError, match=r"x\.db was made by a newer locum \(schema 99, this one knows \d+\)"):
        database(path)
    assert apsw.Connection(str(path)).pragma("user_version") == 99


def test_the_database_of_another_program_is_refused(tmp_path):
    """A SQLite file that locum did not make is not filled with its tables."""
    path = tmp_path / "x.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\0" + b"\xff" * 4080, b"x"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    """The error names the file and what to do, and not one byte is changed."""
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"x\.db is .*(Move|move)"):
        database(path)
    assert path.read_bytes() == content


async def test_an_emptied_ledger_is_not_taken_for_a_new_one(tmp_path):
    """Where the file is gone but its -wal is not, nothing is begun anew on top."""
    ledger = await opened(tmp_path)
    await started(ledger)
    path = tmp_path / "ledger.db"
    os.truncate(path, 0)
    with pytest.raises(StateError, match=r"damaged.*ledger\.db-wal"):
        await opened(tmp_path)
    assert (tmp_path / "ledger.db-wal").stat().st_size


async def test_a_truncated_ledger_is_refused_and_left_alone(tmp_path):
    """A file that lost its end is told as damaged, with the remedy."""
    ledger = await opened(tmp_path)
    await started(ledger)
    await ledger.close()
    path = tmp_path / "ledger.db"
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"damaged.*\.recover"):
        await opened(tmp_path)
    assert path.read_bytes() == before


async def test_a_board_that_cannot_be_read_is_a_clear_error(tmp_path):
    """A board row overwritten with nonsense stops the start, typed."""
    ledger = await opened(tmp_path)
    await ledger.bump("default", "a", None, "x", START)
    await ledger._database.write(lambda tx: tx.connection.execute("UPDATE board SET body = '{}'").fetchall())
    await ledger.close()
    with pytest.raises(StateError, match="board"):
        await opened(tmp_path)


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    """The sentence says that the folder is the trouble."""
    with pytest.raises(StateError, match=r"cannot be opened.*folder"):
        database(tmp_path / "missing" / "x.db")


async def test_a_locked_database_is_a_clear_error(tmp_path, monkeypatch):
    """Another program that holds the file makes a typed error, not a hang."""
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    base = database(tmp_path / "x.db")
    other = apsw.Connection(str(base.path))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StateError, match="locked by another program"):
        await base.write(lambda tx: tx.run("save_board", body="{}"))
    other.close()
    await base.write(lambda tx: tx.run("save_board", body="{}"))


async def test_a_job_that_raises_undoes_only_itself(tmp_path):
    """Rows and memory of the failed job are as before; the others of its batch are kept."""
    base = database(tmp_path / "x.db")

    def good(tx):
        tx.memory += 1
        tx.run("add_block", scope="s", length_ms=1, start_ms=tx.memory)

    def bad(tx):
        good(tx)
        raise KeyError("mine")

    def clash(tx):
        tx.memory += 100
        tx.run("add_block", scope="s", length_ms=1, start_ms=1)

    jobs = [sqlite.Job(work) for work in (good, bad, clash, good)]
    base._write(jobs)
    assert [type(job.error) for job in jobs] == [type(None), KeyError, ConflictError, type(None)]
    assert base.memory == 2
    assert await base.read(lambda sql: sql.connection.execute("SELECT start_ms FROM block").fetchall()) == [(1,), (2,)]


async def test_a_reader_that_raises_does_not_stop_the_next(tmp_path):
    """An error in a query is its caller's only."""
    base = database(tmp_path / "x.db")
    with pytest.raises(ZeroDivisionError):
        await base.read(lambda sql: 1 // 0)
    with pytest.raises(StateError):
        await base.read(lambda sql: sql.connection.execute("SELECT nothing"))
    assert await base.read(lambda sql: sql.one("board")) is None


def test_every_cause_is_told_with_a_remedy():
    """Each typed error of the disk names the file and what to do."""
    for kind in (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.BusyError, apsw.CorruptError):
        error = explain(kind("why"), Path("/x.db"))
        assert "/x.db" in str(error)
        assert error.remedy
    assert "why" in str(explain(apsw.SQLError("why"), Path("/x.db")))


class Full(apsw.VFS):
    """A disk that is full from the n-th write or sync on."""

    def __init__(self) -> None:
        self.left: int | None = None
        super().__init__("full", "")

    def xOpen(self, name, flags):  # noqa: N802 - the name SQLite calls
        """Open a file of this disk."""
        return FullFile(self, name, flags)

    def spend(self) -> None:
        """Raise once nothing is left."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise apsw.FullError("no space")


class FullFile(apsw.VFSFile):
    """A file on that disk."""

    def __init__(self, disk: Full, name, flags) -> None:
        self.disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data, offset):  # noqa: N802 - the name SQLite calls
        """Write, if there is room."""
        self.disk.spend()
        return super().xWrite(data, offset)

    def xSync(self, flags):  # noqa: N802 - the name SQLite calls
        """Sync, if there is room."""
        self.disk.spend()
        return super().xSync(flags)


@pytest.fixture(scope="module")
def disk():
    """One such disk, registered with SQLite."""
    full = Full()
    yield full
    full.unregister()


async def test_a_disk_full_at_any_write_leaves_nothing_half_written(tmp_path, disk, monkeypatch):
    """Whichever write fails: typed, all or nothing, memory as before, and it works again when there is space."""
    monkeypatch.setattr(sqlite, "_connect", lambda path, vfs: CONNECT(path, "full"))
    ledger = await opened(tmp_path, plan_of(budget(100)))
    run = await started(ledger)
    failures = 0
    for number in range(60):
        disk.left = number
        board, tokens = ledger.board, await ledger.run_tokens(run.id)
        try:
            await spend(ledger, run, 150, START + number)
        except StateError:
            failures += 1
            assert ledger.board == board
            assert await ledger.run_tokens(run.id) == tokens
            assert await crossings(ledger) == bool(tokens)
        else:
            break
        finally:
            disk.left = None
    assert failures > 3
    assert held(ledger)
    await spend(ledger, run, 1, START + 99)
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def test_a_commit_that_fails_fails_its_whole_batch(tmp_path, disk):
    """Every job that shared the commit is told, and the memory of none of them leaks into the next."""
    base = Database(tmp_path / "x.db", InlineWorker(), 0, "full")

    def count(tx):
        tx.memory += 1
        tx.run("add_block", scope="s", length_ms=1, start_ms=tx.memory)

    jobs = [sqlite.Job(count), sqlite.Job(lambda tx: {}["mine"]), sqlite.Job(count)]
    disk.left = 0
    base._write(jobs)
    disk.left = None
    assert [type(job.error) for job in jobs] == [StateError, KeyError, StateError]
    assert base.memory == 0
    await base.write(count)
    assert base.memory == 1
    await base.close()


def test_every_commit_is_on_the_disk_before_it_is_told(tmp_path):
    """The settings that durability hangs on: WAL, and a full sync at each commit."""
    base = database(tmp_path / "x.db")
    for sql in (base._tx, base._sql):
        found = [sql.connection.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert found == ["wal", 2, 1]


async def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path):
    """Page by page until there is room: typed errors, then success, and the audit finds nothing."""
    ledger = await opened(tmp_path, worker=ThreadWorker())
    run = await started(ledger)
    pages = await ledger._database.read(lambda sql: sql.connection.pragma("page_count"))
    key = "k" * 200
    await limit_pages(ledger, pages)
    failed = 0
    for number in range(200):
        try:
            await spend(ledger, run, 1, START + number, key=f"{key}{number}")
        except StateError:
            failed += 1
            pages += 1
            await limit_pages(ledger, pages)
    assert failed > 3
    assert (await ledger.run_tokens(run.id)).total == 200 - failed
    assert (await ledger.audit()).problems == ()
    await ledger.close()


async def limit_pages(ledger, pages):
    """Let the file have so many pages and no more."""
    await ledger._database.write(lambda tx: tx.connection.pragma("max_page_count", pages))


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    import anyio
    from tests.ledgers import START, opened, plan_of, spend, started
    from locum.store.worker import ThreadWorker

    async def main(folder, first):
        ledger = await opened(Path(folder), worker=ThreadWorker())
        run = await started(ledger, first)

        async def produce(lane):
            for number in range(100_000):
                await spend(ledger, run, 1, START, key=f"{first}-{lane}-{number}")
                print(f"{first}-{lane}-{number}", flush=True)

        async with anyio.create_task_group() as group:
            for lane in range(8):
                group.start_soon(produce, lane)

    anyio.run(main, sys.argv[1], int(sys.argv[2]))
""")


async def test_what_was_acknowledged_survives_kill_9(tmp_path):
    """Ten writers killed in mid-commit: every entry they were told is durable is there, once, and all adds up."""
    told = set()
    for number in range(1, 11):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(number)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: ASYNC220 - no loop to block
            for _ in range(5 + 40 * number):
                told.add(process.stdout.readline().decode().strip())
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().decode().split("\n")
            told |= set(lines[:-1])
    ledger = await opened(tmp_path)
    rows = await ledger._database.read(lambda sql: sql.connection.execute("SELECT key FROM entry").fetchall())
    keys = [row[0] for row in rows]
    assert len(told) > 1000
    assert told <= set(keys)
    assert len(keys) == len(set(keys))
    assert (await ledger.audit()).problems == ()
    await ledger.close()
