"""Sessions of others in trouble: transcripts that are none, a full disk, a daemon that comes or goes, bugs of ours."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from locum.agents.claude_hooks import ClaudeHooks
from locum.engine import intake
from tests.unit.engine.rig import Flaky
from tests.unit.web.sessions import AUTH, Session, counted, holds, listening, row, turn_ended, until, used

pytestmark = pytest.mark.anyio


@pytest.fixture
async def boss(tmp_path):
    """A supervisor that listens."""
    async with listening(tmp_path) as boss:
        yield boss


@pytest.fixture
def soon(monkeypatch):
    """What is looked for again, or tried again, is so without much waiting."""
    monkeypatch.setattr(intake, "LOOK_AGAIN", (0.02, 0.02, 0.02))
    monkeypatch.setattr(intake, "DISK_PAUSE", 0.05)


# ── transcripts in trouble ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "device", "outside", "relative"])
async def test_a_transcript_that_is_none_is_told_and_costs_nothing(boss, tmp_path, kind):
    """Answered at once, with a note to the user; nothing is counted, and the next session is."""
    one = Session(boss, tmp_path)
    (tmp_path / "secret.jsonl").write_bytes(row(one.id, "m1", 7))
    match kind:
        case "link":
            one.transcript.symlink_to(tmp_path / "secret.jsonl")
        case "fifo":
            os.mkfifo(one.transcript)
        case "directory":
            one.transcript.mkdir()
        case "device":
            one.named = Path("/dev/zero")
        case "outside":
            one.named = tmp_path / ".claude/projects/../../secret.jsonl"
        case "relative":
            one.named = Path("projects/s-1.jsonl")
    with anyio.fail_after(1):
        for event in ("UserPromptSubmit", "Stop", "SessionEnd"):
            answer = await one.tell(event)
            assert ("is not read" in answer.get("systemMessage", "")) is (event != "SessionEnd" and kind != "relative")
    await Session(boss, tmp_path, "s-2").stop("m2", 5)
    await counted(boss, 5)


async def test_a_transcript_that_vanishes_is_no_trouble(boss, tmp_path, soon):
    """Deleted between two hooks, with its folder: what was counted stays, and the next file is read."""
    one = Session(boss, tmp_path)
    await one.stop("m1", 7)
    shutil.rmtree(one.transcript.parent)
    assert await one.tell("Stop") == {}
    await anyio.sleep(0.1)
    one.transcript.parent.mkdir()
    await one.stop("m2", 5)
    await counted(boss, 12)


@pytest.mark.parametrize("way", ["truncate", "replace"])
async def test_a_transcript_that_is_written_anew_is_read_anew(boss, tmp_path, way):
    """Cut off and begun again, or another file under the same name: what is new counts, what is known does not."""
    one = Session(boss, tmp_path)
    one.spend("m1", 7)
    await one.stop("m2", 7)
    if way == "replace":
        one.transcript.unlink()
    else:
        os.truncate(one.transcript, 0)
    one.spend("m1", 7)
    await one.tell("Stop")
    await one.stop("m3", 5)
    await counted(boss, 19)


async def test_a_file_that_becomes_a_pipe_while_it_is_followed_holds_nobody_up(boss, tmp_path):
    """Checked when it was named, and swapped afterwards: it is read as nothing."""
    one = Session(boss, tmp_path)
    await one.stop("m1", 7)
    one.transcript.unlink()
    os.mkfifo(one.transcript)
    with anyio.fail_after(1):
        await one.tell("Stop")
        await Session(boss, tmp_path, "s-2").stop("m2", 5)
    await counted(boss, 12)


async def test_two_gigabytes_keep_nobody_waiting(boss, tmp_path):
    """A file of holes of 2 GB with rows at both ends: its agent is answered within patience, others at once."""
    one, two = (Session(boss, tmp_path, name) for name in ("s-1", "s-2"))
    one.write(row(one.id, "m1", 7))
    with one.transcript.open("r+b") as file:
        file.truncate(2 << 30)
    one.write(b"\n" + row(one.id, "m2", 5))
    two.spend("m3", 1)
    before = _memory()
    async with anyio.create_task_group() as group:
        began = anyio.current_time()
        group.start_soon(one.tell, "Stop")
        await anyio.sleep(0.01)
        await two.tell("Stop")
        assert anyio.current_time() - began < 1, "others are not kept waiting"
    assert anyio.current_time() - began < intake.PATIENCE * 2 + 1
    await counted(boss, 13, seconds=60)
    assert _memory() - before < 100 << 20


async def test_a_long_transcript_is_read_on_after_its_agent_was_answered(boss, tmp_path, monkeypatch):
    """Patience ends, the reading does not; and a daemon that stops does not wait for it."""
    monkeypatch.setattr(intake, "PATIENCE", 0.05)
    one = Session(boss, tmp_path)
    filler = row(one.id, "same", 1) * 2000
    with one.transcript.open("wb") as file:
        for _ in range(60):
            file.write(filler)
    one.spend("last", 5)
    with anyio.fail_after(2):
        await one.tell("Stop")
    assert await used(boss) < 6, "it was answered before all was read"
    await counted(boss, 6, seconds=30)


def _memory() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ── the daemon in trouble ────────────────────────────────────────────────────────────────────────────────


async def test_what_a_full_disk_refuses_is_counted_when_there_is_room(boss, tmp_path, soon):
    """However long that takes, without another hook: nobody may ever call again."""
    one = Session(boss, tmp_path)
    broken = Flaky(boss.ledger, "record_outside")
    answer = await one.stop("m1", 7)
    assert "could not count this session just now: the disk is full" in answer["systemMessage"]
    await until(lambda: _true(broken.failed > 6))
    broken.broken = False
    await counted(boss, 7)
    one.turn += 1
    assert await one.stop("m2", 5) == {}


async def test_the_end_of_a_turn_waits_for_a_full_disk(boss, tmp_path, soon, monkeypatch):
    """A failure that could not be written is held as soon as it can, once, though the agent has long been answered."""
    monkeypatch.setattr(intake, "PATIENCE", 0.05)
    one = Session(boss, tmp_path)
    one.spend("m1", 7)
    broken = Flaky(boss.ledger, "report")
    for _ in range(2):
        await one.tell("StopFailure", **AUTH)
    assert holds(boss) == []
    await until(lambda: _true(broken.failed > 2))
    broken.broken = False
    await until(lambda: _true(bool(holds(boss))))
    assert len(await boss.ledger.reports()) == 1


async def test_a_failure_in_a_rollout_waits_for_a_full_disk(boss, tmp_path, soon):
    """What only the transcript tells is judged when the ledger can take it, after whatever could not be counted."""
    for name in ("record_outside", "report"):
        broken = Flaky(boss.ledger, name)
        one = Session(boss, tmp_path, f"s-{name}".replace("_", "-"), agent="codex")
        one.spend(name, 7)
        one.write(turn_ended("unauthorized"))
        await one.tell("SessionEnd")
        assert holds(boss) == []
        broken.broken = False
        await until(lambda: _true(bool(holds(boss))))
        await boss.release("default", None, None)
    await counted(boss, 14)


async def test_a_hook_before_the_daemon_is_ready_is_not_lost(tmp_path, monkeypatch):
    """The socket answers before the runs are adopted: what is told then is counted and judged once they are."""
    monkeypatch.setattr(intake, "PATIENCE", 0.05)
    async with listening(tmp_path, ready=False) as boss, anyio.create_task_group() as group:
        one, late = Session(boss, tmp_path), Session(boss, tmp_path, "s-2")
        one.spend("m1", 7)
        await one.tell("StopFailure", **AUTH)
        await late.tell("Stop")
        late.spend("m2", 5)
        assert (await used(boss), holds(boss)) == (0, [])
        boss.intake.begin(group)
        await counted(boss, 12)
        await until(lambda: _true(bool(holds(boss))))
        boss.stop()
        boss.intake.end()


async def test_a_hook_while_the_daemon_stops_is_judged(tmp_path):
    """Nobody will read its transcript any more, but that its turn failed is on record."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 7)
        boss.stop()
        boss.intake.end()
        await one.tell("StopFailure", **AUTH)
        assert len(holds(boss)) == 1
    async with listening(tmp_path) as boss:
        await replace(one, boss=boss).tell("SessionEnd")
        await counted(boss, 7)


@pytest.mark.parametrize("method", ["read", "subagents", "verdict", "told", "answer"])
async def test_a_bug_in_an_adapter_costs_that_session_only(boss, tmp_path, monkeypatch, method):
    """An adapter that falls over one session's text: the daemon goes on, and everybody else is counted."""
    real = getattr(ClaudeHooks, method)

    def fails(self, *args, **more):
        if "s-bad" in repr(args):
            raise KeyError("a bug")
        return real(self, *args, **more)

    monkeypatch.setattr(ClaudeHooks, method, fails)
    bad, good = (Session(boss, tmp_path, name) for name in ("s-bad", "s-good"))
    bad.spend("s-bad-1", 7)
    for event, more in (("Stop", {}), ("StopFailure", {"error": "s-bad", "last_assistant_message": "s-bad"})):
        with suppress(KeyError):  # the server answers 500, and passes it on to its log
            await bad.post(event, **more)
    await good.stop("m1", 5)
    assert await used(boss, "tier:max") >= 5
    monkeypatch.setattr(ClaudeHooks, method, real)
    await bad.tell("SessionEnd")
    await counted(boss, 12)


async def test_no_row_is_lost_beside_one_that_nobody_understands(boss, tmp_path, monkeypatch):
    """A row whose first half was read before the adapter fell over its neighbour is whole when it is read again."""
    one = Session(boss, tmp_path)
    data = row(one.id, "m1", 7)
    one.write(data[:50])
    await one.tell("Stop")
    real = ClaudeHooks.read

    def fails(self, line):
        if b"bad" in line.data:
            raise KeyError("a bug")
        return real(self, line)

    monkeypatch.setattr(ClaudeHooks, "read", fails)
    one.write(data[50:] + row(one.id, "bad", 5))
    assert "locum itself failed to count this session" in (await one.tell("Stop"))["systemMessage"]
    monkeypatch.setattr(ClaudeHooks, "read", real)
    await one.tell("SessionEnd")
    await counted(boss, 12)


async def test_a_bug_in_the_ledger_costs_that_report_only(boss, tmp_path):
    """A mistake of ours in the end of one turn is logged, and the daemon goes on."""
    real = boss.ledger.report

    async def fails(report, *args):
        if report.session == "s-bad":
            raise AssertionError("a bug")
        return await real(report, *args)

    boss.ledger.report = fails
    await Session(boss, tmp_path, "s-bad").stop("m1", 7)
    await Session(boss, tmp_path, "s-good").stop("m2", 5)
    await counted(boss, 12)
    assert [report.session for _, report in await boss.ledger.reports()] == ["s-good"]


async def test_a_thousand_sessions_are_followed_without_remembering_all(boss, tmp_path, soon, monkeypatch):
    """Sessions long quiet are forgotten, and found again by reading: no row counts twice."""
    monkeypatch.setattr(intake, "READINGS_KEPT", 5)
    sessions = [Session(boss, tmp_path, f"s-{number}") for number in range(30)]
    for number, one in enumerate(sessions):
        await one.stop(f"m{number}", 1)
    await until(lambda: _true(not any(each.followed for each in boss.intake._readings.values())))
    await sessions[0].stop("m-last", 1)
    assert len(boss.intake._readings) <= 7
    for one in sessions:
        await one.tell("SessionEnd")
    await counted(boss, 31)


async def _true(value: bool) -> bool:
    return value
