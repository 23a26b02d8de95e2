"""What the runner makes of files that an agent left behind: the same as if it had watched them grow."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.clock import SystemClock
from locum.engine.runner import Bounds, Runner, Watched
from locum.engine.spool import Spool
from locum.policy.plan import Tier
from locum.policy.task import Ending, RunState
from locum.policy.usage import Tokens
from tests.ledgers import HOUR, START, budget, opened, plan_of, started

pytestmark = pytest.mark.anyio
THREAD = "01a201fc-790e-7881-8c0d-8ffe732f47d2"
SAID = {"type": "item.completed", "item": {"id": "item_1", "type": "agent_message", "text": "done"}}
USED = {"input_tokens": 1000, "cached_input_tokens": 800, "output_tokens": 42}
STREAM = [{"type": "thread.started", "thread_id": THREAD}, SAID, {"type": "turn.completed", "usage": USED}]


def text(rows: list[dict[str, Any]]) -> str:
    """Lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def window(used: float) -> dict[str, Any]:
    """A row of a rollout that tells two windows."""
    limits = {"primary": {"used_percent": used, "window_minutes": 300}, "secondary": None}
    return {"type": "event_msg", "payload": {"type": "token_count", "info": None, "rate_limits": limits}}


def response(number: int) -> dict[str, Any]:
    """A row of a rollout that tells what one response cost."""
    payload = {"thread_id": THREAD, "response_id": f"resp_{number}", "usage": USED}
    return {"type": "token_usage_record", "payload": payload}


async def read(
    folder: Path, agent: str, out: list[dict[str, Any]], rows: list[dict[str, Any]], code: int = 0
) -> tuple[Ending, Tokens, Tokens]:
    """What is made of a run that ended while nobody watched; all that it spent, and what on the day it ran."""
    home = folder / "home"
    kept = home / {"codex": f"sessions/rollout-x-{THREAD}.jsonl", "claude-code": f"projects/-srv/{THREAD}.jsonl"}[agent]
    kept.parent.mkdir(parents=True)
    kept.write_text(text(rows))
    ledger = await opened(folder, plan_of(budget(10**9)))
    run = await started(ledger, tier=Tier("c", agent, "bravo"))
    await ledger.saw_session(run.id, THREAD, START)
    run = await ledger.run(run.id)
    spool = Spool(folder / "run")
    spool.create("do it")
    spool.out.write_text(text(out))
    (spool.folder / "exit").write_text(f"{code}\n")
    bounds = Bounds(stall_after=60, time_limit=None, spool=1 << 20, stop_grace=1)
    watched = Watched(run, AGENTS[agent], Seat("c", home=home), spool, bounds, {}, "UTC", 0.0)
    ending, _ = await Runner(watched, ledger, SystemClock()).watch(None)
    spent, then = await ledger.run_tokens(run.id), (await ledger.usage("chain:default", START)).totals
    await ledger.close()
    return ending, spent, then


async def test_a_long_rollout_does_not_drown_the_end(tmp_path: Path) -> None:
    """However many windows a rollout tells after the stream was read, the turn's end is not forgotten."""
    rows = [row for number in range(3_000) for row in (response(number), window(number / 100))]
    ending, spent, _ = await read(tmp_path, "codex", STREAM, rows)
    assert ending.state is RunState.SUCCEEDED
    assert spent == Tokens(3_000 * 200, 3_000 * 42, 3_000 * 800)


async def test_a_turn_that_spent_what_no_row_tells_has_unknown_usage(tmp_path: Path) -> None:
    """A Codex too old to tell each response is not taken for one that spent nothing."""
    told, _, _ = await read(tmp_path / "a", "codex", STREAM, [response(1)])
    untold, spent, _ = await read(tmp_path / "b", "codex", STREAM, [window(1)])
    silent, _, _ = await read(tmp_path / "c", "codex", [*STREAM[:2], {"type": "turn.completed"}], [])
    assert (told.usage_known, untold.usage_known, silent.usage_known) == (True, False, False)
    assert spent == Tokens()


async def test_a_turn_that_spent_nothing_is_known_to(tmp_path: Path) -> None:
    """What was told to be zero is zero, and what was refused has cost nothing."""
    nothing = {"input_tokens": 0, "output_tokens": 0}
    free, _, _ = await read(tmp_path / "a", "codex", [*STREAM[:2], {"type": "turn.completed", "usage": nothing}], [])
    error = {"type": "turn.failed", "error": {"message": "unexpected status 401 Unauthorized"}}
    refused, _, _ = await read(tmp_path / "b", "codex", [STREAM[0], error], [], 1)
    assert (free.usage_known, refused.usage_known) == (True, True)


@pytest.mark.parametrize(
    ("told", "known", "total"),
    [
        ({}, False, None),
        ({"usage": {"spent": 7}}, False, None),
        ({"modelUsage": {"m": {"inputTokens": 500, "outputTokens": 6}}}, True, Tokens(500, 6)),
        ({"modelUsage": {"m": {"inputTokens": 10**15, "outputTokens": 6}}}, False, None),
    ],
)
async def test_a_total_without_a_row_is_known_and_nothing_at_all_is_not(
    tmp_path: Path, told: dict[str, Any], known: bool, total: Tokens | None
) -> None:
    """Claude Code whose messages tell no count has spent what its result says, and an unknown sum if that is silent."""
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "ok", "num_turns": 1}
    out = [{"type": "system", "subtype": "init", "session_id": THREAD}, result | told]
    ending, _, _ = await read(tmp_path, "claude-code", out, [])
    assert (ending.state, ending.usage_known, ending.total) == (RunState.SUCCEEDED, known, total)


async def test_a_streamed_count_is_recorded_without_a_transcript(tmp_path: Path) -> None:
    """Claude Code killed before it wrote its transcript has told the final count of every whole message."""
    used = {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}
    events = [
        event
        for name in ("msg_1", "msg_2")
        for event in (
            {"type": "message_start", "message": {"id": name, "model": "m", "usage": used}},
            {"type": "message_delta", "usage": used | {"output_tokens": 42}},
        )
    ]
    out = [{"type": "system", "subtype": "init", "session_id": THREAD}]
    out += [{"type": "stream_event", "event": event, "session_id": THREAD} for event in events]
    ending, spent, _ = await read(tmp_path, "claude-code", out, [], code=137)
    assert ending.state is RunState.FAILED
    assert spent == Tokens(14, 84, 10, 6)


async def test_what_a_transcript_dates_is_spent_on_that_day(tmp_path: Path) -> None:
    """Found a day later, a message counts for the window it was spent in, though the stream tells it without a date."""
    used = {"input_tokens": 7, "output_tokens": 42}
    told = {"type": "assistant", "message": {"id": "msg_1", "model": "m", "usage": used}, "session_id": THREAD}
    at = datetime.fromtimestamp((START + HOUR) / 1000, UTC).isoformat()
    _, spent, then = await read(tmp_path, "claude-code", [told], [told | {"sessionId": THREAD, "timestamp": at}])
    assert spent == then == Tokens(7, 42)
