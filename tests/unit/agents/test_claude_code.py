"""Claude Code: what starts it, what its events mean, and the traps among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import Mark, Seat, Signal, Source, Success
from locum.agents.claude_code import ClaudeCode
from locum.agents.rules import parse_rules
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import judged, kind, launch, read

AGENT = ClaudeCode()
USED = {"input_tokens": 1200, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 800, "output_tokens": 1}
COUNTED = Tokens(1200, 1, 800, 300)


def message(name: str = "msg_1", model: str = "m", used: dict[str, Any] = USED, **more: Any) -> dict[str, Any]:
    """An assistant's message."""
    return {"type": "assistant", "message": {"id": name, "model": model, "usage": used, **more}, "session_id": "s-1"}


def failed(error: str, text: str, status: int | None = None) -> list[dict[str, Any]]:
    """A failed turn, as Claude Code streams one."""
    told = message("x", "<synthetic>", {}, content=[{"type": "text", "text": text}]) | {"error": error}
    result = {"type": "result", "subtype": "success", "is_error": True, "api_error_status": status, "result": text}
    return [told, result]


def limit(status: str, kind: str, resets_at: int = 1_795_340_351) -> dict[str, Any]:
    """A reading of a vendor's window."""
    info = {"status": status, "rateLimitType": kind, "resetsAt": resets_at}
    return {"type": "rate_limit_event", "rate_limit_info": info}


def test_a_fresh_run_pins_its_session_and_takes_the_prompt_from_stdin() -> None:
    """The session id is ours, the prompt is not in the argv, the user's args come last and their env wins."""
    seat = Seat(
        "t", model="opus", program="/opt/claude", args=("--max-turns", "3"), env={"IS_SANDBOX": "0"}, home=Path("/h")
    )
    command = AGENT.command(launch(seat))
    assert command.argv == (
        "/opt/claude",
        *("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
        *("--model", "opus", "--session-id", "fresh-id"),
        *("--dangerously-skip-permissions", "--max-turns", "3"),
    )
    assert command.stdin == b"say done"
    assert command.env["IS_SANDBOX"] == "0"
    assert command.env["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert command.env["CLAUDE_CONFIG_DIR"] == "/h"


@pytest.mark.parametrize(
    "name", ["DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
)
def test_no_request_is_made_that_is_not_the_tasks(name: str) -> None:
    """Side requests spend tokens that no message shows and tell others of the work; they are off unless asked for."""
    assert AGENT.command(launch(Seat("t"))).env[name] == "1"
    assert AGENT.command(launch(Seat("t", env={name: "0"}))).env[name] == "0"


def test_a_resumed_run_names_the_session_once() -> None:
    """--resume stands in place of --session-id, and no home leaves the user's own login alone."""
    command = AGENT.command(launch(Seat("t"), resume="old"))
    assert command.argv[5:8] == ("--include-partial-messages", "--resume", "old")
    assert "--session-id" not in command.argv
    assert "CLAUDE_CONFIG_DIR" not in command.env


def test_transcripts_and_login_are_looked_for_where_the_agent_keeps_them() -> None:
    """The home of the tier wins over the environment's, which wins over ~/.claude; names are not patterns."""
    env = {"HOME": "/home/a", "CLAUDE_CONFIG_DIR": "/c"}
    assert AGENT.sources(Seat("t", home=Path("/h[1]")), Path("/w"), "s", env)[0] == "/h[[]1]/projects/*/s.jsonl"
    assert AGENT.sources(Seat("t"), Path("/w"), "s", env)[1] == "/c/projects/*/s/**/*.jsonl"
    assert AGENT.credentials(Seat("t"), {"HOME": "/home/a"}) == (Path("/home/a/.claude/.credentials.json"),)
    assert AGENT.sources(Seat("t"), Path("/w"), "../s", env) == ()


def test_a_message_is_one_key_however_often_it_is_told() -> None:
    """Blocks, partial messages, the transcript and forked sessions all repeat one message: one key, largest wins."""
    start = {"type": "stream_event", "event": {"type": "message_start", "message": message()["message"]}}
    delta = {"type": "stream_event", "event": {"type": "message_delta", "usage": USED | {"output_tokens": 42}}}
    out = read(AGENT, start, message(), message()) + read(AGENT, delta, message="msg_1", model="m")
    row = message(used=USED | {"output_tokens": 42}) | {"sessionId": "s-2", "timestamp": "2026-11-22T06:50:11Z"}
    rows = read(AGENT, row, source=Source.TRANSCRIPT)
    assert [item.key for item in (*out, *rows) if isinstance(item, Usage)] == ["msg_1"] * 5
    assert out[-1] == Usage("msg_1", Tokens(1200, 42, 800, 300), "m")
    assert rows == [Usage("msg_1", Tokens(1200, 42, 800, 300), "m", "s-2", 1_795_330_211_000)]


def test_a_streamed_count_belongs_to_the_message_that_began_last() -> None:
    """A message's final count does not name it: its beginning did. Without one, or from a subagent, it counts nothing."""
    start = {"type": "stream_event", "event": {"type": "message_start", "message": message("msg_7")["message"]}}
    delta = {"type": "stream_event", "event": {"type": "message_delta", "usage": USED}}
    assert read(AGENT, start)[1] == Signal(Mark.MESSAGE, "msg_7", model="m")
    assert read(AGENT, delta) == []
    assert read(AGENT, delta | {"parent_tool_use_id": "toolu_1"}, message="msg_7") == []
    assert read(AGENT, start | {"parent_tool_use_id": "toolu_1"}) == []


def test_a_subagents_messages_count_once() -> None:
    """A subagent's message is told on the stream and in a file of its own below the session's: one key."""
    used = USED | {"output_tokens": 42}
    streamed = read(AGENT, message("msg_sub") | {"parent_tool_use_id": "toolu_1"})
    row = message("msg_sub", used=used) | {"isSidechain": True, "agentId": "a1", "sessionId": "s-1"}
    filed = read(AGENT, row, source=Source.TRANSCRIPT)
    assert [item.key for item in (*streamed, *filed) if isinstance(item, Usage)] == ["msg_sub", "msg_sub"]
    found = AGENT.sources(Seat("t", home=Path("/h")), Path("/w"), "s-1", {})
    assert Path("/h/projects/-w/s-1/subagents/agent-a1.jsonl").match(found[1].replace("/**/", "/*/"))


def test_what_cost_nothing_is_not_usage() -> None:
    """Synthetic messages, zero counts and messages without an id are not entries."""
    assert read(AGENT, message(model="<synthetic>"), message(used={}), message(name="")) == []


def test_the_total_is_the_sum_over_models() -> None:
    """ModelUsage counts helper models that no message shows; `usage` is only asked when it is missing."""
    used = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheCreationInputTokens": 4}
    result = {"type": "result", "subtype": "success", "is_error": False, "usage": USED}
    both = read(AGENT, result | {"modelUsage": {"a": used, "b": used}})
    assert both[0] == Signal(Mark.TOTAL, tokens=Tokens(2, 4, 6, 8))
    assert read(AGENT, result)[0] == Signal(Mark.TOTAL, tokens=COUNTED)
    assert [item.mark for item in read(AGENT, result | {"usage": {}}) if isinstance(item, Signal)] == [Mark.DONE]


@pytest.mark.parametrize("unread", [{}, {"in": 5, "out": 6}, {"inputTokens": 0}, {"inputTokens": "5"}, 7, None])
def test_a_model_whose_counts_cannot_be_read_is_not_taken_for_free(unread: object) -> None:
    """A total that lacks a model is no total, and no zero; `usage` may be all zero beside models that cost something."""
    used = {"inputTokens": 1, "outputTokens": 2}
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "hi"}
    nothing = dict.fromkeys(USED, 0)
    for models in ({"a": unread}, {"a": used, "b": unread}):
        told = result | {"usage": nothing, "modelUsage": models}
        assert read(AGENT, told) == [Signal(Mark.DONE, "hi")]
        assert read(AGENT, told | {"usage": USED})[0] == Signal(Mark.TOTAL, tokens=COUNTED)
    assert read(AGENT, result | {"usage": nothing}) == [Signal(Mark.DONE, "hi", tokens=Tokens())]


def test_tools_are_seen_to_begin_and_to_end() -> None:
    """A tool that works in silence can be told from a hang by its id."""
    used = message(content=[{"type": "text", "text": "now"}, {"type": "tool_use", "id": "toolu_1"}])
    done = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]}}
    marks = [(item.mark, item.text) for item in read(AGENT, used, done) if isinstance(item, Signal)]
    assert marks == [(Mark.SAID, "now"), (Mark.TOOL, "toolu_1"), (Mark.TOOL_DONE, "toolu_1")]


def test_a_subagents_words_are_not_the_agents() -> None:
    """What a subagent says is said to the agent, not to the user; its tokens count all the same."""
    told = read(AGENT, message(content=[{"type": "text", "text": "psst"}]) | {"parent_tool_use_id": "toolu_1"})
    assert [type(item) for item in told] == [Usage]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (failed("authentication_failed", "Invalid API key", 401), FailureKind.AUTH_ERROR),
        (failed("oauth_org_not_allowed", "no", 403), FailureKind.AUTH_ERROR),
        (failed("unknown", "Failed to authenticate. API Error: 403", 403), FailureKind.AUTH_ERROR),
        (failed("billing_error", "Credit balance is too low", 400), FailureKind.CREDIT_EXHAUSTED),
        (failed("unknown", "pay", 402), FailureKind.CREDIT_EXHAUSTED),
        (failed("rate_limit", "API Error: Request rejected (429)", 429), FailureKind.RATE_LIMIT),
        (
            failed("rate_limit", "API Error: Server is temporarily limiting requests (not your usage limit) · x", 429),
            FailureKind.RATE_LIMIT,
        ),
        (failed("rate_limit", "You've hit your weekly limit · resets 3pm", 429), FailureKind.USAGE_LIMIT),
        (failed("rate_limit", "You've hit your monthly spend limit.", 429), FailureKind.CREDIT_EXHAUSTED),
        (failed("overloaded", "busy"), FailureKind.OVERLOADED),
        (failed("server_error", "API Error: 529 Overloaded", 529), FailureKind.OVERLOADED),
        (failed("server_error", "API Error: 503 rate limit exceeded", 503), FailureKind.SERVER_ERROR),
        (failed("server_error", "You've hit your session limit · resets 3pm", 500), FailureKind.SERVER_ERROR),
        (failed("server_error", "You've hit your session limit · resets 3pm"), FailureKind.SERVER_ERROR),
        (failed("server_error", "API Error: Unable to connect to API (DNS)"), FailureKind.NETWORK),
        (failed("server_error", "API Error: Unable to connect to API (ECONNRESET)"), FailureKind.NETWORK),
        (
            failed("unknown", "API Error: API returned an empty or malformed response (HTTP 200) — check"),
            FailureKind.SERVER_ERROR,
        ),
        (failed("server_error", "Request timed out"), FailureKind.NETWORK),
        (failed("invalid_request", "API Error: 400 bad", 400), FailureKind.INVALID_REQUEST),
        (failed("invalid_request", "Prompt is too long · x", 400), FailureKind.CONTEXT_OVERFLOW),
        (failed("model_not_found", "There's an issue", 404), FailureKind.MODEL_UNAVAILABLE),
        (failed("max_output_tokens", "cut"), FailureKind.NO_RESULT),
        (failed("unknown", "the moon is full"), FailureKind.UNKNOWN),
        (failed("something_new", "the moon is full", 500), FailureKind.SERVER_ERROR),
    ],
)
def test_a_failed_turn_is_told_by_type_then_status_then_text(
    events: list[dict[str, Any]], expected: FailureKind
) -> None:
    """The subtype "success" means nothing, and a server's own failure vetoes what its text says of limits."""
    assert kind(judged(AGENT, *events)) is expected


def test_the_limit_of_the_account_is_told_with_its_window_and_reset() -> None:
    """A rejected reading beside a typed rate limit is a usage limit; its reset is the vendor's own number."""
    told = judged(AGENT, limit("rejected", "five_hour"), *failed("rate_limit", "You've hit your session limit", 429))
    assert isinstance(told, Failure)
    assert (told.kind, told.window, told.reset_ms) == (FailureKind.USAGE_LIMIT, "five_hour", 1_795_340_351_000)


def test_a_throttle_of_a_subscription_is_not_its_limit() -> None:
    """A plain 429 comes with a rejected reading too, one that names neither window nor reset."""
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "isUsingOverage": False}}
    text = "API Error: Server is temporarily limiting requests (not your usage limit) · slow down"
    told = judged(AGENT, event, *failed("rate_limit", text, 429))
    assert isinstance(told, Failure)
    assert (told.kind, told.window, told.reset_ms) == (FailureKind.RATE_LIMIT, None, None)


def test_the_limit_of_one_model_names_it() -> None:
    """A weekly limit of one model holds that model, not the account."""
    told = judged(AGENT, limit("rejected", "seven_day_opus"), *failed("rate_limit", "You've hit your Opus limit", 429))
    assert isinstance(told, Failure)
    assert (told.kind, told.window, told.model) == (FailureKind.USAGE_LIMIT, "seven_day", "opus")


def test_without_a_reading_the_sentence_tells_the_reset() -> None:
    """The time in the sentence is used when no number came with it."""
    told = judged(AGENT, *failed("rate_limit", "You've hit your session limit · resets 9:39am (UTC)", 429))
    assert isinstance(told, Failure)
    assert (told.window, told.reset_ms, told.rule) == ("five_hour", 1_795_340_340_000, "claude.session_limit")


@pytest.mark.parametrize("status", ["allowed", "allowed_warning"])
def test_a_warning_is_not_a_failure(status: str) -> None:
    """An early warning, and a reading that was rejected before and is not now, leave a throttle a throttle."""
    throttled = failed("rate_limit", "API Error: Request rejected (429)", 429)
    done = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}
    assert isinstance(judged(AGENT, limit(status, "five_hour"), done, code=0), Success)
    assert (
        kind(judged(AGENT, limit("rejected", "five_hour"), limit(status, "five_hour"), *throttled))
        is FailureKind.RATE_LIMIT
    )


def test_an_answer_that_quotes_a_limit_is_an_answer() -> None:
    """What the agent says is never searched: only typed errors, and the tails of runs that told nothing."""
    said = message(content=[{"type": "text", "text": "You've hit your usage limit, says the log."}])
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "You've hit your session limit"}
    told = judged(AGENT, said, result, code=0, out="You've hit your session limit")
    assert told == Success("You've hit your session limit")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("401 {OAuth token has expired.} · Please run /login", FailureKind.AUTH_ERROR),
        ("429 {rate_limit_error}", FailureKind.RATE_LIMIT),
        ("502 <html>", FailureKind.SERVER_ERROR),
        ("529 {overloaded_error}", FailureKind.OVERLOADED),
        ("418 {teapot}", FailureKind.UNKNOWN),
    ],
)
def test_a_status_told_in_words_alone_is_read(said: str, expected: FailureKind) -> None:
    """Where a result has neither a status nor a type, its sentence does; where it has one, that is the last word."""
    result = {"type": "result", "subtype": "success", "is_error": True, "result": f"API Error: {said}"}
    assert kind(judged(AGENT, result)) is expected
    assert kind(judged(AGENT, {**result, "api_error_status": 404})) is FailureKind.MODEL_UNAVAILABLE


@pytest.mark.parametrize(
    "result",
    [
        {"subtype": "success", "is_error": False, "terminal_reason": "hook_stopped", "num_turns": 2},
        {"subtype": "success", "is_error": False, "terminal_reason": "aborted_tools", "num_turns": 2},
        {"subtype": "success", "is_error": False, "num_turns": 0, "result": "blocked\n\nOriginal prompt: my secret"},
    ],
)
def test_a_run_a_hook_stopped_is_no_success(result: dict[str, Any]) -> None:
    """Exit code 0 and "success" are said of halted runs too; the prompt does not leak into the evidence."""
    told = judged(AGENT, {"type": "result", **result}, code=0)
    assert isinstance(told, Failure)
    assert told.kind is FailureKind.NO_RESULT
    assert "secret" not in told.evidence


def test_a_success_counts_even_when_the_process_had_to_be_killed_after_it() -> None:
    """The terminal event comes before the exit code; a later failure comes after an earlier success."""
    done = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}
    assert judged(AGENT, done, code=143) == Success("done")
    assert judged(AGENT, *failed("server_error", "x", 500), done, code=0) == Success("done")
    assert kind(judged(AGENT, done, *failed("server_error", "x", 500), code=0)) is FailureKind.SERVER_ERROR
    later = judged(AGENT, done, *failed("server_error", "", 500))
    assert isinstance(later, Failure)
    assert later.evidence == "error:server_error"  # not the words of the success before it


@pytest.mark.parametrize(
    ("code", "err", "expected"),
    [
        (0, "", FailureKind.NO_RESULT),
        (None, "", FailureKind.CRASH),
        (127, "", FailureKind.CRASH),
        (126, "", FailureKind.CRASH),
        (137, "", FailureKind.CRASH),
        (-9, "", FailureKind.CRASH),
        (1, "error: unknown option '--x'", FailureKind.CRASH),
        (1, "Segmentation of the market", FailureKind.UNKNOWN),
        (255, "", FailureKind.UNKNOWN),
    ],
)
def test_a_run_that_told_nothing_is_judged_by_its_end(code: int | None, err: str, expected: FailureKind) -> None:
    """Code 0 without a result is no success; what cannot be told is unknown and shows its last line."""
    told = judged(AGENT, code=code, err=err)
    assert isinstance(told, Failure)
    assert told.kind is expected
    assert told.evidence


def test_a_missing_program_says_what_to_do() -> None:
    """The evidence of 127 is a remedy."""
    told = judged(AGENT, code=127)
    assert isinstance(told, Failure)
    assert "install" in told.evidence


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (529, "overloaded", FailureKind.OVERLOADED),
        (None, "unknown", FailureKind.NETWORK),
        (401, "authentication_failed", FailureKind.AUTH_ERROR),
        (500, "server_error", FailureKind.SERVER_ERROR),
    ],
)
def test_a_run_stopped_in_the_middle_of_retries_failed_for_their_reason(
    status: int | None,
    error: str,
    expected: FailureKind,
) -> None:
    """Stopped by a signal while retrying, it failed for what it retried; with work done since, it did not."""
    retry = {"type": "system", "subtype": "api_retry", "error": error, "error_status": status}
    assert kind(judged(AGENT, retry, code=143)) is expected
    assert kind(judged(AGENT, retry, message(content=[{"type": "text", "text": "on"}]), code=143)) is FailureKind.CRASH


def test_a_lost_session_says_so() -> None:
    """The session to be resumed is gone: told by the result, or by standard error alone."""
    result = {"type": "result", "subtype": "error_during_execution", "is_error": True}
    for told in (
        judged(AGENT, result | {"errors": ["No conversation found with session ID: x"]}),
        judged(AGENT, err="No conversation found with session ID: x\n"),
    ):
        assert isinstance(told, Failure)
        assert told.lost_session


def test_a_session_id_that_is_taken_is_no_ones_fault() -> None:
    """The task starts anew with another id."""
    told = judged(AGENT, err="Error: Session ID 01a28285-a261-4f3e-833c-911e92bb8226 is already in use.\n")
    assert isinstance(told, Failure)
    assert told.lost_session


def test_limits_the_user_set_for_one_run_end_the_task() -> None:
    """--max-turns and --max-budget-usd are the user's brakes: the tier is not to blame."""
    told = judged(AGENT, {"type": "result", "subtype": "error_max_turns", "is_error": True})
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.INVALID_REQUEST, "result:error_max_turns")


def test_a_transcripts_old_errors_are_not_this_runs() -> None:
    """The file of a resumed session still holds its old failures: its rows tell usage only."""
    row = failed("rate_limit", "You've hit your limit")[0] | {"isApiErrorMessage": True, "apiErrorStatus": 429}
    assert read(AGENT, row, source=Source.TRANSCRIPT) == []


def test_users_rules_judge_too() -> None:
    """A user's rule reads a sentence no shipped rule knows."""
    own = parse_rules([{"id": "mine", "kind": "network", "pattern": "the moon"}])
    told = judged(ClaudeCode(own), *failed("unknown", "the moon is full"))
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NETWORK, "mine")
