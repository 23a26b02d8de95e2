"""What can go wrong while transcripts are watched: nothing is lost, nothing counts twice, and it is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import anyio
import pytest

from locum.engine import sources
from locum.errors import StateError
from tests.unit.engine.watching import Told, Unheard, service, watching
from tests.unit.web.sessions import Session, counted, row, until, used

pytestmark = pytest.mark.anyio

MAX = {"name": "max", "agent": "claude-code"}


@pytest.fixture
async def boss(tmp_path):
    """A supervisor that watches `~/.claude`."""
    (tmp_path / ".claude/projects/-srv-project").mkdir(parents=True)
    async with watching(tmp_path, service(MAX)) as boss:
        yield boss


def trouble(boss) -> str:
    """What is told of the only home."""
    return boss.sources.watched[0].trouble


@pytest.mark.parametrize("name", ["record", "begin", "save"])
async def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, name):
    """What the ledger cannot take is read again when it can, from where it was, and counts once."""
    monkeypatch.setattr(sources, "DISK_PAUSE", 0.02)
    async with watching(tmp_path, service(MAX)) as boss:
        good, failed = getattr(boss.ledger.transcripts, name), []

        async def flaky(*args):
            if len(failed) < 3:
                failed.append(args)
                raise StateError("the disk is full")
            return await good(*args)

        monkeypatch.setattr(boss.ledger.transcripts, name, flaky)
        session = Unheard(boss, tmp_path)
        session.write(row("s-1", "m1", 1) + b'{"type":"user"}\n' + row("s-1", "m2", 2) + b'{"type":"user"}\n')
        boss.sources.refresh()
        await counted(boss, 3)
        session.spend("m3", 4)
        await counted(boss, 7)


async def test_an_event_that_never_came_is_made_good(boss, tmp_path, monkeypatch):
    """Every file is looked at now and then."""
    Session.write(session := Unheard(boss, tmp_path), row("s-1", "m1", 1))
    monkeypatch.setattr(sources, "LOOK_EVERY", 0.05)
    boss.sources.refresh()
    await counted(boss, 1)
    Session.write(session, row("s-1", "m2", 2))
    await counted(boss, 3)


async def test_a_host_without_watches_is_looked_at_again_and_again(tmp_path, monkeypatch):
    """It is said why, everything counts all the same, and events are asked for again after a while."""
    monkeypatch.setattr(sources, "LOOK_WITHOUT_EVENTS", 0.02)
    told = Told()
    told.refuses = OSError(errno.ENOSPC, "OS file watch limit reached")
    async with watching(tmp_path, service(MAX), told) as boss:
        session = Unheard(boss, tmp_path)
        for number in range(3):
            Session.write(session, row("s-1", f"m{number}", 1))
            await counted(boss, number + 1)
        assert boss.sources.without_events == "os file watch limit reached"
        monkeypatch.setattr(sources, "TRY_AGAIN", 0.0)
        told.refuses = None
        boss.sources.refresh()

        async def again() -> bool:
            return told.rounds > 0 and not boss.sources.without_events

        await until(again)


async def test_nothing_is_read_outside_the_home(boss, tmp_path):
    """A link to a file or a folder elsewhere, also one that takes a file's place; a pipe in a file's place waits not."""
    elsewhere = tmp_path / "elsewhere" / "s-2.jsonl"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(row("s-2", "m9", 100))
    session = Unheard(boss, tmp_path)
    session.transcript.with_name("s-2.jsonl").symlink_to(elsewhere)
    (session.transcript.parent.parent / "linked").symlink_to(elsewhere.parent)
    os.mkfifo(session.transcript.with_name("s-3.jsonl"))
    session.spend("m1", 1)
    await counted(boss, 1)
    session.transcript.unlink()
    session.transcript.symlink_to(elsewhere)
    boss.sources.events.tell(session.transcript)
    folder = session.transcript.parent
    folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere.parent)
    await boss.sources._look()
    Unheard(boss, tmp_path, "s-4").transcript.unlink(missing_ok=True)
    assert await used(boss) == 1


async def test_a_folder_swapped_for_a_link_after_the_look_is_not_followed(boss, tmp_path, monkeypatch):
    """Where an open file really lies is asked of the file itself: it is refused, and that is said."""
    session = Unheard(boss, tmp_path)
    session.spend("m1", 1)
    await counted(boss, 1)
    folder = session.transcript.parent
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "s-1.jsonl").write_bytes(row("s-2", "m9", 100))
    folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere)
    boss.sources.watched[0].pending[str(session.transcript)] = (0, 0, 0)
    await boss.sources._read_all()
    assert "outside its agent's home" in trouble(boss)
    assert await used(boss) == 1


async def test_files_of_other_users_are_not_read(boss, tmp_path, monkeypatch):
    """Whoever may write there could make others pay; what is refused is named."""
    monkeypatch.setattr(sources, "owners", lambda _: frozenset({os.geteuid() + 1}))
    session = Unheard(boss, tmp_path)
    session.spend("m1", 100)

    async def refused() -> bool:
        return "s-1.jsonl: it belongs to another user" in trouble(boss)

    await until(refused)
    assert await used(boss) == 0
    monkeypatch.undo()
    session.spend("m2", 1)
    await counted(boss, 101)
    assert not trouble(boss)


async def test_a_file_that_is_not_understood_costs_itself_only(boss, tmp_path, monkeypatch):
    """A bug of ours in one file: the others count, and the next daemon tries again."""
    agent = boss.sources.watched[0].home.agent
    read = agent.read

    def broken(line):
        if b"poison" in line.data:
            raise RuntimeError("no")
        return read(line)

    monkeypatch.setattr(agent, "read", broken)
    Unheard(boss, tmp_path).write(row("poison", "m1", 1))
    Unheard(boss, tmp_path, "s-2").write(row("s-2", "m2", 2))
    await counted(boss, 2)
    assert "locum itself failed" in trouble(boss)


async def test_a_home_that_goes_and_comes_back(boss, tmp_path):
    """Moved away and back, or made anew: what is new in it counts, and nothing twice."""
    session = Unheard(boss, tmp_path)
    session.spend("m1", 1)
    await counted(boss, 1)
    (tmp_path / ".claude").rename(tmp_path / "away")
    await boss.sources._look()
    assert boss.sources.watched[0].tree.files == 0
    (tmp_path / "away").rename(tmp_path / ".claude")
    Unheard(boss, tmp_path, "s-2").spend("m2", 2)
    await counted(boss, 3)


async def test_a_folder_that_cannot_be_read_is_said(boss, tmp_path, monkeypatch):
    """Its files are not taken for gone or empty: it is named."""
    scandir = os.scandir

    def refuse(where):
        if isinstance(where, int) and Path(f"/proc/self/fd/{where}").readlink().name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(where)

    monkeypatch.setattr("locum.engine.tree.os.scandir", refuse)
    (tmp_path / ".claude/projects/secret").mkdir()
    await boss.sources._look()
    assert trouble(boss).endswith("secret: permission denied")


async def test_it_ends_at_once(tmp_path):
    """Told to stop while it has much to read: it does, and the next daemon counts the rest."""
    with anyio.fail_after(20):
        async with watching(tmp_path, service(MAX)) as boss:
            Unheard(boss, tmp_path).write(b"".join(row("s-1", f"m{number}", 1) for number in range(2000)))
        async with watching(tmp_path, service(MAX)) as boss:
            await counted(boss, 2000)


async def test_a_daemon_that_ends_in_the_midst_of_a_file_loses_nothing(tmp_path, monkeypatch):
    """Nothing is added to the file any more: the next daemon reads on where the last commit was."""
    monkeypatch.setattr("locum.engine.stretch.CHUNK", 512)
    monkeypatch.setattr(sources, "ROWS_A_COMMIT", 2)
    async with watching(tmp_path, service(MAX)) as boss:
        good = boss.ledger.transcripts.record

        async def last(*args):
            boss.stop()
            return await good(*args)

        monkeypatch.setattr(boss.ledger.transcripts, "record", last)
        Unheard(boss, tmp_path).write(b"".join(row("s-1", f"m{number}", 1) for number in range(20)))
        with anyio.fail_after(10):
            await boss.stopping.wait()
            while not (first := await used(boss)):  # noqa: ASYNC110 - nothing tells a test what is committed
                await anyio.sleep(0.01)
        assert first < 20
    async with watching(tmp_path, service(MAX)) as boss:
        await counted(boss, 20)
