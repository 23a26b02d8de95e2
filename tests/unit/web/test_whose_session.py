"""Whom the usage of a session counts for: a tier that is named, the only one, nobody's, or a run of ours."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest

from locum.policy.task import Run, RunState
from tests.ledgers import task_of
from tests.unit.web.sessions import AUTH, Session, counted, holds, listening, process, turn_ended, used

pytestmark = pytest.mark.anyio

# ── whose tier it is ─────────────────────────────────────────────────────────────────────────────────────

TWINS = {
    "failover": {
        "tiers": [
            {"name": "opus", "agent": "claude-code", "model": "opus"},
            {"name": "sonnet", "agent": "claude-code", "model": "sonnet"},
            {"name": "own", "agent": "claude-code", "home": "homes/own"},
        ]
    },
    "chains": {"side": {"tiers": ["sonnet"]}},
}


@pytest.mark.parametrize(
    ("query", "scope"),
    [
        ("", "unattributed"),
        ("tier=opus", "tier:opus"),
        ("tier=sonnet", "chain:default"),
        ("chain=side", "chain:side"),
        ("chain=side&tier=sonnet", "chain:side"),
        ("tier=own", "tier:own"),
        ("tier=gone", "unattributed"),
        ("chain=side&tier=opus", "unattributed"),
        ("chain=gone", "unattributed"),
        ("chain=&tier=", "unattributed"),
    ],
)
async def test_whose_tier_is_named_or_the_only_one_or_nobodys(tmp_path, query, scope):
    """Two tiers share a home: a name decides between them, a wrong name is nobody's; nothing is ever guessed."""
    async with listening(tmp_path, TWINS) as boss:
        one = Session(boss, tmp_path, query=query)
        answer = await one.stop("m1", 7)
        await counted(boss, 7, scope)
        assert await used(boss) == 7
        wrong = scope == "unattributed" and query not in ("", "chain=&tier=")
        assert ("Install its hooks anew" in answer.get("systemMessage", "")) is wrong
        await one.tell("StopFailure", **AUTH)
        assert bool(holds(boss)) is (scope != "unattributed")


async def test_a_home_of_its_own_is_its_tier(tmp_path):
    """The only tier with that agent and home, also when the home that service.json names is a link to it."""
    async with listening(tmp_path, TWINS) as boss:
        (tmp_path / "homes").mkdir()
        (tmp_path / "real/projects/p").mkdir(parents=True)
        (tmp_path / "homes/own").symlink_to(tmp_path / "real")
        named = tmp_path / "homes/own/projects/p/s-1.jsonl"
        one = Session(boss, tmp_path)
        one.spend("m1", 7)
        one.transcript.rename(named)
        await replace(one, named=named).tell("Stop")
        await counted(boss, 7, "tier:own")


async def test_the_user_of_another_home_is_nobodys(tmp_path):
    """A session whose home no tier has is read where its own process says that it lies, and counts for no tier."""
    async with listening(tmp_path, TWINS) as boss:
        for number, variable in enumerate(("HOME", "CLAUDE_CONFIG_DIR")):
            home = tmp_path / f"user{number}"
            with process(**{variable: str(home if variable == "HOME" else home / ".claude")}) as peer:
                answer = await Session(boss, home, f"s-{number}", peer=peer).stop(f"m{number}", 7)
                assert answer == {}
            await counted(boss, 7 * (number + 1), "unattributed")


async def test_a_tier_that_leaves_the_file_leaves_its_sessions_to_nobody(tmp_path):
    """Hooks that name a tier which has been removed are told so; what they spend from then on is nobody's."""
    async with listening(tmp_path, TWINS) as boss:
        one = Session(boss, tmp_path, query="tier=opus")
        await one.stop("m1", 7)
        tiers = [tier for tier in TWINS["failover"]["tiers"] if tier["name"] != "opus"]
        (tmp_path / "service.json").write_text(json.dumps({**TWINS, "failover": {"tiers": tiers}}))
        await boss.reload()
        one.turn += 1
        answer = await one.stop("m2", 5)
        assert "has no tier opus" in answer["systemMessage"]
        assert await one.prompt() == answer
        assert (await used(boss, "tier:opus"), await used(boss, "unattributed")) == (7, 5)


# ── sessions that are ours ───────────────────────────────────────────────────────────────────────────────


async def test_an_agent_of_ours_is_not_counted_twice(tmp_path, monkeypatch):
    """A hook that comes from a run of ours counts nothing, moves nothing and stops nothing: the run is watched."""
    async with listening(tmp_path) as boss:
        with process() as peer:
            monkeypatch.setattr(boss, "running", lambda: {"r-1": peer.pid})
            one = Session(boss, tmp_path, peer=peer)
            await boss.bump("default", "max", None, "no")
            assert await one.prompt() == {}
            assert await one.stop("m1", 7) == {}
            assert await one.tell("StopFailure", **AUTH) == {}
            await anyio.sleep(0.3)
        assert await used(boss) == 0
        assert await boss.ledger.reports() == []


async def test_a_session_that_a_run_is_in_is_the_runs(tmp_path):
    """Its hooks may come from a process that has left the run: by the session alone it is known whose it is."""
    async with listening(tmp_path) as boss:
        run = await running(boss, "s-1")
        one = Session(boss, tmp_path)
        await one.stop("m1", 7)
        await one.tell("StopFailure", **AUTH)
        assert (await used(boss), holds(boss), await boss.ledger.reports()) == (0, [], [])
        await boss.ledger.forget_run(run, boss.clock.now_ms())
        one.turn += 1
        await one.tell("StopFailure", **AUTH)
        assert holds(boss) == [], "the run has just ended and was judged; its agent's last hook may come late"
        await one.stop("m2", 5)
        assert await used(boss) == 5, "while the run was there, what it read was the run's to count"


async def test_a_failed_turn_of_a_run_is_judged_where_the_run_is_watched(tmp_path):
    """What only the rollout tells of a failure is the run's as well: its hooks hold nothing."""
    async with listening(tmp_path) as boss:
        await running(boss, "s-1")
        one = Session(boss, tmp_path, agent="codex")
        one.write(turn_ended("unauthorized"))
        await one.tell("SessionEnd")
        assert (holds(boss), await boss.ledger.reports()) == ([], [])


async def test_a_session_that_a_person_goes_on_with_is_theirs_at_once(tmp_path):
    """A run has just ended, and its session is resumed by hand: from the first prompt on its turns are judged."""
    async with listening(tmp_path) as boss:
        run = await running(boss, "s-1")
        await boss.ledger.forget_run(run, boss.clock.now_ms())
        one = Session(boss, tmp_path)
        assert await one.prompt() == {}
        one.spend("m1", 7)
        await one.tell("StopFailure", **AUTH)
        assert holds(boss) == ["account:claude-code"]


async def running(boss, session: str) -> str:
    """A run of ours in that session."""
    now_ms, tier = boss.clock.now_ms(), boss.ledger.plan.tiers["max"]
    await boss.ledger.submit(task_of(1), b"")
    run = Run("r-1", task_of(1).id, 1, "default", tier, "/", RunState.RUNNING, now_ms)
    await boss.ledger.start_run(run, now_ms)
    await boss.ledger.saw_session(run.id, session, now_ms)
    return run.id


async def test_a_forged_mark_of_a_run_hides_nothing(tmp_path):
    """LOCUM_RUN in an environment is anybody's word: only the kernel says who descends from a run."""
    async with listening(tmp_path) as boss:
        with process(LOCUM_RUN="r-forged", HOME=str(tmp_path)) as peer:
            await Session(boss, tmp_path, peer=peer).stop("m1", 7)
        await counted(boss, 7, "tier:max")
