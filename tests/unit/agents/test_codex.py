"""Codex: what starts it, its counts, and errors that are typed only in its rollout."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import End, Mark, Seat, Signal, Source, Success
from locum.agents.codex import Codex
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, judged, kind, launch, read

AGENT = Codex()
USED = {"input_tokens": 2000, "cached_input_tokens": 800, "cache_write_input_tokens": 100, "output_tokens": 42}
FALSE_SUM = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 258_400}
COUNTED = Tokens(1100, 42, 800, 100)
AT = "2026-11-22T06:39:11Z"


def failed(message: str) -> dict[str, Any]:
    """The event a failed turn ends with."""
    return {"type": "turn.failed", "error": {"message": message}}


def row(payload: dict[str, Any], kind: str = "event_msg", at: str = AT) -> dict[str, Any]:
    """A row of the rollout."""
    return {"timestamp": at, "type": kind, "payload": payload}


def typed(info: object, message: str = "x", at: str = AT) -> dict[str, Any]:
    """The row that types a turn's error."""
    return row({"type": "task_complete", "error": {"message": message, "codex_error_info": info}}, at=at)


def count(primary: float, secondary: float = 40.0, at: str = AT, total: dict[str, int] = USED) -> dict[str, Any]:
    """The row that tells the counts and the vendor's windows."""
    limits = {
        "primary": {"used_percent": primary, "window_minutes": 300, "resets_at": 1_795_340_511},
        "secondary": {"used_percent": secondary, "window_minutes": 10_079, "resets_at": 1_795_581_711},
    }
    return row({"type": "token_count", "info": {"total_token_usage": total}, "rate_limits": limits}, at=at)


def judged_with(rows: list[dict[str, Any]], message: str = "x", *, since: int = 0) -> Failure:
    """The failure of a turn that failed with `message` and whose rollout holds `rows`."""
    items = read(AGENT, failed(message)) + read(AGENT, *rows, source=Source.TRANSCRIPT, run_started_ms=since)
    told = AGENT.verdict(End(1, ENDED_MS), [item for item in items if isinstance(item, Signal)])
    assert isinstance(told, Failure)
    return told


def test_a_fresh_run_takes_the_prompt_from_stdin() -> None:
    """The prompt is a dash; the user's args may hold a provider; the home is CODEX_HOME."""
    seat = Seat("t", model="gpt-5", args=("-c", 'model_provider="mock"'), home=Path("/h"), env={"K": "v"})
    command = AGENT.command(launch(seat))
    assert command.argv == (
        *("codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
        *("-m", "gpt-5", "-c", 'model_provider="mock"', "-"),
    )
    assert command.stdin == b"say done"
    assert command.env == {"CODEX_HOME": "/h", "K": "v"}


def test_a_resumed_run_names_the_thread_after_all_options() -> None:
    """Options belong to `exec`, the thread and the dash to `resume`."""
    command = AGENT.command(launch(Seat("t"), resume="thread-1"))
    assert command.argv[-3:] == ("resume", "thread-1", "-")


def test_rollout_and_login_are_looked_for_where_the_agent_keeps_them() -> None:
    """CODEX_HOME moves both; an id that is no id finds nothing."""
    env = {"HOME": "/home/a"}
    assert AGENT.sources(Seat("t"), Path("/w"), "s", env) == ("/home/a/.codex/sessions/**/rollout-*-s.jsonl",)
    assert AGENT.sources(Seat("t"), Path("/w"), "*", env) == ()
    assert AGENT.credentials(Seat("t", home=Path("/h")), env) == (Path("/h/auth.json"),)


def record(response: str = "resp_1", used: dict[str, int] = USED) -> dict[str, Any]:
    """The row that tells what one response cost, with sums beside it that are not to be believed."""
    payload = {"thread_id": "t-1", "response_id": response, "usage": used, "thread_token_usage": FALSE_SUM}
    return row(payload, "token_usage_record")


def test_each_response_is_one_key() -> None:
    """The rows of a rollout, read as often as one likes, tell each response once, with the types kept apart."""
    rows = read(AGENT, record("a"), record("b"), record("a"), source=Source.TRANSCRIPT)
    assert rows[0] == Usage("response:a", COUNTED, session="t-1", at_ms=ENDED_MS)
    assert [item.key for item in rows if isinstance(item, Usage)] == ["response:a", "response:b", "response:a"]


def test_sums_are_never_counted() -> None:
    """The thread's sums would double the responses, and are wrong after an overflow or a kill."""
    told = read(AGENT, count(1, total=FALSE_SUM), source=Source.TRANSCRIPT, session="t-1")
    told += read(AGENT, {"type": "turn.completed", "usage": USED}, session="t-1")
    assert not [item for item in told if isinstance(item, Usage)]
    assert told[-1] == Signal(Mark.DONE, tokens=COUNTED)  # so that a rollout without rows is seen to be incomplete


def test_a_response_without_a_name_or_a_cost_is_not_counted() -> None:
    """Without a name it could be counted twice; without a cost there is nothing to count."""
    assert read(AGENT, record(""), record(used={}), source=Source.TRANSCRIPT) == []


def test_more_cached_than_read_counts_no_negative_input() -> None:
    """Impossible counts are clamped, not believed."""
    told = read(AGENT, record(used=USED | {"input_tokens": 5}), source=Source.TRANSCRIPT)
    assert told[0] == Usage("response:resp_1", Tokens(0, 42, 800, 100), session="t-1", at_ms=ENDED_MS)


@pytest.mark.parametrize(
    ("info", "message", "expected"),
    [
        ("usage_limit_exceeded", "You’ve hit your usage limit. Try again at 9:41 AM.", FailureKind.USAGE_LIMIT),
        ("usage_limit_exceeded", "Quota exceeded. Check your plan and billing details.", FailureKind.CREDIT_EXHAUSTED),
        ("usage_limit_exceeded", "Your workspace is out of credits. Add credits", FailureKind.CREDIT_EXHAUSTED),
        ("server_overloaded", "Selected model is at capacity.", FailureKind.OVERLOADED),
        ("internal_server_error", "You’ve hit your usage limit.", FailureKind.SERVER_ERROR),
        ("context_window_exceeded", "x", FailureKind.CONTEXT_OVERFLOW),
        ("model_not_found", "x", FailureKind.MODEL_UNAVAILABLE),
        ("unauthorized", "x", FailureKind.AUTH_ERROR),
        ("bad_request", "x", FailureKind.INVALID_REQUEST),
        ({"http_connection_failed": {"http_status_code": 401}}, "x", FailureKind.AUTH_ERROR),
        ({"http_connection_failed": {"http_status_code": None}}, "x", FailureKind.NETWORK),
        ({"response_stream_connection_failed": {"http_status_code": 503}}, "rate limit", FailureKind.SERVER_ERROR),
        ({"response_too_many_failed_attempts": {"http_status_code": 429}}, "x", FailureKind.RATE_LIMIT),
        ("other", "stream disconnected before completion: idle timeout waiting for SSE", FailureKind.SERVER_ERROR),
        ("other", "Missing environment variable: `K`.", FailureKind.AUTH_ERROR),
        ("other", "the moon is full", FailureKind.UNKNOWN),
        (["?"], "x", FailureKind.UNKNOWN),
        ({"http_connection_failed": {"http_status_code": 403}}, "unexpected status 403", FailureKind.AUTH_ERROR),
        ({"http_connection_failed": {"http_status_code": 503}}, "unexpected status 503", FailureKind.SERVER_ERROR),
        (
            "other",
            "stream disconnected before completion: Transport error: network error: error decoding response body",
            FailureKind.NETWORK,
        ),
    ],
)
def test_the_rollout_types_the_error(info: object, message: str, expected: FailureKind) -> None:
    """The name, else the status, else the sentence; a server's failure vetoes sentences about limits."""
    assert judged_with([typed(info, message)], message).kind is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("unexpected status 401 Unauthorized: no", FailureKind.AUTH_ERROR),
        ("unexpected status 402 Payment Required", FailureKind.CREDIT_EXHAUSTED),
        ("unexpected status 404 Not Found", FailureKind.MODEL_UNAVAILABLE),
        ("exceeded retry limit, last status: 429 Too Many Requests", FailureKind.RATE_LIMIT),
        ("unexpected status 500: You've hit your usage limit", FailureKind.SERVER_ERROR),
        ("You've hit your usage limit. Try again in 5 days 22 hours 11 minutes.", FailureKind.USAGE_LIMIT),
        ("Codex ran out of room in the model's context window.", FailureKind.CONTEXT_OVERFLOW),
    ],
)
def test_without_a_rollout_the_message_tells(message: str, expected: FailureKind) -> None:
    """A rollout that was never written costs no verdict."""
    assert judged_with([], message).kind is expected


def test_a_usage_limit_has_the_spent_windows_reset() -> None:
    """Of the windows at 100 % the one that opens last; below 100 % none, and then the sentence tells."""
    limited = typed("usage_limit_exceeded", "You’ve hit your usage limit. Try again at 9:41 AM.")
    one = judged_with([count(100.0), limited])
    both = judged_with([count(100.0, 100), limited])
    none = judged_with([count(99.9), limited])
    assert (one.window, one.reset_ms) == ("five_hour", 1_795_340_511_000)
    assert (both.window, both.reset_ms) == ("seven_day", 1_795_581_711_000)
    assert (none.window, none.reset_ms) == (None, 1_795_340_460_000)


def test_rows_from_before_the_run_are_another_runs() -> None:
    """A resumed thread's file holds old errors and spent windows: they tell usage, no signals."""
    old = "2026-11-22T01:00:00Z"
    rows = [count(100.0, at=old), typed("usage_limit_exceeded", at=old)]
    told = read(AGENT, *rows, source=Source.TRANSCRIPT, session="t-1", run_started_ms=ENDED_MS)
    assert told == []
    assert [type(item) for item in read(AGENT, record(), source=Source.TRANSCRIPT, run_started_ms=2**50)] == [Usage]
    assert judged_with([*rows, typed("server_overloaded")], since=ENDED_MS).kind is FailureKind.OVERLOADED


def test_an_item_of_type_error_only_warns() -> None:
    """Missing model metadata and untrusted hooks are no failures."""
    warning = {"type": "item.completed", "item": {"type": "error", "message": "You've hit your usage limit"}}
    said = {"type": "item.completed", "item": {"type": "agent_message", "text": "done"}}
    assert read(AGENT, warning) == []
    assert judged(AGENT, warning, said, {"type": "turn.completed"}, code=0) == Success("done")


def test_a_turn_in_which_nothing_happened_is_no_success() -> None:
    """A hook that blocks the prompt ends the turn as completed, with code 0."""
    assert kind(judged(AGENT, {"type": "turn.completed", "usage": {}}, code=0)) is FailureKind.NO_RESULT


def test_tools_are_seen_to_begin_and_to_end() -> None:
    """A command at work can be told from a hang."""
    item = {"id": "item_1", "type": "command_execution"}
    told = read(AGENT, {"type": "item.started", "item": item}, {"type": "item.completed", "item": item})
    assert told == [Signal(Mark.TOOL, "item_1"), Signal(Mark.TOOL_DONE, "item_1")]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Reconnecting... waiting for network (Connection failed: error sending request)", FailureKind.NETWORK),
        ("Reconnecting... 2/5 (exceeded retry limit, last status: 429 Too Many Requests)", FailureKind.RATE_LIMIT),
        ("Reconnecting... 2/5 (stream disconnected before completion: stream closed)", FailureKind.SERVER_ERROR),
    ],
)
def test_a_run_stopped_while_reconnecting_failed_for_that_reason(message: str, expected: FailureKind) -> None:
    """It would wait for ever: whoever stops it learns why; reconnecting is itself neither failure nor end."""
    retry = {"type": "error", "message": message}
    assert [item.mark for item in read(AGENT, retry) if isinstance(item, Signal)] == [Mark.RETRY]
    assert kind(judged(AGENT, retry, code=-15)) is expected
    assert kind(judged(AGENT, retry, code=None)) is expected


def test_noise_on_standard_error_is_not_a_failure_of_its_kind() -> None:
    """Log lines about lost rollouts and denied tools accompany runs that are well."""
    err = "2026-11-22T06:51:59Z ERROR codex_core::rollout::list: state db missing rollout path for thread 1"
    told = judged(AGENT, code=1, err=err)
    assert isinstance(told, Failure)
    assert (told.kind, told.lost_session) == (FailureKind.UNKNOWN, False)
    assert read(AGENT, {"type": "turn.failed", "error": {"message": "x"}}, source=Source.ERR) == []


def test_a_prompt_it_cannot_take_is_an_overflow_with_a_remedy() -> None:
    """Codex refuses more than 2**20 characters on standard error alone: no tier is to blame, and there is a way."""
    err = (
        "WARNING: proceeding, even though we could not create PATH aliases\n"
        "Error: turn/start: turn/start failed: Input exceeds the maximum length of 1048576 characters. (code -32602), "
        'data: {"input_error_code":"input_too_large","max_chars":1048576,"actual_chars":5000000}\n'
    )
    told = judged(AGENT, {"type": "thread.started", "thread_id": "t-1"}, code=1, err=err)
    assert isinstance(told, Failure)
    assert told.kind is FailureKind.CONTEXT_OVERFLOW
    assert told.evidence.endswith("name the file in the prompt")


def test_a_thread_that_is_gone_is_a_lost_session() -> None:
    """Resuming an unknown thread says so on standard error alone; the task starts anew."""
    err = "Error: thread/resume: thread/resume failed: no rollout found for thread id 7e16dbc3-0dad (code -32600)\n"
    told = judged(AGENT, code=1, err=err)
    assert isinstance(told, Failure)
    assert told.lost_session
