"""Importing history: everything once, whatever interrupts it, beside whom else it is counted."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from bench.transcripts import Tree, Truth, build
from locum.engine import history as module
from locum.engine.history import Import
from locum.engine.homes import Home, histories
from locum.errors import ConflictError, NotFoundError, StateError, UsageError
from locum.policy.usage import NO_TOKENS, Tokens
from tests.ledgers import DAY, START
from tests.unit.engine.rig import Flaky, Rig, make, running

pytestmark = pytest.mark.anyio
TREE = Tree(120_000, files=6, days=3, end_ms=START)


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, Truth]:
    """A home with a few sessions of three days, and what is true of them."""
    return tmp_path / "claude", build(tmp_path / "claude", TREE)


def service(*homes: Path, **more: Any) -> dict[str, Any]:
    """A service.json with a tier of Claude Code for each home, none of which is watched."""
    tiers = [{"name": f"t{number}", "agent": "claude-code", "home": str(each)} for number, each in enumerate(homes)]
    return {"failover": {"tiers": tiers}, "usage_sources": False, "limits": {"min_free": "1K"}, **more}


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit after every file."""
    monkeypatch.setattr(module, "ROWS_A_COMMIT", 1)


async def imported(rig: Rig, homes: list[Home] | None = None, since_ms: int = 0, stop_at: int | None = None) -> Import:
    """An import that has ended; stopped once so many files are counted."""
    await rig.until(lambda: rig.boss.history._group is not None)
    job = rig.boss.history.start(homes or histories(rig.boss.attempts.seats, None, None), since_ms)
    with anyio.fail_after(60):
        async for each in rig.boss.history.follow(job):
            if stop_at is not None and each.done >= stop_at:
                each.stop.set()
    return job


async def counted(rig: Rig, scope: str = "total") -> Tokens:
    """What a scope has used, ever."""
    return (await rig.ledger.usage(scope, START)).totals


async def test_everything_is_counted_once_for_the_only_tier(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """The tier's tokens are those of all messages, each once; a second import finds nothing new, nor to read."""
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        job = await imported(rig)
        assert (job.ended, job.error, job.troubles) == ("done", None, [])
        assert (job.files, job.done, job.size, job.read) == (home[1].files, home[1].files, home[1].size, home[1].size)
        assert job.counted == home[1].total == await counted(rig) == await counted(rig, "tier:t0")
        again = await imported(rig)
        assert (again.ended, again.files, again.known, again.counted) == ("done", 0, home[1].files, NO_TOKENS)
        assert (await rig.ledger.audit()).problems == ()
        folders = {each.path: each.since_ms for each in await rig.ledger.transcripts.folders()}
        assert folders == {str(home[0] / "projects"): 0}


async def test_a_home_of_two_tiers_counts_for_their_account_or_nobody(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """Which of two tiers has spent it is not guessed: their account is known, and a stranger's home is nobody's."""
    rig = await make(tmp_path, service(home[0], home[0]))
    other = tmp_path / "other"
    truth = build(other, Tree(40_000, files=2, seed=2, end_ms=START))
    async with running(rig):
        await imported(rig)
        account = rig.ledger.plan.tiers["t0"].account
        assert await counted(rig, f"account:{account}") == home[1].total
        assert await counted(rig, "tier:t0") == NO_TOKENS
        await imported(rig, histories(rig.boss.attempts.seats, "claude-code", other))
        assert await counted(rig, "unattributed") == home[1].total + truth.total
        assert await counted(rig, f"account:{account}") == home[1].total


@pytest.mark.parametrize("stop_at", [0, 1, 3])
async def test_an_interrupted_import_goes_on(
    tmp_path: Path, home: tuple[Path, Truth], monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stopped anywhere: what is counted is whole, reads no file twice that was read, and the rest follows once."""
    small_pieces(monkeypatch)
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        first = await imported(rig, stop_at=stop_at)
        assert first.ended in ("stopped", "done")
        assert (await rig.ledger.audit()).problems == ()
        assert await counted(rig) == first.counted
        second = await imported(rig)
        assert second.ended == "done"
        assert second.known + second.files == home[1].files
        assert first.counted + second.counted == home[1].total == await counted(rig)
        assert first.read + second.size == home[1].size


async def test_readers_that_die_cost_nothing(
    tmp_path: Path, home: tuple[Path, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading processes that end at once fail the import with a sentence; the next one counts everything."""
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/bin/false")
            job = await imported(rig)
        assert job.ended == "failed"
        assert isinstance(job.error, StateError)
        assert "import again" in job.error.sentence()
        assert rig.boss.history.going_on is None
        await imported(rig)
        assert await counted(rig) == home[1].total


async def test_a_full_disk_fails_the_import_and_nothing_else(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """What the ledger cannot take is told; once it can again, the import goes on."""
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        disk = Flaky(rig.ledger, "record_history")
        job = await imported(rig)
        assert (job.ended, str(job.error)) == ("failed", "the disk is full.")
        disk.broken = False
        assert (await imported(rig)).ended == "done"
        assert await counted(rig) == home[1].total


async def test_one_import_at_a_time(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """A second import is refused while one goes on, and the first does not notice."""
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        await rig.until(lambda: rig.boss.history._group is not None)
        homes = histories(rig.boss.attempts.seats, None, None)
        job = rig.boss.history.start(homes, 0)
        with pytest.raises(ConflictError, match="goes on already"):
            rig.boss.history.start(homes, 0)
        async for _ in rig.boss.history.follow(job):
            pass
        assert job.counted == home[1].total


async def test_what_is_dated_before_since_is_left(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """An import of the last day counts less than everything; one further back adds the rest, once."""
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        part = await imported(rig, since_ms=START - DAY)
        assert 0 < part.counted.total < home[1].total.total
        rest = await imported(rig)
        assert part.counted + rest.counted == home[1].total
        assert (await imported(rig, since_ms=START - DAY)).files == 0


async def test_history_in_the_current_window_uses_budgets_up(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """A budget that today's history has used up holds the chain when the import ends, and the import says so."""
    more = {"usage_threshold_tokens": 1000, "usage_reset": "week"}
    rig = await make(tmp_path, service(home[0], tmp_path / "second", **more))
    async with running(rig):
        job = await imported(rig)
        held = [event.hold for event in job.events if event.hold]
        assert [hold.tier for hold in held] == ["t0"]
        assert rig.ledger.board.holds
        again = await imported(rig)
        assert again.events == ()


async def test_what_cannot_be_read_is_said(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """Another user's file and a link are left out, the first with a sentence; everything else is counted."""
    folder = home[0] / "projects" / "p"
    folder.mkdir()
    (tmp_path / "secret").write_text('{"type":"assistant"}\n')
    (folder / "link.jsonl").symlink_to(tmp_path / "secret")
    (folder / "noise.jsonl").write_bytes(os.urandom(100_000))
    (folder / "half.jsonl").write_text('{"type":"assistant","message":{"id":"half","usage":{"input_tokens":5')
    (folder / "theirs.jsonl").write_text('{"type":"assistant","message":{"id":"t","usage":{"input_tokens":5}}}\n')
    os.chown(folder / "theirs.jsonl", 12_345, -1)
    rig = await make(tmp_path, service(home[0]))
    async with running(rig):
        job = await imported(rig)
        assert (job.ended, job.counted, job.troubled) == ("done", home[1].total, 1)
        assert "theirs.jsonl: it belongs to another user" in job.troubles[0]
        with (folder / "half.jsonl").open("a") as file:
            file.write("}}}\n")
        assert (await imported(rig)).counted == Tokens(5)


async def test_where_no_history_is(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """A home that is not there, one without transcripts, an unknown agent, and no tier that keeps any: all refused."""
    rig = await make(tmp_path, service(home[0]))
    seats = rig.boss.attempts.seats
    (tmp_path / "empty").mkdir()
    for agent, folder in ((None, tmp_path / "gone"), (None, tmp_path / "empty"), ("codex", None)):
        with pytest.raises(NotFoundError):
            histories(seats, agent, folder)
    with pytest.raises(UsageError, match="there is no agent 'nobody'"):
        histories(seats, "nobody", None)
    assert [each.folder for each in histories(seats, "claude-code", home[0])] == [str(home[0] / "projects")]
    assert histories(seats, None, home[0])[0].tiers == ["t0"]
    await rig.ledger.close()


async def test_a_home_is_only_of_agents_that_have_something_there(tmp_path: Path, home: tuple[Path, Truth]) -> None:
    """A folder that another agent could use as well, or that the environment names elsewhere, is not told of."""
    chats = tmp_path / "runtime" / "projects" / "p" / "chats"
    chats.mkdir(parents=True)
    (chats / "s.jsonl").write_text("{}\n")
    rig = await make(tmp_path, service(tmp_path / "tiers"))
    plain = rig.boss.attempts.seats
    elsewhere = replace(plain, environ={**plain.environ, "QWEN_RUNTIME_DIR": str(tmp_path / "runtime")})
    ours = f"{home[0]}/projects"
    async with running(rig):
        for seats in (plain, elsewhere):
            job = await imported(rig, histories(seats, None, home[0]))
            assert [(each.agent.name, each.folder) for each in job.homes] == [("claude-code", ours)]
        assert await counted(rig) == home[1].total
        assert {each.path for each in await rig.ledger.transcripts.folders()} == {ours}
        named = await imported(rig, histories(plain, "qwen", home[0]))
        assert [(each.agent.name, each.folder) for each in named.homes] == [("qwen", ours)], "who is named is told"
