"""Gemini CLI: its command, its exit codes, what counts, and what only looks like an end."""

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

GEMINI = AGENTS["gemini"]
ENV = {"HOME": "/home/dev"}
INIT = {"type": "init", "session_id": "4dc83fc1-9295", "model": "gemini-2.5-flash"}
STATS = {"total_tokens": 2042, "input_tokens": 2000, "output_tokens": 32, "cached": 800, "input": 1200}
DONE = {"type": "result", "status": "success", "stats": STATS}
SAID = {"type": "message", "role": "assistant", "content": "done", "delta": True}
DAILY = "[API Error: You have exhausted your daily quota on this model.]\nPlease wait and try again later."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
REPORT = "Error when talking to Gemini API Full report available at: /run/tmp/gemini-client-error-x.json"


def failed(message: str) -> dict[str, Any]:
    """The result of a run that failed with `message`."""
    return {"type": "result", "status": "error", "error": {"type": "unknown", "message": message}, "stats": {}}


def body(code: int, message: str, **more: Any) -> str:
    """The provider's answer, as it is shown where Gemini CLI has no words of its own."""
    return f"[API Error: {json.dumps({'error': {'code': code, 'message': message, **more}})}]"


def test_the_command_is_headless_and_chooses_the_session() -> None:
    """No prompt in the argv; nobody is asked; the id is ours, so a killed run can be gone on with."""
    command = GEMINI.command(launch(Seat("t", model="gemini-2.5-flash", args=("--debug",), home=Path("/h"))))
    assert command.argv == (
        *("gemini", "--output-format", "stream-json", "-m", "gemini-2.5-flash", "--session-id", "fresh-id"),
        *("--approval-mode", "yolo", "--skip-trust", "--debug"),
    )
    assert command.stdin == b"say done"
    assert command.env["GEMINI_CLI_HOME"] == "/h"
    resumed = GEMINI.command(launch(Seat("t"), resume="s-1")).argv
    assert resumed[3:5] == ("--resume", "s-1")
    assert "--session-id" not in resumed


def test_retries_are_ours_and_all_else_is_the_users() -> None:
    """Its settings are the system's defaults, which every other file of settings overrules, and so does the tier."""
    command = GEMINI.command(launch(Seat("t")))
    assert command.env["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"] == "/runs/1/given/gemini.json"
    assert json.loads(command.files["gemini.json"])["general"]["maxAttempts"] == 1
    own = Seat("t", env={"GEMINI_CLI_SYSTEM_DEFAULTS_PATH": "/mine.json"})
    assert GEMINI.command(launch(own)).env["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"] == "/mine.json"


@pytest.mark.parametrize(
    ("code", "text", "meant", "rule"),
    [
        (144, "no", FailureKind.INVALID_REQUEST, "status:400"),
        (144, "API key not valid. Please pass a valid API key.", FailureKind.AUTH_ERROR, "gemini.bad_key"),
        (145, "no", FailureKind.AUTH_ERROR, "status:401"),
        (146, "no", FailureKind.CREDIT_EXHAUSTED, "status:402"),
        (147, "no", FailureKind.AUTH_ERROR, "status:403"),
        (157, "no", FailureKind.CONTEXT_OVERFLOW, "status:413"),
        (173, "no", FailureKind.RATE_LIMIT, "status:429"),
        (244, "no", FailureKind.SERVER_ERROR, "status:500"),
        (247, "The service is currently unavailable.", FailureKind.SERVER_ERROR, "status:503"),
        (247, "The model is overloaded. Please try again later.", FailureKind.OVERLOADED, "gemini.overloaded"),
        # A server that has failed also speaks of quotas, and is not believed.
        (247, "You have exhausted your daily quota on this model.", FailureKind.SERVER_ERROR, "status:503"),
        (17, "no", FailureKind.OVERLOADED, "status:529"),
        (1, "models/gemini-9 is not found for API version v1beta.", FailureKind.MODEL_UNAVAILABLE, None),
        (1, "terminated", FailureKind.NETWORK, None),
        (1, "no", FailureKind.UNKNOWN, None),
    ],
)
def test_the_exit_code_is_the_status(code: int, text: str, meant: FailureKind, rule: str | None) -> None:
    """Of the HTTP status eight bits are left; with the sentence beside it, it says what failed, and is no signal."""
    told = judged(GEMINI, INIT, failed(f"[API Error: {text}]"), code=code)
    assert kind(told) is meant
    assert isinstance(told, Failure)
    assert rule in (None, told.rule)


@pytest.mark.parametrize("code", [144, 145, 147, 173, 244, 247])
def test_the_exit_code_speaks_where_nothing_else_does(code: int) -> None:
    """A run that told nothing at all was not killed by a signal of a number that nobody knows."""
    assert judged(GEMINI, code=code) == judged(GEMINI, INIT, code=code)
    assert kind(judged(GEMINI, code=code)) is not FailureKind.CRASH


@pytest.mark.parametrize("code", [137, 139, 143, -15])
def test_a_signal_is_a_signal(code: int) -> None:
    """No HTTP status leaves the bits of the common ones."""
    assert kind(judged(GEMINI, INIT, code=code)) is FailureKind.CRASH


@pytest.mark.parametrize(
    ("code", "err", "meant"),
    [
        (41, "Invalid auth method selected.", FailureKind.AUTH_ERROR),
        (42, "No input provided via stdin.", FailureKind.INVALID_REQUEST),
        (52, "Invalid settings", FailureKind.CRASH),
        (53, "Reached max session turns for this session.", FailureKind.INVALID_REQUEST),
        (1, "Unknown argument: nonsense\nUsage: gemini [options] [command]", FailureKind.CRASH),
    ],
)
def test_its_own_exit_codes_are_known(code: int, err: str, meant: FailureKind) -> None:
    """They come without an event."""
    told = judged(GEMINI, code=code, err=err)
    assert kind(told) is meant


@pytest.mark.parametrize(
    "err",
    [
        'Error resuming session: Invalid session identifier "bbbb".\n  Searched for sessions in /h/.gemini/tmp/w/chats.',
        'Error starting session: Session ID "aaaa" already exists. Use --resume to resume it, or provide another ID.',
    ],
)
def test_a_session_that_cannot_be_had_costs_nothing(err: str) -> None:
    """Gone, or its id taken: the next attempt begins anew, and the tier is not blamed."""
    told = judged(GEMINI, code=42, err=f"YOLO mode is enabled.\n{err}")
    assert isinstance(told, Failure)
    assert told.lost_session


def test_a_bad_key_is_a_400_with_a_reason() -> None:
    """The reason is typed, and says more than the status."""
    details = [{"@type": "x", "reason": "API_KEY_INVALID"}]
    told = judged(GEMINI, INIT, failed(body(400, "in words nobody knows", details=details)), code=144)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.AUTH_ERROR, "reason:API_KEY_INVALID")


def test_a_refusal_is_found_within_json() -> None:
    """By itself, in a list, or as the message of another: what Google said decides, and the run's model is held."""
    day = "Quota exceeded for quota metric 'Gemini 2.5 Pro Requests' and limit 'Gemini 2.5 Pro Requests per day'"
    error = {"error": {"code": 429, "message": day}}
    whole = json.dumps(error, indent=2)
    for shown in (day, whole, json.dumps([error]), json.dumps({"error": {"code": 429, "message": whole}})):
        for text in (shown, f"[API Error: {shown}]"):
            told = judged(GEMINI, INIT, failed(text), code=1)
            assert isinstance(told, Failure)
            assert (told.kind, told.window, told.model) == (FailureKind.USAGE_LIMIT, "daily", "gemini-2.5-flash")
            assert told.evidence == day
    hollow = judged(GEMINI, INIT, failed(json.dumps([{"error": {"code": 503, "message": "{}"}}])), code=1)
    assert kind(hollow) is FailureKind.SERVER_ERROR


@pytest.mark.parametrize(
    ("text", "meant", "window", "reset_in_s", "model"),
    [
        (DAILY, FailureKind.USAGE_LIMIT, "daily", None, "gemini-2.5-flash"),
        (
            "[API Error: You have exhausted your capacity on this model. Your quota will reset after 8h44m7s.]",
            *(FailureKind.USAGE_LIMIT, None, 8 * 3600 + 44 * 60 + 7, "gemini-2.5-flash"),
        ),
        (
            "[API Error: You have exhausted your capacity on this model. Your quota will reset after 5s.]",
            *(FailureKind.RATE_LIMIT, None, 5, None),
        ),
        (
            f"[API Error: {QUOTA} Please retry in 30s.\nSuggested retry after 30s.]\nPlease wait and try again later.",
            *(FailureKind.RATE_LIMIT, None, 30, None),
        ),
    ],
)
def test_a_quota_is_told_from_a_throttle(
    text: str, meant: FailureKind, window: str | None, reset_in_s: int | None, model: str | None
) -> None:
    """A day's quota and hours of waiting are a limit, of the one model asked for; seconds are a throttle."""
    told = judged(GEMINI, INIT, failed(text), code=173)
    assert isinstance(told, Failure)
    assert (told.kind, told.window, told.model) == (meant, window, model)
    assert told.reset_ms == (reset_in_s and ENDED_MS + reset_in_s * 1000)


def test_a_model_that_nobody_named_is_not_made_up() -> None:
    """Without an init the account is held, and not a model called this."""
    told = judged(GEMINI, failed(DAILY), code=173)
    assert isinstance(told, Failure)
    assert told.model is None


def test_code_0_without_a_result_is_no_success() -> None:
    """So it ends when it is told to stop, by either signal."""
    assert kind(judged(GEMINI, INIT, SAID, code=0)) is FailureKind.NO_RESULT


def test_a_stream_that_was_cut_is_no_success() -> None:
    """It ends with code 0, and says why in an event of its own."""
    error = {"type": "error", "severity": "error", "message": "Model stream ended without a finish reason."}
    told = judged(GEMINI, INIT, SAID, error, {"type": "result", "status": "error", "stats": STATS}, code=0)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.SERVER_ERROR, "gemini.unreadable_answer")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "severity": "warning", "message": "Agent execution blocked: no model today"},
        {"type": "error", "severity": "warning", "message": "Loop detected, stopping execution"},
        {"type": "tool_result", "tool_id": "t", "error": {"type": "stop_execution", "message": "budget"}},
        {"type": "error", "severity": "error", "message": "Maximum session turns exceeded"},
    ],
)
def test_what_was_stopped_is_no_success(event: dict[str, Any]) -> None:
    """It says "success" behind all of these; with an answer between the two, the success is one."""
    assert isinstance(judged(GEMINI, INIT, SAID, event, DONE, code=0), Failure)
    assert isinstance(judged(GEMINI, INIT, event, SAID, DONE, code=0), Success)


def test_an_answer_that_quotes_an_error_is_an_answer() -> None:
    """What the model says is not searched."""
    said = SAID | {"content": "The log says [API Error: You have exhausted your daily quota on this model.]"}
    assert isinstance(judged(GEMINI, INIT, said, DONE, code=0), Success)


def test_what_is_said_in_pieces_is_one_answer() -> None:
    """The pieces of the last message, and of no message before it."""
    tool = {"type": "tool_use", "tool_id": "t"}
    before, after = ([SAID | {"content": text} for text in texts] for texts in (("I ", "see. "), ("All ", "done.")))
    told = judged(GEMINI, INIT, *before, tool, *after, DONE, code=0)
    assert told == Success("All done.")


@pytest.mark.parametrize(
    ("err", "meant"),
    [
        (
            'Attempt 3 failed with status 500. Retrying with backoff... _ApiError: {"error":{"code":500,"message":"x"}}',
            FailureKind.SERVER_ERROR,
        ),
        (
            f"Attempt 1 failed: {QUOTA} Please retry in 30s.",
            FailureKind.RATE_LIMIT,
        ),
        (
            "Attempt 1 failed. Retrying with backoff... Error: exception TypeError: fetch failed sending request",
            FailureKind.NETWORK,
        ),
    ],
)
def test_a_run_that_is_stopped_while_it_retries_is_judged_by_why(err: str, meant: FailureKind) -> None:
    """It says so on standard error only, and ends with code 0; how long to wait is not told, for it has waited."""
    signals = [item for item in GEMINI.read(line(err.encode(), Source.ERR)) if isinstance(item, Signal)]
    assert [signal.mark for signal in signals] == [Mark.RETRY]
    stopped = GEMINI.verdict(End(0, ENDED_MS), signals)
    assert isinstance(stopped, Failure)
    assert (stopped.kind, stopped.reset_ms) == (meant, None)


def test_what_standard_error_complains_of_is_not_the_end() -> None:
    """A request beside the conversation may fail; only where standard output told no end is this one."""
    complaint = f"{REPORT} TerminalQuotaError: You have exhausted your daily quota on this model."
    said = [item for item in read(GEMINI, INIT, SAID, DONE) if isinstance(item, Signal)]
    complained = [item for item in read(GEMINI, complaint.encode(), source=Source.ERR) if isinstance(item, Signal)]
    for signals in (said + complained, complained + said, said[:2] + complained + said[2:]):
        assert isinstance(GEMINI.verdict(End(0, ENDED_MS), signals), Success)
    assert kind(GEMINI.verdict(End(173, ENDED_MS), said[:1] + complained)) is FailureKind.USAGE_LIMIT


def test_one_piece_of_json_is_read_as_a_whole() -> None:
    """`--output-format json` among the tier's args: the answer and the session are found."""
    whole = json.dumps({"session_id": "s-1", "response": "done", "stats": {}}, indent=2)
    assert judged(GEMINI, code=0, out=f"{whole}\n") == Success("done")
    (session,) = [item for row in whole.splitlines() for item in GEMINI.read(line(row.encode()))]
    assert isinstance(session, Signal)
    assert (session.mark, session.text) == (Mark.SESSION, "s-1")
    error = json.dumps({"session_id": "s-1", "error": {"message": "The model is overloaded."}})
    assert kind(judged(GEMINI, code=0, out=error)) is FailureKind.OVERLOADED


KEY = {"error": {"code": 400, "message": "no such key", "details": [{"reason": "API_KEY_INVALID"}]}}
BARE = [
    (KEY, FailureKind.AUTH_ERROR),
    ({"error": {"code": 401, "message": "Request had invalid credentials.", "status": "X"}}, FailureKind.AUTH_ERROR),
    ({"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota)."}}, FailureKind.RATE_LIMIT),
    ({"error": {"code": 429, "message": DAILY.partition("\n")[0]}}, FailureKind.USAGE_LIMIT),
    ({"error": {"code": 503, "message": "The model is overloaded. Please try again later."}}, FailureKind.OVERLOADED),
    ({"session_id": "s-1", "error": {"type": "Error", "message": DAILY, "code": 429}}, FailureKind.USAGE_LIMIT),
    ({"session_id": "s-1", "error": {"type": "Error", "message": json.dumps(KEY)}}, FailureKind.AUTH_ERROR),
]


@pytest.mark.parametrize(("error", "meant"), BARE)
@pytest.mark.parametrize("indent", [None, 2])
def test_an_error_that_is_printed_as_bare_json_is_read(error: dict[str, Any], meant: FailureKind, indent: int) -> None:
    """On either stream, on one line or many, behind anything else, in a list: whatever the code, it is that failure."""
    text = json.dumps(error, indent=indent)
    status = error["error"].get("code", 400) & 255
    for shown in (
        text,
        f"[{text}]\n",
        f"ApiError: {text}",
        f"    at async main (file:1:2) {{\n  status: 429\n}}\n{text}\n",
    ):
        for code in (0, 1, status):
            for told in (judged(GEMINI, INIT, code=code, err=shown), judged(GEMINI, code=code, out=shown)):
                assert isinstance(told, Failure)
                assert (told.kind, told.evidence[:1]) == (meant, told.evidence[:1].strip("{[")), told


@pytest.mark.parametrize(("error", "meant"), BARE)
def test_an_error_in_place_of_an_answer_is_one_if_nothing_was_spent(error: dict[str, Any], meant: FailureKind) -> None:
    """An answer that shows such JSON has spent tokens."""
    shown = SAID | {"content": json.dumps(error)}
    assert kind(judged(GEMINI, INIT, shown, DONE | {"stats": {"total_tokens": 0}}, code=0)) is meant
    assert judged(GEMINI, INIT, shown, DONE, code=0) == Success(shown["content"])


@pytest.mark.parametrize(
    "err",
    [
        json.dumps(BARE[2][0]) + "\nretried, and it went well",
        json.dumps({"error": "none"}),
        json.dumps({"error": {}}),
        json.dumps({"result": BARE[2][0]}),
        json.dumps({"type": "tool_result", "error": {"message": "429 is not found"}}),
        "{" * 16_000,
        '{"error":' * 1_000,
        json.dumps({"error": {"message": ["429"], "code": []}}),
    ],
)
def test_what_only_looks_like_such_an_error_decides_nothing(err: str) -> None:
    """It must be the last that was written, and an error; else the code decides, as without it."""
    assert kind(judged(GEMINI, INIT, code=1, err=err)) is FailureKind.UNKNOWN
    assert isinstance(judged(GEMINI, INIT, SAID, DONE, code=0, err=err), Success)
    assert kind(judged(GEMINI, code=42, err=err)) is FailureKind.INVALID_REQUEST


def test_its_own_exit_codes_say_more_than_the_json_beside_them() -> None:
    """A session that is gone is told on a line ahead of it; a login that is missing needs no code that is a status."""
    error = json.dumps({"session_id": "s-1", "error": {"type": "FatalInputError", "message": "gone", "code": 42}})
    lost = judged(GEMINI, code=42, err=f"Error resuming session: gone\n{error}\n")
    assert isinstance(lost, Failure)
    assert (lost.kind, lost.lost_session) == (FailureKind.INVALID_REQUEST, True)
    assert kind(judged(GEMINI, code=41, err=error)) is FailureKind.AUTH_ERROR
    odd = json.dumps({"error": {"message": "strange", "code": [], "details": 7}})
    assert kind(judged(GEMINI, code=1, err=odd)) is FailureKind.UNKNOWN


@pytest.mark.parametrize(
    ("code", "meant"), [(0, FailureKind.NO_RESULT), (1, FailureKind.UNKNOWN), (137, FailureKind.CRASH)]
)
def test_a_run_that_only_began_is_no_success(code: int, meant: FailureKind) -> None:
    """Its first event names a session as a whole answer does, and is none."""
    assert kind(judged(GEMINI, INIT, code=code, out=f"{json.dumps(INIT)}\n")) is meant


def test_its_own_sums_hold_the_thoughts() -> None:
    """They leave thoughts out of the output: what is not input is output."""
    (total,) = [item for item in read(GEMINI, DONE) if isinstance(item, Signal) and item.mark is Mark.TOTAL]
    assert total.tokens == Tokens(1200, 42, 800)


def test_a_sum_of_zero_takes_nothing_back() -> None:
    """A run cut short may tell zero, and what its messages cost is then the better count."""
    assert not [item for item in read(GEMINI, failed("terminated")) if isinstance(item, Signal) and item.tokens]


def test_a_success_that_spent_nothing_is_none() -> None:
    """A hook that denies the request leaves a success behind."""
    assert kind(judged(GEMINI, INIT, SAID, DONE | {"stats": {"total_tokens": 0}}, code=0)) is FailureKind.NO_RESULT


def test_a_session_that_goes_on_is_counted_once() -> None:
    """The log of a resumed session holds its old messages, some set anew: the same keys, whoever reads them."""
    used = {"input": 2000, "output": 32, "cached": 800, "thoughts": 10, "tool": 0, "total": 2042}
    row = {
        "id": "m-1",
        "type": "gemini",
        "tokens": used,
        "model": "gemini-2.5-flash",
        "timestamp": "2026-11-22T06:40:00Z",
    }
    rows = [row, row | {"toolCalls": []}, {"$set": {"messages": [row]}}]
    found = read(GEMINI, *rows, source=Source.TRANSCRIPT, session="s-1", run="r-2")
    assert {item.key for item in found if isinstance(item, Usage)} == {"m-1"}
    assert {item.session for item in found if isinstance(item, Usage)} == {"s-1"}


@pytest.mark.parametrize(("told", "session"), [({"kind": "main"}, ["s-1"]), ({}, ["s-1"]), ({"kind": "subagent"}, [])])
def test_a_chat_log_says_whose_it_is(told: dict[str, str], session: list[str]) -> None:
    """Its name has only the beginning of the id; a subagent's own id is none to go on with."""
    found = read(GEMINI, {"sessionId": "s-1", "projectHash": "x"} | told, source=Source.TRANSCRIPT)
    assert [item.text for item in found if isinstance(item, Signal)] == session


def test_chat_logs_are_found_by_the_beginning_of_the_id() -> None:
    """Those of all projects, as one is named by its folder's name; a home is another place for `.gemini`."""
    session = "4dc83fc1-9295-400a-b67d-ede5ae53f3db"
    chats = "/h/.gemini/tmp/*/chats"
    assert GEMINI.sources(Seat("t", home=Path("/h")), Path("/w"), session, ENV) == (
        f"{chats}/session-*-4dc83fc1.jsonl",
        f"{chats}/{session}/*.jsonl",
    )
    assert GEMINI.histories(Seat("t"), {"HOME": "/home/dev"}) == ("/home/dev/.gemini/tmp/*/chats/**/*.jsonl",)
    assert GEMINI.histories(Seat("t"), ENV | {"GEMINI_CLI_HOME": "/o"}) == ("/o/.gemini/tmp/*/chats/**/*.jsonl",)
    assert GEMINI.credentials(Seat("t"), ENV) == (Path("/home/dev/.gemini/oauth_creds.json"),)


def test_the_path_of_a_log_names_a_session_only_for_subagents() -> None:
    """They lie in a folder named by the session; of any other log the first row tells."""
    assert GEMINI.session_of(Path("/h/.gemini/tmp/w/chats/session-2026-11-22T06-40-4dc83fc1.jsonl")) == ""
    assert GEMINI.session_of(Path("/h/.gemini/tmp/w/chats/4dc83fc1-9295/a-1.jsonl")) == "4dc83fc1-9295"
