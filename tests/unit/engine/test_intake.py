"""Sessions of others: counted once however often they are told of, in whatever order."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.engine import intake
from locum.policy.usage import Tokens
from tests.unit.web.sessions import (
    BUDGET,
    Session,
    counted,
    holds,
    listening,
    response,
    row,
    turn_ended,
    used,
)

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


# ── counted once ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_session_is_counted_at_its_stop(boss, tmp_path):
    """When the Stop is answered, what stands in the transcript is in the ledger, by type and by time."""
    await Session(boss, tmp_path).stop("m1", 7)
    assert await used(boss) == 7
    assert await used(boss, "tier:max") == await used(boss, "chain:default") == 7


async def test_hooks_that_are_told_many_times_count_once(boss, tmp_path):
    """Told again, in another order, at the same time, after new rows: every row counts once."""
    one = Session(boss, tmp_path)
    one.spend("m1", 7)
    async with anyio.create_task_group() as group:
        for event in ("Stop", "Stop", "SubagentStop", "SessionEnd", "Stop", "UserPromptSubmit", "PostToolUse"):
            group.start_soon(one.tell, event)
    assert await used(boss) == 7
    one.spend("m1", 7)  # each block of an answer repeats its usage
    one.spend("m2", 5)
    for event in ("SessionEnd", "Stop", "SessionStart", "Stop"):
        await one.tell(event)
    assert await used(boss) == 12
    ((_, report),) = await boss.ledger.reports()
    assert report.tokens == Tokens(7)


async def test_the_reports_of_a_session_add_up_to_what_it_spent(boss, tmp_path):
    """Each turn is on record with what was new since the last; one told twice takes nothing away from the next."""
    one = Session(boss, tmp_path)
    for turn in range(3):
        one.turn += 1
        one.spend(f"m{turn}", 10 + turn)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one.tell, "Stop")
    reports = await boss.ledger.reports()
    assert [report.tokens for _, report in reports] == [Tokens(10), Tokens(11), Tokens(12)]
    await one.stop("late", 5)  # the last turn is told again, with a row that it did not have then
    one.turn += 1
    await one.stop("m3", 2)
    assert (await boss.ledger.reports())[-1][1].tokens == Tokens(7)


async def test_rows_that_come_after_the_hook_are_found(boss, tmp_path):
    """The last answer is written 60 ms after the Stop was called and answered; in each of many quick turns."""
    one = Session(boss, tmp_path)
    for turn in range(1, 6):
        one.turn = turn
        await one.stop(f"first-{turn}", 7)
        await anyio.sleep(0.06)
        one.spend(f"last-{turn}", 5)
        await counted(boss, 12 * turn, seconds=1.5)


async def test_a_transcript_that_comes_after_the_hook_is_found(boss, tmp_path, soon):
    """In a first turn there is no file yet at Stop: it is waited for, and not by the agent."""
    one = Session(boss, tmp_path)
    with anyio.fail_after(1):
        await one.tell("Stop")
    await anyio.sleep(0.03)
    one.spend("m1", 7)
    await counted(boss, 7, "tier:max", seconds=2)


async def test_a_row_that_is_half_written_counts_when_it_is_whole(boss, tmp_path):
    """Cut anywhere, also within a number: nothing is counted before the end of the line is there."""
    one = Session(boss, tmp_path)
    data = row(one.id, "m1", 1234567)
    for cut in (10, data.index(b"34567"), len(data) - 1):
        one.write(data[one.transcript.stat().st_size if one.transcript.exists() else 0 : cut])
        await one.tell("Stop")
        assert await used(boss) == 0
    one.write(data[-1:])
    await one.tell("Stop")
    assert await used(boss) == 1234567


async def test_the_rows_of_subagents_are_counted(boss, tmp_path):
    """They lie in files of their own beside the session's, and appear one by one."""
    one = Session(boss, tmp_path)
    one.spend("m1", 1)
    folder = one.transcript.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"agent-{number}.jsonl").write_bytes(row(one.id, f"sub{number}", 10))
        await one.tell("SubagentStop", agent_id=str(number))
    await one.tell("Stop")
    assert await used(boss, "tier:max") == 31


async def test_a_resumed_session_counts_only_what_is_new(tmp_path):
    """The same file, longer; also when a new daemon reads it from its first byte."""
    for turn in range(3):
        async with listening(tmp_path) as boss:
            await Session(boss, tmp_path, turn=turn).stop(f"m{turn}", 10)
            assert await used(boss) == 10 * (turn + 1)
            assert (await boss.ledger.audit()).problems == ()


async def test_a_forked_session_counts_only_what_is_new(boss, tmp_path):
    """A copy under another session with the same ids, told first by the old name, as Claude Code does."""
    one, fork = (Session(boss, tmp_path, name) for name in ("s-1", "s-2"))
    await one.stop("m1", 7)
    await replace(one).tell("SessionStart", source="resume")
    fork.spend("m1", 7)
    await fork.stop("m2", 5)
    await one.stop("m3", 2)
    await counted(boss, 14, "tier:max")


async def test_a_daemon_that_was_away_counts_what_it_missed(tmp_path):
    """What was spent while nobody listened is found at the next hook of the session."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        await one.stop("m1", 7)
    one.spend("m2", 5)
    async with listening(tmp_path) as boss:
        assert await replace(one, boss=boss).prompt() == {}
        await counted(boss, 12)


async def test_codex_is_counted_by_its_responses(boss, tmp_path):
    """Each response once, whatever sums the rollout tells beside them."""
    one = Session(boss, tmp_path, agent="codex")
    for _ in range(2):
        one.write(response(one.id, "r1", 7) + response(one.id, "r2", 5) + turn_ended())
        await one.tell("Stop")
    await counted(boss, 12, "tier:codex")


async def test_rows_count_when_they_were_spent(tmp_path):
    """An old session that is opened again does not spend today's budget once more."""
    async with listening(tmp_path, BUDGET) as boss:
        one = Session(boss, tmp_path)
        one.write(row(one.id, "old", 5000, ago_s=40 * 86_400))
        await one.stop("new", 7)
        assert (await used(boss, "chain:default"), await used(boss)) == (7, 5007)
        assert holds(boss) == []


OPS = st.lists(
    st.tuples(
        st.sampled_from(["s-1", "s-2"]),
        st.sampled_from(
            ["row", "again", "half", "Stop", "UserPromptSubmit", "SubagentStop", "SessionEnd", "StopFailure"]
        ),
        st.integers(1, 3),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(OPS, st.booleans())
async def test_any_order_and_repetition_gives_the_same_sums(ops, restarted):
    """Two sessions at once, rows and hooks in any order, hooks any number of times and at once: the sums are the truth."""
    with tempfile.TemporaryDirectory() as name:
        folder, truth = Path(name), 0
        for part in (ops, []) if not restarted else (ops[::2], ops[1::2]):
            async with listening(folder) as boss:
                sessions = {name: Session(boss, folder, name) for name in ("s-1", "s-2")}
                truth += await _play(boss, sessions, part, truth)
                await counted(boss, truth, "tier:max")
        assert truth == await _sum(folder)


async def _play(boss, sessions: dict[str, Session], ops, before: int) -> int:
    """Write and tell what `ops` say; how much was spent."""
    spent, halves = 0, defaultdict(bytes)
    async with anyio.create_task_group() as group:
        for number, (name, what, times) in enumerate(ops):
            one = sessions[name]
            key = f"{name}-{before}-{number}"
            if what in ("row", "again", "half"):
                data = halves.pop(name, b"") + row(name, key, times) * (2 if what == "again" else 1)
                spent += times
                cut = len(data) - 20 if what == "half" else len(data)
                one.write(data[:cut])
                if what == "half":
                    halves[name] = data[cut:]
                continue
            for _ in range(times):
                more = {"error": "unknown"} if what == "StopFailure" else {}
                group.start_soon(lambda one=one, what=what, more=more: one.tell(what, **more))
            await anyio.lowlevel.checkpoint()
    for name, rest in halves.items():
        sessions[name].write(rest)
    for one in sessions.values():
        if one.transcript.exists():
            await one.tell("SessionEnd")
    return spent


async def _sum(folder: Path) -> int:
    async with listening(folder, ready=False) as boss:
        return await used(boss)
