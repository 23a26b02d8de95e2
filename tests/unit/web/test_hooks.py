"""What the agents of other people's sessions are answered, and whom their usage counts for."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import anyio
import pytest

from locum.policy.failure import FailureKind
from locum.web.bodies import LARGEST_HOOK
from locum.web.peer import Peer
from tests.unit.web.sessions import (
    AUTH,
    BUDGET,
    HALT,
    Session,
    counted,
    holds,
    listening,
    turn_ended,
    used,
)

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


def stops_prompt(answer) -> str:
    """The reason with which a prompt is blocked; "" when it is not."""
    return answer.get("reason", "") if answer.get("decision") == "block" else ""


def stops_tool(answer) -> bool:
    """Whether a tool is denied."""
    return answer.get("hookSpecificOutput", {}).get("permissionDecision") == "deny"


# ── go on, or stop ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_not_held_is_not_stopped(tmp_path):
    """In a world without trouble every hook is answered with an empty object: the agent notices nothing."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        events = ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SubagentStop", "SessionEnd")
        for event in (*events, "SomethingNew"):
            assert await one.tell(event) == {}, event


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
async def test_a_held_tier_stops_the_next_prompt_and_no_tool(tmp_path, agent):
    """The user is told which tier, why, until when, what to do and what runs meanwhile; the turn in progress ends."""
    tier, other = ("max", "codex") if agent == "claude-code" else ("codex", "max")
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path, agent=agent)
        one.spend("m1", 5)
        await boss.bump("default", tier, boss.clock.now_ms() + 2 * HOUR_MS, "upkeep")
        reason = stops_prompt(await one.prompt())
        for words in (f"tier {tier} is held until", "(in 2 h)", "by the operator: upkeep", f"--tier {tier}`"):
            assert words in reason, reason
        assert ("runs on max meanwhile" in reason) == (other == "max")
        assert not stops_tool(await one.tell("PreToolUse", tool_name="Bash"))
        await boss.release("default", tier, None)
        assert await one.prompt() == {}


async def test_a_halt_stops_the_next_tool_too(tmp_path):
    """Every tier is held: nothing more is spent, not even by a turn in progress."""
    async with listening(tmp_path, HALT) as boss:
        one = Session(boss, tmp_path)
        await one.stop("m1", 999)
        assert not stops_tool(await one.tell("PreToolUse"))
        await one.stop("m2", 1)
        reason = stops_prompt(await one.prompt())
        for words in ("every tier of chain default is held until", "token_budget", "`locum release`"):
            assert words in reason, reason
        assert stops_tool(await one.tell("PreToolUse"))
        assert not stops_tool(await one.tell("PostToolUse")), "what has run already is not undone"
        await boss.release("default", None, None)
        assert not stops_tool(await one.tell("PreToolUse"))


async def test_a_paused_chain_stops_prompts_until_it_is_resumed(tmp_path):
    """Paused by the operator: no prompt, but the turn in progress ends."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 1)
        await boss.pause("default")
        assert "`locum resume`" in stops_prompt(await one.prompt())
        assert not stops_tool(await one.tell("PreToolUse"))
        await boss.resume("default")
        assert await one.prompt() == {}


async def test_a_budget_that_the_session_itself_uses_up_stops_it(tmp_path):
    """Spent by its own turns: the Stop that crosses holds the tier in its own commit, and the next prompt is told."""
    async with listening(tmp_path, BUDGET) as boss:
        one = Session(boss, tmp_path)
        assert await one.prompt() == {}
        await one.stop("m1", 600)
        assert await one.prompt() == {}
        await one.stop("m2", 400)
        reason = stops_prompt(await one.prompt())
        assert "1,000 of 1,000 tokens" in reason
        assert holds(boss) == ["rung:default/max"]
        assert "runs on codex meanwhile" in reason


async def test_a_session_is_stopped_before_its_transcript_is_there(tmp_path):
    """The first prompt of a session, whose file does not exist yet, counts for the same tier and is stopped too."""
    async with listening(tmp_path) as boss:
        await boss.bump("default", "max", None, "no")
        assert stops_prompt(await Session(boss, tmp_path).prompt())
        assert stops_prompt(await Session(boss, tmp_path, query="tier=max", named=tmp_path / "elsewhere").prompt())


# ── how a turn ended ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_typed_error_becomes_the_failure_kind(tmp_path):
    """StopFailure places the hold that such an end of a task would place, and says so in the chain's state."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        await one.tell("StopFailure", **AUTH)
        state = boss.ledger.board.chain("default")
        assert (state.last_failure_kind, state.last_failure_tier) == (FailureKind.AUTH_ERROR, "max")
        assert "Invalid API key" in state.last_failure_reason
        (hold,) = boss.ledger.board.holds.values()
        assert (hold.kind, hold.target.partition(":")[0]) == (FailureKind.AUTH_ERROR, "account")
        assert "auth_error" in stops_prompt(await one.prompt())
        await counted(boss, 5)


async def test_a_vendors_reset_is_when_the_hold_ends(tmp_path):
    """The sentence beside a rate limit says that it is a usage limit, and when it is over."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        await one.tell("StopFailure", error="rate_limit", last_assistant_message="You've hit your session limit")
        (hold,) = boss.ledger.board.holds.values()
        assert hold.kind is FailureKind.USAGE_LIMIT
        assert hold.until_ms is not None


@pytest.mark.parametrize("known", [True, False])
async def test_a_failure_told_twice_holds_once(tmp_path, known):
    """Delivered twice, also at the same time; and told again after a release it does not hold anew."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        failed = AUTH if known else {**AUTH, "prompt_id": None}
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: one.tell("StopFailure", **failed))
        await one.tell("StopFailure", **failed)
        events = [event.kind for _, event in await boss.ledger.events()]
        assert events == ["bumped"]
        await boss.release("default", None, None)
        await one.tell("StopFailure", **failed)
        assert holds(boss) == []
        one.turn += 1
        one.spend("m2", 5)
        await one.tell("StopFailure", **failed)
        assert len(holds(boss)) == 1, "another turn is another failure"


async def test_two_failures_without_id_and_transcript_are_two(tmp_path):
    """Where nothing tells one turn from the next, a new failure is not taken for the old one."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path, query="tier=max")
        for _ in range(2):
            await one.tell("StopFailure", **{**AUTH, "prompt_id": None, "transcript_path": None})
            assert len(holds(boss)) == 1
            await boss.release("default", None, None)
            await anyio.sleep(0.002)


async def test_a_success_told_before_or_after_the_failure_leaves_it_held(tmp_path):
    """Out of order: the Stop of an earlier turn arrives after a failure, and lifts nothing."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        await one.tell("StopFailure", **AUTH, prompt_id="prompt-2")
        await one.tell("Stop", prompt_id="prompt-1")
        await one.tell("SessionEnd", prompt_id="prompt-1")
        assert len(holds(boss)) == 1
        assert stops_prompt(await one.prompt())


async def test_what_may_be_the_sessions_own_fault_needs_two_sessions(tmp_path):
    """A failure that nobody can name holds a tier only when another session has failed so as well."""
    unknown = {"error": "something_new", "last_assistant_message": "no idea"}
    async with listening(tmp_path) as boss:
        one, two = (Session(boss, tmp_path, name) for name in ("s-1", "s-2"))
        for session in (one, two):
            session.spend(session.id, 1)
        for _ in range(3):
            one.turn += 1
            await one.tell("StopFailure", **unknown)
        assert holds(boss) == []
        await two.tell("StopFailure", **unknown)
        assert holds(boss) == ["tier:max"]


async def test_a_secret_in_an_error_is_masked(tmp_path):
    """Agents print their keys when a key is refused: neither the hold nor the report nor a notice repeats it."""
    key = "sk-ant-very-secret-0001"
    (tmp_path / "key").write_text(key)
    (tmp_path / "key").chmod(0o600)
    tier = {"name": "max", "agent": "claude-code", "env": {"ANTHROPIC_API_KEY": {"file": "key"}}}
    async with listening(tmp_path, {"failover": {"tiers": [tier]}}) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        await one.tell("StopFailure", error="authentication_failed", last_assistant_message=f"no such key {key}")
        kept = repr([await boss.ledger.reports(), await boss.ledger.events(), await boss.ledger.notices()])
        assert "no such key" in kept
        assert key not in kept


async def test_a_failed_turn_of_codex_is_found_in_its_rollout(tmp_path):
    """No hook of Codex tells of a failure: it is found where it stands, once, also after a restart and a release."""
    for start in range(2):
        async with listening(tmp_path) as boss:
            one = Session(boss, tmp_path, agent="codex")
            if not start:
                one.spend("r1", 5)
                one.write(turn_ended("usage_limit_exceeded"))
            for event in ("SessionEnd", "UserPromptSubmit", "SessionEnd"):
                await one.tell(event)
            events = [event.kind for _, event in await boss.ledger.events()]
            assert events == ["bumped", "released"][: 1 + start]
            if not start:
                assert boss.ledger.board.chain("default").last_failure_kind is FailureKind.USAGE_LIMIT
                await boss.release("default", None, None)
            assert holds(boss) == []


async def test_a_turn_of_codex_that_failed_and_then_went_well_holds_nothing(tmp_path):
    """What is over is no news; and a failure from before anybody listened is not either."""
    async with listening(tmp_path) as boss:
        one, two = (Session(boss, tmp_path, name, agent="codex") for name in ("s-1", "s-2"))
        one.write(turn_ended("unauthorized") + turn_ended())
        two.write(turn_ended("unauthorized", ago_s=600))
        for session in (one, two):
            await session.tell("SessionEnd")
        assert holds(boss) == []


async def test_a_model_that_a_person_mistyped_holds_nothing(tmp_path):
    """Who asks for a model that is not there has slipped: it is shown, and neither their tier nor our tasks wait."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 1)
        await one.tell("StopFailure", error="model_not_found", last_assistant_message="There's an issue with the model")
        assert holds(boss) == []
        assert boss.ledger.board.chain("default").last_failure_kind is FailureKind.MODEL_UNAVAILABLE
        assert await one.prompt() == {}


async def test_a_limit_that_codex_tells_of_twice_is_one_failure(tmp_path):
    """Told by the hook and again by the rollout behind it: released in between, it does not come back."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path, agent="codex")
        one.spend("r1", 5)
        told = {"status": "failed", "error": "You\u2019ve hit your usage limit. Try again at 9:41 AM."}
        await one.tell("PostModelRequest", **told)
        assert holds(boss) == ["account:codex"]
        await boss.release("default", None, None)
        one.write(turn_ended("usage_limit_exceeded"))
        await one.tell("SessionEnd")
        assert holds(boss) == []


async def test_a_turn_that_was_stopped_here_vouches_for_nothing(tmp_path):
    """Gemini ends a turn that we deny as if it had gone well: that is no success of the tier, the next real one is."""
    async with listening(tmp_path, HALT) as boss:
        one = Session(boss, tmp_path, agent="codex", query="tier=max")
        one.spend("r1", 2000)
        await one.tell("PostToolUse")
        await counted(boss, 2000)
        assert stops_prompt(await one.prompt())
        await one.tell("Stop")
        assert await boss.ledger.reports() == []
        await boss.release("default", None, None)
        assert await one.prompt() == {}
        await one.tell("Stop")
        assert len(await boss.ledger.reports()) == 1


# ── what is no hook ──────────────────────────────────────────────────────────────────────────────────────

GOOD = {"hook_event_name": "Stop", "session_id": "s-1"}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        *({}, {"session_id": "s"}, {"hook_event_name": "Stop"}),
        *({**GOOD, "hook_event_name": value} for value in (None, 7, [], {}, "", True)),
        *({**GOOD, "session_id": value} for value in (None, 7, [], "", "../x", "a/b", "a b", "x" * 129, "a\0")),
    ],
)
async def test_what_is_no_hook_is_refused(tmp_path, body):
    """Not JSON, not an object, nested without end, or without event and session: 400 with what to send."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        status, found = await one.call.post("/hooks/claude-code", body if isinstance(body, bytes) else body or b"{}")
        assert (status, found["code"]) == (400, "usage")
        assert found["remedy"]


@pytest.mark.parametrize("value", [None, 7, [], {}, "", "relative", "/" * 5000, "/a\0b", "/\ud800", True, "/x\n"])
@pytest.mark.parametrize("name", ["transcript_path", "prompt_id", "error", "last_assistant_message", "model", "cwd"])
async def test_a_field_of_the_wrong_kind_costs_only_itself(tmp_path, name, value):
    """Whatever stands in any other field: the hook is answered, and the daemon goes on."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path, query="tier=max")
        one.spend("m1", 5)
        for event in ("UserPromptSubmit", "Stop", "StopFailure"):
            await one.tell(event, **{"error": "server_error", name: value})
        assert (await boss.ledger.audit()).problems == ()
        assert (await one.call.get("/healthz"))[0] == 200


async def test_half_a_character_is_no_reason_to_miss_a_hook(tmp_path):
    """Agents cut texts in the middle of a character and write what is left: that turn counts like any other."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        one.spend("m1", 5)
        body = {**GOOD, "transcript_path": str(one.transcript), "last_assistant_message": "cut \ud83d"}
        status, answer = await one.call.ask("POST", "/hooks/claude-code", json.dumps(body).encode())
        assert (status, answer) == (200, {})
        await counted(boss, 5)


async def test_a_body_of_a_hundred_megabytes_is_refused_as_it_comes(tmp_path):
    """413 as soon as it is too much; one of the largest size that an agent may send is taken."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        status, found = await one.call.ask("POST", "/hooks/claude-code", bytes(100 << 20))
        assert (status, found["code"]) == (413, "too_large")
        one.spend("m1", 5)
        await one.tell("Stop", tool_input="x" * (LARGEST_HOOK - 1000))
        await counted(boss, 5)


async def test_unknown_agents_and_other_users_are_refused(tmp_path):
    """404 names the agents whose hooks are known; another user of this host gets 403 and counts nothing."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path)
        status, found = await one.call.post("/hooks/nobody", GOOD)
        assert (status, "claude-code" in found["remedy"]) == (404, True)
        stranger = Session(boss, tmp_path, peer=Peer(os.getpid(), 4242))
        stranger.spend("m1", 5)
        assert (await stranger.post("Stop"))[0] == 403
        assert await used(boss) == 0


async def test_a_trial_says_whom_it_would_count_for_and_counts_nothing(tmp_path):
    """An installed hook that is tried out: its tier, and whether a prompt would run now; nothing is written."""
    async with listening(tmp_path) as boss:
        one = Session(boss, tmp_path, query="tier=max")
        one.spend("m1", 5)
        found = await one.tell("LocumTest")
        place = {"chain": "default", "tier": "max"}
        assert found == {"schema": 1, "agent": "claude-code", "attributed": place, "go_on": True, "reason": None}
        await boss.bump("default", "max", None, "upkeep")
        found = await one.tell("LocumTest")
        assert (found["go_on"], "upkeep" in found["reason"]) == (False, True)
        gone = await replace(one, query="tier=gone").tell("LocumTest")
        assert (gone["attributed"], "has no tier gone" in gone["reason"]) == (None, True)
        await anyio.sleep(0.3)
        assert (await used(boss), await boss.ledger.reports()) == (0, [])
