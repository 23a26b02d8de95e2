"""GitHub Copilot CLI: what starts it, its accounts, its refused calls, and the success it claims when it is ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import End, Line, Mark, Seat, Signal, Source, Success
from locum.agents.copilot import Copilot
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, judged, kind, launch, read

AGENT = Copilot()
ID = "0760749e-9688-434f-9d45-099c770146b8"
AT = "2026-11-22T06:39:11.000Z"
SAID: dict[str, Any] = {"type": "assistant.message", "data": {"content": "done", "toolRequests": []}}
OVER: dict[str, Any] = {"type": "result", "sessionId": ID, "exitCode": 0}
ABORT: dict[str, Any] = {"type": "abort", "data": {"reason": "user_initiated"}}
QUOTA = {
    "premium": {"isUnlimitedEntitlement": False, "remainingPercentage": 12.5, "resetDate": "2026-12-01T00:00:00Z"},
    "chat": {"isUnlimitedEntitlement": True, "remainingPercentage": 0},
}


def record(number: int | None = 1, *, book: str = ID, event: str = "e-1", at: str = AT, **more: Any) -> dict[str, Any]:
    """A row of the session's accounts."""
    used = {"model": "gpt-5", "inputTokens": 2300, "outputTokens": 42, "cacheReadTokens": 800, "cacheWriteTokens": 300}
    accounting = {"sourceSessionId": book, "sequence": number, "usageId": "chatcmpl-1"}
    named = {"accounting": accounting} if number is not None else {}
    return {"type": "session.usage_record", "data": {"usage": used | named | more}, "id": event, "timestamp": at}


def refused(status: int | None, body: object, at: str = AT, **more: Any) -> dict[str, Any]:
    """A call that failed."""
    text = body if isinstance(body, str) else json.dumps(body)
    return {"type": "model.call_failure", "data": {"statusCode": status, "errorMessage": text} | more, "timestamp": at}


def failed(message: str, error: str = "query", status: int | None = None, **more: Any) -> dict[str, Any]:
    """The error a run ends with."""
    return {"type": "session.error", "data": {"errorType": error, "message": message, "statusCode": status} | more}


def rows(*events: dict[str, Any], **more: Any) -> list[Usage | Signal]:
    """What rows of the session's events tell."""
    return read(AGENT, *events, source=Source.TRANSCRIPT, **more)


def failure(*events: dict[str, Any], code: int = 1, err: str = "") -> Failure:
    """The failure of a run that wrote `events`."""
    told = judged(AGENT, *events, code=code, err=err)
    assert isinstance(told, Failure)
    return told


def test_a_fresh_run_takes_the_prompt_from_stdin_and_its_session_from_us() -> None:
    """No -p, which would put the prompt into the argv; the id is in the environment too, for who finds its events."""
    seat = Seat("t", model="gpt-5", args=("--trust-folder",), home=Path("/h"), env={"K": "v"})
    command = AGENT.command(launch(seat))
    assert command.argv == (
        *("copilot", "--output-format", "json", "--allow-all", "--no-ask-user", "--no-auto-update"),
        *("--disable-client-telemetry", "--model", "gpt-5", "--session-id", "fresh-id", "--trust-folder"),
    )
    assert command.stdin == b"say done"
    assert command.env == {"COPILOT_HOME": "/h", "K": "v", "LOCUM_SESSION": "fresh-id"}


def test_a_resumed_run_names_the_old_session() -> None:
    """In the argv and in the environment; a tier cannot give another one."""
    command = AGENT.command(launch(Seat("t", env={"LOCUM_SESSION": "other"}), resume="s-1"))
    assert command.argv[-2:] == ("--resume", "s-1")
    assert command.env["LOCUM_SESSION"] == "s-1"


def test_events_are_found_before_a_session_was_told() -> None:
    """By the session that the run was given; a told one goes before; neither leads anywhere else."""
    env = {"HOME": "/home/a", "LOCUM_SESSION": ID}
    told = AGENT.sources(Seat("t"), Path("/w"), "", env)
    assert told == (f"/home/a/.copilot/session-state/{ID}/events.jsonl",)
    assert AGENT.sources(Seat("t"), Path("/w"), "s-2", env) == ("/home/a/.copilot/session-state/s-2/events.jsonl",)
    assert AGENT.sources(Seat("t"), Path("/w"), "", env | {"LOCUM_SESSION": "../../x"}) == ()
    assert AGENT.sources(Seat("t", home=Path("/h[1]")), Path("/w"), "s", {})[0].startswith("/h[[]1]/session-state/")


def test_histories_and_logins_lie_in_the_home() -> None:
    """Every session's events, whose folder names it; its own login, and the one it borrows from GitHub's CLI."""
    seat, env = Seat("t", home=Path("/h")), {"HOME": "/home/a"}
    assert AGENT.histories(seat, env) == ("/h/session-state/*/events.jsonl",)
    assert AGENT.session_of(Path(f"/h/session-state/{ID}/events.jsonl")) == ID
    assert AGENT.session_of(Path("/h/session-state/a b/events.jsonl")) == ""
    assert AGENT.credentials(seat, env) == (Path("/h/config.json"), Path("/home/a/.config/gh/hosts.yml"))
    assert AGENT.credentials(seat, {"XDG_CONFIG_HOME": "/c"})[1] == Path("/c/gh/hosts.yml")


def test_cached_tokens_are_taken_out_of_the_input() -> None:
    """Copilot's input holds what was read from the cache and written to it."""
    (used,) = rows(record(), session=ID)
    key = f"{ID}:1:chatcmpl-1"
    assert used == Usage(key, Tokens(1200, 42, 800, 300), "gpt-5", ID, 1_795_329_551_000)


def test_a_row_is_known_by_its_place_in_the_accounts() -> None:
    """A fork's copy has another event id and another file, and is the same row; the next answer is another one.

    Providers' ids are not enough: some say the same of every answer.
    """
    keys = [
        used.key
        for event, session in ((record(), ID), (record(event="e-2"), "fork-1"), (record(2), ID), (record(book="b"), ID))
        for used in rows(event, session=session)
        if isinstance(used, Usage)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_row_without_accounts_is_known_by_its_event() -> None:
    """An older Copilot kept no accounts of its own."""
    keys = {used.key for event in ("e-1", "e-2") for used in rows(record(None, event=event)) if isinstance(used, Usage)}
    assert keys == {"e-1", "e-2"}


def test_a_tool_that_is_metered_apart_is_counted() -> None:
    """A tool call may cost tokens of its own (an image, a search), which no record of an answer holds."""
    used = {"requestId": "r-1", "model": "image-1", "inputTokens": 10, "outputTokens": 5}
    event = {"type": "tool.execution_complete", "data": {"toolCallId": "c", "toolUsage": used}, "timestamp": AT}
    (told,) = rows(event)
    assert isinstance(told, Usage)
    assert (told.key, told.tokens) == ("r-1", Tokens(10, 5))


def test_sums_of_the_session_count_nothing() -> None:
    """A resumed session's shutdown tells all of it again."""
    sums = {"gpt-5": {"usage": {"inputTokens": 26_108, "outputTokens": 2_123}}}
    assert rows({"type": "session.shutdown", "data": {"modelMetrics": sums, "quotaSnapshots": {}}}) == []


def test_a_resumed_session_tells_its_old_usage_and_no_more() -> None:
    """Rows from before the run: who counts by key has them already; a window's old reading is stale."""
    old = record(quotaSnapshots=QUOTA)
    assert [type(item) for item in rows(old, run_started_ms=ENDED_MS + 1)] == [Usage]
    assert [type(item) for item in rows(old, run_started_ms=ENDED_MS)] == [Usage, Signal]


def test_the_session_is_told_by_its_first_row() -> None:
    """Its output names the session at its end only, which a killed run has none of."""
    (told,) = rows({"type": "session.start", "data": {"sessionId": ID}, "timestamp": AT})
    assert told == Signal(Mark.SESSION, ID)


def test_the_months_allowance_is_read() -> None:
    """Of several the one used most, without those that are unlimited."""
    (_, told) = rows(record(quotaSnapshots=QUOTA))
    assert isinstance(told, Signal)
    assert (told.mark, told.text, told.window, told.used) == (Mark.LIMIT, "allowed", "monthly", 87.5)
    assert told.reset_ms == 1_796_083_200_000


@pytest.mark.parametrize(("goes_on", "text"), [(True, "allowed"), (False, "rejected")])
def test_a_spent_allowance_rejects_only_where_nothing_may_follow(*, goes_on: bool, text: str) -> None:
    """Who pays for more than the allowance is not held."""
    spent = QUOTA["premium"] | {"remainingPercentage": 0, "overageAllowedWithExhaustedQuota": goes_on}
    throttled = refused(429, {"message": "slow down"}, quotaSnapshots={"premium": spent})
    (_, told) = read(AGENT, throttled)
    assert isinstance(told, Signal)
    assert told.text == text
    found = failure(throttled, failed("429 slow down", "rate_limit", 429))
    assert found.kind is (FailureKind.RATE_LIMIT if goes_on else FailureKind.USAGE_LIMIT)


def test_a_provider_that_names_its_reset_is_believed() -> None:
    """The run's own error is a throttle and tells no reset: the refused call does, and that it is the plan's limit."""
    body = {"message": "The usage limit has been reached", "type": "usage_limit_reached", "resets_at": 1_795_341_009}
    again = refused(429, body | {"resets_at": 1_795_341_066})
    text = "Failed to get response from the AI model; retried 5 times (total retry wait time: 57.46 seconds) Last error: 429 The usage limit has been reached"
    found = failure(refused(429, body), again, failed(text, "rate_limit", 429))
    assert (found.kind, found.reset_ms) == (FailureKind.USAGE_LIMIT, 1_795_341_066_000)
    assert found.evidence == "The usage limit has been reached"


def test_a_call_that_was_mended_says_nothing_of_a_later_failure() -> None:
    """Between the two the model has answered."""
    early = refused(429, {"message": "x", "type": "usage_limit_reached", "resets_at": 1_795_341_009})
    found = failure(early, SAID, failed("400 Tool schema is wrong", "query", 400))
    assert (found.kind, found.reset_ms) == (FailureKind.INVALID_REQUEST, None)


def test_a_flaky_run_that_ends_well_is_a_success() -> None:
    """Refused calls on the way are its own business."""
    assert isinstance(judged(AGENT, refused(500, {"type": "api_error"}), SAID, OVER, code=0), Success)


@pytest.mark.parametrize("code", [143, -15, 0, 1])
def test_a_run_that_was_aborted_did_not_succeed(code: int) -> None:
    """Ended by a signal, Copilot says `abort`, and then `result` with exit code 0 all the same."""
    assert kind(judged(AGENT, SAID, ABORT, OVER, code=code)) is not None


def test_a_run_ended_while_it_tried_again_failed_of_what_it_retried() -> None:
    """It honours a long retry-after: whoever watches ends it, and the throttle is the reason."""
    found = failure(refused(429, {"message": "slow down", "code": "rate_limit_exceeded"}), ABORT, OVER, code=143)
    assert found.kind is FailureKind.RATE_LIMIT


def test_a_result_without_a_word_is_none() -> None:
    """A hook may stop the prompt before the model is asked."""
    found = failure(OVER, code=0)
    assert (found.kind, found.rule) == (FailureKind.NO_RESULT, "result:empty")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([failed("Authentication failed with provider at http://x (HTTP 401).", "authentication", 401)], "auth_error"),
        ([failed("Copilot is disabled by your organization", "policy", 403)], "auth_error"),
        ([failed("too long", "context_limit")], "context_overflow"),
        ([failed("x", "quota", 402, errorCode="quota_exceeded")], "usage_limit"),
        ([failed("Model 'x' not found on provider at http://x (HTTP 404).", "query", 404)], "model_unavailable"),
        ([refused(503, {"code": "server_is_overloaded"}), failed("503 overloaded", "query", 503)], "overloaded"),
        ([refused(None, {"type": "overloaded_error"}), failed("Overloaded")], "overloaded"),
        (
            [refused(None, '"Failed native model HTTP request: … Connection refused"'), failed("Could not connect")],
            "network",
        ),
        ([failed("Failed to get response from the AI model; retried 5 times Last error: 500 Oops", status=500)],
         "server_error"),
        ([failed("something new")], "unknown"),
    ],
)  # fmt: skip
def test_failures_are_named_by_their_types(events: list[dict[str, Any]], expected: str) -> None:
    """The provider's own code, then Copilot's own type, then the status."""
    assert failure(*events).kind == expected


def test_a_months_end_is_told_in_words_too() -> None:
    """The prefix of its retries is taken off, so that the sentence is at the start of its line."""
    text = "Failed to get response from the AI model; retried 5 times (total retry wait time: 1.00 seconds) Last error: 402 You've run out of your included AI credits for the month. Manage budget: https://x"
    found = failure(failed(text, "query"))
    assert (found.kind, found.window) == (FailureKind.USAGE_LIMIT, "monthly")


def test_a_lost_session_starts_anew() -> None:
    """Nothing is wrong with the tier then."""
    err = (
        f"Error: No session, task, or name matched '{ID}'.\n\nTo resume by session or task ID:  copilot --resume=<id>\n"
    )
    told = AGENT.verdict(End(1, ENDED_MS, "", err), [])
    assert isinstance(told, Failure)
    assert told.lost_session


def test_a_subagents_words_are_not_the_agents() -> None:
    """What is handed over is what the agent itself said last."""
    inner = SAID | {"agentId": "sub-1"}
    assert read(AGENT, inner) == []
    assert read(AGENT, {"type": "assistant.message", "data": {"content": "x", "parentToolCallId": "t"}}) == []


def test_transcript_rows_that_tell_nothing_are_not_parsed() -> None:
    """Most rows are prompts and answers, and long."""
    assert AGENT.read(Line(Source.TRANSCRIPT, b'{"type":"assistant.message","data":{"content":"x"}}')) == ()
