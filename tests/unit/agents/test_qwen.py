"""Qwen Code: its command, the failures it calls successes, and what counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import End, Mark, Seat, Signal, Source, Success
from locum.agents.registry import AGENTS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, judged, kind, launch, line, read

QWEN = AGENTS["qwen"]
ENV = {"HOME": "/home/dev"}
INIT = {"type": "system", "subtype": "init", "session_id": "04cea145-8f89", "model": "mock-model"}
SPENT = {"input_tokens": 2000, "output_tokens": 42, "cache_read_input_tokens": 800}
NOTHING = {"input_tokens": 0, "output_tokens": 0}
QUOTE = "[API Error: 401 Incorrect API key provided.]"


def said(text: str, usage: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """One message of the model, or of Qwen Code itself where it has spent nothing."""
    message = {"id": "m", "content": [{"type": "text", "text": text}], "usage": SPENT if usage is None else usage}
    return {"type": "assistant", "parent_tool_use_id": None, "message": message, **more}


def result(text: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    """The end, which is always a success."""
    return {"type": "result", "subtype": "success", "is_error": False, "result": text, "usage": usage or SPENT}


def failed(text: str, *, before: str = "") -> list[dict[str, Any]]:
    """A run that failed with `text`, with what it had said `before`."""
    whole = f"{before}[API Error: {text}]"
    return [INIT, said(whole, NOTHING), result(whole, NOTHING)]


def answered(**more: Any) -> dict[str, Any]:
    """The row of a chat log that tells of one answer."""
    told = {"event.name": "qwen-code.api_response", "model": "mock-model", "response_id": "chatcmpl-1"}
    counts = {"input_token_count": 2000, "output_token_count": 42, "cached_content_token_count": 800}
    return row(told | counts | {"thoughts_token_count": 10, "total_token_count": 2042}, **more)


def row(event: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A row of a chat log that tells of `event`."""
    whose = {"uuid": "u-1", "sessionId": "s-1", "timestamp": "2026-11-22T06:43:28.036Z", "type": "system"}
    return whose | {"subtype": "ui_telemetry", "systemPayload": {"uiEvent": event}} | more


def test_the_command_is_headless_and_chooses_the_session() -> None:
    """No prompt in the argv; nobody is asked; the id is ours, so a killed run can be gone on with."""
    command = QWEN.command(launch(Seat("t", model="m", args=("--debug",), home=Path("/h"))))
    assert command.argv == (
        *("qwen", "--output-format", "stream-json", "-m", "m", "--session-id", "fresh-id"),
        *("--approval-mode", "yolo", "--debug"),
    )
    assert command.stdin == b"say done"
    assert command.env["QWEN_HOME"] == "/h"
    resumed = QWEN.command(launch(Seat("t"), resume="s-1")).argv
    assert resumed[3:5] == ("--resume", "s-1")
    assert "--session-id" not in resumed


def test_retries_are_ours_and_nothing_is_asked_in_the_background() -> None:
    """Its settings are the system's defaults, which every other file of settings overrules, and so does the tier."""
    command = QWEN.command(launch(Seat("t")))
    assert command.env["QWEN_CODE_SYSTEM_DEFAULTS_PATH"] == "/runs/1/given/qwen.json"
    assert command.env["QWEN_CODE_UNATTENDED_RETRY"] == "0"
    settings = json.loads(command.files["qwen.json"])
    assert settings["model"]["generationConfig"] == {"maxRetries": 0}
    assert settings["memory"]["enableManagedAutoMemory"] is False
    own = Seat("t", env={"QWEN_CODE_SYSTEM_DEFAULTS_PATH": "/mine.json"})
    assert QWEN.command(launch(own)).env["QWEN_CODE_SYSTEM_DEFAULTS_PATH"] == "/mine.json"


@pytest.mark.parametrize(
    ("text", "meant", "reset_in_s"),
    [
        ("401 Incorrect API key provided.", FailureKind.AUTH_ERROR, None),
        ("403 Country, region, or territory not supported", FailureKind.AUTH_ERROR, None),
        ("404 The model `m` does not exist or you do not have access to it.", FailureKind.MODEL_UNAVAILABLE, None),
        ("400 no", FailureKind.INVALID_REQUEST, None),
        (
            "400 Your input exceeds the context window of this model. Please adjust it.",
            FailureKind.CONTEXT_OVERFLOW,
            None,
        ),
        ("429 Rate limit reached for m: Limit 3. Please try again in 1s.", FailureKind.RATE_LIMIT, 1),
        ("429 The usage limit has been reached", FailureKind.USAGE_LIMIT, None),
        (
            "429 You exceeded your current quota, please check your plan and billing details.",
            *(FailureKind.CREDIT_EXHAUSTED, None),
        ),
        (
            "429 You exceeded your current quota, please check your plan and billing details. Please retry in 30s.",
            *(FailureKind.RATE_LIMIT, 30),
        ),
        ("403 Free allocated quota exceeded.", FailureKind.CREDIT_EXHAUSTED, None),
        ("500 The server had an error while processing your request.", FailureKind.SERVER_ERROR, None),
        ("503 The usage limit has been reached", FailureKind.SERVER_ERROR, None),
        ("503 Our servers are currently overloaded.", FailureKind.OVERLOADED, None),
        ("Our servers are currently overloaded.", FailureKind.OVERLOADED, None),
        ("Connection error. (cause: fetch failed)", FailureKind.NETWORK, None),
        ("terminated (cause: other side closed)", FailureKind.NETWORK, None),
        ("Model stream ended without a finish reason.", FailureKind.SERVER_ERROR, None),
        ("in words nobody knows", FailureKind.UNKNOWN, None),
    ],
)
def test_a_failure_that_calls_itself_a_success_is_one(text: str, meant: FailureKind, reset_in_s: int | None) -> None:
    """Code 0, `subtype: success`, `is_error: false`: only the text tells, behind whatever was said before it."""
    for before in ("", "done", "All is "):
        for hint in ("", "\nPossible quota limitations in place. Please wait and try again later."):
            events = failed(text, before=before)
            events[1]["message"]["content"][0]["text"] += hint
            told = judged(QWEN, *events, code=0)
            assert isinstance(told, Failure)
            assert told.kind is meant
            assert told.reset_ms == (reset_in_s and ENDED_MS + reset_in_s * 1000)


@pytest.mark.parametrize(
    "text", [QUOTE, f"The log says {QUOTE}", f"{QUOTE} was all it said.", f"{QUOTE}\nSo I fixed it."]
)
def test_an_answer_that_quotes_an_error_is_an_answer(text: str) -> None:
    """The message has spent tokens: it is the model's, whatever it ends with."""
    assert judged(QWEN, INIT, said(text), result(text), code=0) == Success(text)


DAILY = "Qwen OAuth quota exceeded: Your free daily quota has been reached."
ADVICE = f"{DAILY}\n\nTo go on without waiting, upgrade to the plan:\n  https://example.com/plan\n\nThen run /auth."


@pytest.mark.parametrize("text", [DAILY, ADVICE])
def test_the_days_limit_is_read_without_brackets_too(text: str) -> None:
    """In place of an answer, in the result alone, on either stream, with or without an end, whatever the code."""
    message, end = said(text, NOTHING), result(text, NOTHING)
    uncounted = {key: value for key, value in end.items() if key != "usage"}
    runs = [
        judged(QWEN, INIT, message, end, code=0),
        judged(QWEN, INIT, message, uncounted, code=0),
        judged(QWEN, INIT, end, code=0),
        judged(QWEN, INIT, message, code=0),
        judged(QWEN, INIT, message, code=1),
        judged(QWEN, INIT, message, end | {"is_error": True}, code=1),
        *(judged(QWEN, code=code, **{name: f"{text}\n"}) for code in (0, 1) for name in ("out", "err")),
        judged(QWEN, *failed(text), code=0),
    ]
    for told in runs:
        assert isinstance(told, Failure)
        assert (told.kind, told.window, told.rule) == (FailureKind.USAGE_LIMIT, "daily", "qwen.daily")


@pytest.mark.parametrize("text", [DAILY, ADVICE, f"He was told:\n{DAILY}", "Connection error. I mended it."])
def test_an_answer_that_speaks_of_the_days_limit_is_an_answer(text: str) -> None:
    """Tokens were spent on it, or a tool was used for it; and where no tokens are told, it must begin with it."""
    tool = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t"}], "usage": NOTHING}}
    uncounted = {key: value for key, value in result(text).items() if key != "usage"}
    assert judged(QWEN, INIT, said(text), result(text), code=0) == Success(text)
    assert judged(QWEN, INIT, tool, said(text, NOTHING), uncounted, code=0) == Success(text)
    if not text.startswith(DAILY):
        assert judged(QWEN, INIT, said(text, NOTHING), uncounted, code=0) == Success(text)


@pytest.mark.parametrize("text", [f"{QUOTE} was all it said.", "[API Error: is what it begins with"])
def test_an_error_within_a_text_is_none(text: str) -> None:
    """Also where the provider tells no counts: Qwen Code puts its error at the end."""
    assert isinstance(judged(QWEN, INIT, said(text, NOTHING), result(text), code=0), Success)


def test_a_failure_that_was_overcome_is_none() -> None:
    """With work behind it, the success stands."""
    work = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t"}], "usage": SPENT}}
    assert isinstance(judged(QWEN, *failed("500 no")[:2], work, said("done"), result("done"), code=0), Success)


def test_a_success_that_spent_nothing_is_none() -> None:
    """Nobody was asked."""
    event = result("done") | {"usage": NOTHING}
    assert kind(judged(QWEN, INIT, said("done"), event, code=0)) is FailureKind.NO_RESULT


@pytest.mark.parametrize("untold", [{"input_tokens": "9", "output_tokens": 0}, {"input_tokens": 0}, {}, None])
def test_a_success_that_does_not_tell_its_cost_is_one(untold: dict[str, int] | None) -> None:
    """What is missing, or no number, is not zero."""
    event = result("done") | {"usage": untold}
    assert judged(QWEN, INIT, said("done"), event, code=0) == Success("done")


def test_code_0_without_a_result_is_no_success() -> None:
    """Whatever it has said."""
    assert kind(judged(QWEN, INIT, said("done"), code=0)) is FailureKind.NO_RESULT


@pytest.mark.parametrize(
    "text", ["Missing API key for OpenAI-compatible auth. Set it.", "No auth type is selected. Please configure one."]
)
def test_without_a_login_it_says_so(text: str) -> None:
    """The one failure that it calls one."""
    event = {"type": "result", "subtype": "error_during_execution", "is_error": True, "error": {"message": text}}
    assert kind(judged(QWEN, event)) is FailureKind.AUTH_ERROR


@pytest.mark.parametrize(
    "err",
    [
        "No saved session found with ID bbbb. Run `qwen --resume` without an ID to choose from existing sessions.",
        "Error: Session Id aaaa is already in use.",
    ],
)
def test_a_session_that_cannot_be_had_costs_nothing(err: str) -> None:
    """Gone, or its id taken: the next attempt begins anew, and the tier is not blamed."""
    told = judged(QWEN, err=err)
    assert isinstance(told, Failure)
    assert told.lost_session


@pytest.mark.parametrize(
    ("code", "err", "meant"),
    [
        (53, "Reached max session turns for this session.", FailureKind.INVALID_REQUEST),
        (1, "Unknown argument: nonsense\nUsage: qwen [options] [command]", FailureKind.CRASH),
        (143, "Operation cancelled.", FailureKind.CRASH),
    ],
)
def test_other_ends_are_known_by_code_or_word(code: int, err: str, meant: FailureKind) -> None:
    """They come without an event."""
    assert kind(judged(QWEN, INIT, code=code, err=err)) is meant


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ({"error_message": "500 The server had an error", "status_code": 500}, FailureKind.SERVER_ERROR),
        ({"error_message": "503 Our servers are currently overloaded.", "status_code": 503}, FailureKind.OVERLOADED),
        (
            {"error_message": "Rate limit reached for m. Please try again in 9s.", "status_code": 429},
            FailureKind.RATE_LIMIT,
        ),
        ({"error_message": "429 The usage limit has been reached", "status_code": 429}, FailureKind.USAGE_LIMIT),
        ({"error_message": "no words", "error_type": "APIConnectionError"}, FailureKind.NETWORK),
    ],
)
def test_a_run_that_is_killed_while_it_retries_is_judged_by_why(event: dict[str, Any], meant: FailureKind) -> None:
    """Seven tries that only its chat log tells of; how long to wait is not told, for it has waited."""
    told = read(QWEN, row({"event.name": "qwen-code.api_error"} | event), source=Source.TRANSCRIPT)
    signals = [item for item in told if isinstance(item, Signal)]
    assert [signal.mark for signal in signals] == [Mark.RETRY]
    verdict = QWEN.verdict(End(137, ENDED_MS), signals)
    assert isinstance(verdict, Failure)
    assert (verdict.kind, verdict.reset_ms) == (meant, None)


def test_a_failure_from_before_the_run_is_history() -> None:
    """The log of a resumed session holds its old failures, and its old answers with their old keys."""
    old = row({"event.name": "qwen-code.api_error", "error_message": "500 no"})
    assert read(QWEN, old, source=Source.TRANSCRIPT, run_started_ms=ENDED_MS + 10**6) == []
    assert read(QWEN, answered(), source=Source.TRANSCRIPT, run_started_ms=ENDED_MS + 10**6) != []


def test_an_answer_is_counted_by_type() -> None:
    """Cached input is taken out of the input; thoughts are part of the output."""
    (item,) = read(QWEN, answered(), source=Source.TRANSCRIPT)
    assert item == Usage("u-1", Tokens(1200, 42, 800), "mock-model", "s-1", 1_795_329_808_036)


def test_every_answer_is_counted_and_no_sum() -> None:
    """Those of subagents and of the background too, for the account pays; the sums of a result go on with a session's."""
    beside = answered(uuid="u-2", systemPayload=answered()["systemPayload"] | {"x": 1})
    assert len(read(QWEN, answered(), beside, source=Source.TRANSCRIPT)) == 2
    told = read(QWEN, INIT, said("done"), result("done"))
    assert not [item for item in told if isinstance(item, Usage) or item.mark is Mark.TOTAL]


def test_a_forked_session_is_counted_once() -> None:
    """Its log repeats the rows under another session, with the ids that they had."""
    fork = answered(sessionId="s-2", parentUuid="x", forkedFrom={"sessionId": "s-1", "messageUuid": "u-1"})
    found = read(QWEN, answered(), fork, source=Source.TRANSCRIPT)
    assert [item.key for item in found if isinstance(item, Usage)] == ["u-1", "u-1"]


@pytest.mark.parametrize(
    "told",
    [
        answered(uuid=""),
        answered(uuid=7),
        answered(subtype="other"),
        row({"event.name": "qwen-code.api_response", "input_token_count": 0}),
        row({"event.name": "qwen-code.tool_call", "input_token_count": 5}),
        {"uuid": "u", "usageMetadata": {"promptTokenCount": 2000}, "x": "qwen-code.api_response"},
    ],
)
def test_only_a_named_answer_that_cost_something_counts(told: dict[str, Any]) -> None:
    """What has no key could be counted twice; a message's own count is that of its answer once more."""
    assert read(QWEN, told, source=Source.TRANSCRIPT) == []


def test_one_line_with_all_events_is_read_like_many() -> None:
    """`--output-format json` among the tier's args."""
    events = failed("401 no")
    whole = QWEN.read(line(json.dumps(events).encode()))
    assert whole == tuple(item for event in events for item in QWEN.read(line(event)))
    assert whole


def test_chat_logs_are_found_by_the_session() -> None:
    """Below the home, or where another folder for what a run writes was named."""
    seat = Seat("t", home=Path("/h"))
    assert QWEN.sources(seat, Path("/w"), "s-1", ENV) == ("/h/projects/*/chats/s-1.jsonl",)
    assert QWEN.histories(Seat("t"), ENV) == ("/home/dev/.qwen/projects/*/chats/*.jsonl",)
    assert QWEN.histories(seat, ENV | {"QWEN_RUNTIME_DIR": "/r"}) == ("/r/projects/*/chats/*.jsonl",)
    assert QWEN.histories(seat, ENV | {"QWEN_RUNTIME_DIR": "rel"}) == ("/h/projects/*/chats/*.jsonl",)
    assert QWEN.session_of(Path("/h/projects/-w/chats/s-1.jsonl")) == "s-1"
    assert QWEN.credentials(Seat("t"), ENV)[0] == Path("/home/dev/.qwen/oauth_creds.json")
