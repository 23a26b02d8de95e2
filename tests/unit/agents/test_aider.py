"""aider: exit code 0 after every failure, errors in prose, tokens in a log, and answers that quote all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locum.agents.aider import Aider
from locum.agents.base import Agent, End, Line, Seat, Signal, Source, Success, Verdict
from locum.agents.replay import Reading, lines_of
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, kind, launch, read

AGENT: Agent = Aider()
NO_CREDIT = '{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}'
HEAD = "Aider v0.86.2\nModel: openai/gpt-5 with diff edit format\nGit repo: .git with 3 files\nRepo-map: disabled\n\n"
SENT = "\nTokens: 2.0k sent, 42 received.\n"
BUSY = "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached. Please try again in 20s.\n"
LIMITED = "The API provider has rate limited you. Try again later or check your quotas.\n"
AGAIN = f"{BUSY}{LIMITED}Retrying in 0.2 seconds...\n"
ASKED: dict[str, Any] = {"event": "message_send_starting", "properties": {}, "time": 1_795_329_551}
EXIT: dict[str, Any] = {"event": "exit", "properties": {"reason": "Completed --message-file"}, "time": 1_795_329_552}


def sent(prompt: int = 2000, model: str = "openai/REDACTED", **more: Any) -> dict[str, Any]:
    """The row of an answer."""
    told = {"main_model": model, "prompt_tokens": prompt, "completion_tokens": 42, "total_tokens": prompt + 42}
    return {"event": "message_send", "properties": told | more, "time": 1_795_329_551}


def log(*rows: dict[str, Any]) -> bytes:
    """The analytics log."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def reading(out: str, rows: bytes) -> Reading:
    """A run that wrote `out` and `rows`, the log read first, as the runner does at each look."""
    made = Reading(AGENT)
    for source, data in ((Source.TRANSCRIPT, rows), (Source.OUT, out.encode())):
        for line in lines_of(source, data):
            made.take(line)
    return made


def judged(out: str, *rows: dict[str, Any], code: int | None = 0, err: str = "") -> Verdict:
    """The verdict on it."""
    return reading(out, log(*rows)).verdict(End(code, ENDED_MS, out, err))


def test_the_prompt_lies_in_a_file_and_histories_beside_it() -> None:
    """Nothing of aider's is written into the work tree but what it edits, and nothing is committed or fetched."""
    command = AGENT.command(launch(Seat("t", model="openai/x", args=("--map-tokens", "0"), home=Path("/h"))))
    assert command.argv[4:8] == ("aider", "--message-file", "/runs/1/prompt.md", "--yes-always")
    assert command.argv[-6:] == (
        *("--model-settings-file", "/runs/1/given/models.yml", "--model", "openai/x"),
        *("--map-tokens", "0"),
    )
    assert {"--no-stream", "--no-auto-commits", "--no-dirty-commits", "--no-gitignore"} < set(command.argv)
    assert {command.env[f"AIDER_{name}_FILE"] for name in ("CHAT_HISTORY", "INPUT_HISTORY")} == {
        "/runs/1/given/chat.md",
        "/runs/1/given/input",
    }
    assert command.env["HOME"] == "/h"
    assert b"max_retries: 0" in command.files["models.yml"]


def test_the_log_is_of_this_run_whatever_the_tier_says() -> None:
    """A log that runs share would count each of them again in the next."""
    command = AGENT.command(launch(Seat("t", env={"AIDER_ANALYTICS_LOG": "/shared", "AIDER_INPUT_HISTORY_FILE": "/i"})))
    assert command.env["AIDER_ANALYTICS_LOG"] == "/runs/1/given/analytics.jsonl"
    assert command.env["AIDER_INPUT_HISTORY_FILE"] == "/i"
    assert AGENT.sources(Seat("t"), Path("/w"), "", command.env) == ("/runs/1/given/analytics.jsonl",)
    assert AGENT.sources(Seat("t"), Path("/w"), "", {"AIDER_ANALYTICS_LOG": "relative"}) == ()
    assert AGENT.sources(Seat("t"), Path("/w"), "s", {"AIDER_ANALYTICS_LOG": "/r[1]/log"}) == ("/r[[]1]/log",)


def test_it_has_no_sessions_and_keeps_no_history_of_what_was_spent() -> None:
    """Nothing to resume, nothing to import; its keys may lie in three files."""
    assert not AGENT.can_resume
    assert AGENT.histories(Seat("t"), {"HOME": "/h"}) == ()
    assert AGENT.session_of(Path("/h/.aider/analytics.json")) == ""
    assert AGENT.credentials(Seat("t", home=Path("/x")), {"HOME": "/h"})[0] == Path("/x/.aider.conf.yml")
    assert AGENT.credentials(Seat("t"), {"HOME": "/h"})[2] == Path("/h/.aider/oauth-keys.env")


def test_each_answer_is_counted_by_its_place_in_the_log() -> None:
    """Two answers with the same counts are two; read again they are the same two; another run's are others."""
    rows = log(ASKED, sent(), ASKED, sent(), EXIT)
    lines = [Line(Source.TRANSCRIPT, each.data, each.offset, "run-1") for each in lines_of(Source.TRANSCRIPT, rows)]
    used = [item for line in lines * 2 for item in AGENT.read(line) if isinstance(item, Usage)]
    assert [each.tokens for each in used] == [Tokens(2000, 42)] * 4
    assert len({each.key for each in used}) == 2
    assert all(each.key.startswith("run-1:") for each in used)
    assert {each.at_ms for each in used} == {1_795_329_551_000}


@pytest.mark.parametrize(("told", "model"), [("openai/REDACTED", None), ("gpt-5", "gpt-5"), (None, None)])
def test_a_models_name_is_told_only_when_it_is_one(told: str | None, model: str | None) -> None:
    """Of models that LiteLLM does not list, aider keeps the name to itself."""
    (used,) = [item for item in read(AGENT, sent(model=told), source=Source.TRANSCRIPT) if isinstance(item, Usage)]  # type: ignore[arg-type]
    assert used.model == model


def test_an_answered_message_and_an_end_are_a_success() -> None:
    """What it said is its answer, without what aider prints beside it."""
    told = judged(f"{HEAD}I painted the fence.{SENT}", ASKED, sent(), EXIT)
    assert told == Success("I painted the fence.")


def test_without_a_log_the_line_of_tokens_is_the_sign() -> None:
    """The run succeeded; how much it spent is not known, for that line is rounded."""
    out = f"{HEAD}done\n{SENT}"
    assert isinstance(judged(out), Success)
    assert not reading(out, b"").usage_known(judged(out))
    assert kind(judged(out, code=1)) is FailureKind.UNKNOWN


def test_code_zero_after_a_failure_is_a_failure() -> None:
    """It ends with 0 whatever happened, and its log says that it is done."""
    error = "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided.\n"
    told = judged(f"{HEAD}{error}The API provider is not able to authenticate you.\n", ASKED, EXIT)
    assert kind(told) is FailureKind.AUTH_ERROR


def test_silence_and_an_end_without_an_answer_are_no_result() -> None:
    """It may end for reasons of its own, which its log names."""
    told = judged(HEAD, EXIT | {"properties": {"reason": "Unknown edit format"}})
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NO_RESULT, "exit:unanswered")
    assert "Unknown edit format" in told.evidence


def test_an_answer_that_quotes_an_error_is_none() -> None:
    """What the model says comes before the line that tells what it cost."""
    quoted = f"Your log has:\n{AGAIN}Only 3 reflections allowed, stopping.\nModel gpt-5 has hit a token limit!\n"
    assert isinstance(judged(f"{HEAD}{quoted}{SENT}", ASKED, sent(), EXIT), Success)
    assert isinstance(judged(f"{HEAD}{quoted}{SENT}"), Success)


def test_a_retry_that_was_answered_is_forgotten() -> None:
    """A later end, or a later kill, is judged by itself."""
    out = f"{HEAD}{AGAIN}done\n{SENT}"
    assert isinstance(judged(out, ASKED, sent(), EXIT), Success)
    assert kind(judged(out, ASKED, sent(), code=137)) is FailureKind.CRASH


def test_the_second_message_of_a_run_may_fail() -> None:
    """Aider reflects on what the linter says: the first answer is no success of the run."""
    told = judged(f"{HEAD}done\n{SENT}{BUSY}{LIMITED}", ASKED, sent(), ASKED, EXIT)
    assert isinstance(told, Failure)
    assert (told.kind, told.reset_ms) == (FailureKind.RATE_LIMIT, ENDED_MS + 20_000)


def test_a_helper_that_fails_after_the_answer_is_no_failure() -> None:
    """Summaries fail in the same words, and the work is done."""
    assert isinstance(judged(f"{HEAD}done\n{SENT}{AGAIN}", ASKED, sent(), EXIT), Success)


@pytest.mark.parametrize("code", [143, -15, 137, None])
def test_killed_while_it_tried_again_it_failed_of_what_it_retried(code: int | None) -> None:
    """For a minute it does nothing else; the wait that it was told has passed by then."""
    told = judged(f"{HEAD}{AGAIN * 3}", ASKED, code=code)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule, told.reset_ms) == (FailureKind.RATE_LIMIT, "litellm:RateLimitError", None)


def test_an_error_that_was_broken_into_lines_is_read_whole() -> None:
    """A terminal is 80 characters wide, and the sentence decides."""
    wrapped = "litellm.InternalServerError: InternalServerError: OpenAIException - Connection \nerror.\nRetrying in 0.2 seconds...\n"
    assert kind(judged(HEAD + wrapped, ASKED, code=143)) is FailureKind.NETWORK


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("RateLimitError: RateLimitError: OpenAIException - You exceeded your current quota", "credit_exhausted"),
        ("RateLimitError: RateLimitError: OpenAIException - The usage limit has been reached", "usage_limit"),
        ("BadRequestError: AnthropicException - Your credit balance is too low to access", "credit_exhausted"),
        (f"BadRequestError: AnthropicException - {NO_CREDIT}", "credit_exhausted"),
        (f"BadRequestError: AnthropicException - b'{NO_CREDIT}'", "credit_exhausted"),
        ('InternalServerError: AnthropicException - {"error":{"message":"Overloaded"}}', "overloaded"),
        ('BadRequestError: AnthropicException - {"error":{"message":"a test says: Your credit balance is too low"}}',
         "invalid_request"),
        ("BadRequestError: OpenAIException - Your input exceeds the context window of this", "context_overflow"),
        ("BadRequestError: OpenAIException - Invalid schema for response_format", "invalid_request"),
        ("ServiceUnavailableError: ServiceUnavailableError: OpenAIException - Our servers are currently overloaded.",
         "overloaded"),
        ("InternalServerError: InternalServerError: OpenAIException - rate limit reached", "server_error"),
        ("NotFoundError: OpenAIException - The model `x` does not exist", "model_unavailable"),
        ("Timeout: APITimeoutError - Request timed out.", "network"),
        ("APIError: APIError: OpenAIException - Country, region, or territory not supported", "auth_error"),
        ("APIError: APIError: OpenAIException - something new", "unknown"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_errors_are_named_by_their_type_and_then_their_sentence(said: str, expected: str) -> None:
    """LiteLLM's own name of the error first; a server's failure that speaks of limits stays one."""
    assert kind(judged(f"{HEAD}litellm.{said}\n" if said else HEAD, ASKED, code=143 if said else 3)) == expected


def test_work_that_could_not_be_applied_is_no_result() -> None:
    """The model answered four times, and its edits fit nowhere; aider ends with 0."""
    out = f"{HEAD}x\n{SENT}The LLM did not conform to the edit format.\nOnly 3 reflections allowed, stopping.\n"
    told = judged(out, ASKED, sent(), EXIT)
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (FailureKind.NO_RESULT, "reflections")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Total tokens: ~260,100 of 258,000 -- possibly exhausted context window!", "context_overflow"),
        ("Output tokens: ~8,100 of 8,192 -- possibly exceeded output limit!", "no_result"),
    ],
)
def test_a_token_limit_ends_the_run(line: str, expected: str) -> None:
    """An answer that was cut off is told as sent; which limit it hit decides what it means."""
    out = f"{HEAD}half of it\n{SENT}\nModel openai/gpt-5 has hit a token limit!\nToken counts below are approximate.\n\n{line}\n"
    assert kind(judged(out, ASKED, sent(), EXIT)) == expected


def test_an_exception_of_its_own_is_told() -> None:
    """It prints the trace and goes to its end, with code 0."""
    broken = {"event": "message_send_exception", "properties": {"exception": "list index out of range"}}
    told = judged(f"{HEAD}Traceback (most recent call last):\nIndexError\n", ASKED, broken, EXIT)
    assert isinstance(told, Failure)
    assert (told.kind, told.evidence) == (FailureKind.UNKNOWN, "list index out of range")


def test_a_failed_run_hands_over_what_was_said_and_not_its_errors() -> None:
    """The next agent is told of the failure by us."""
    told = judged(f"{HEAD}The fence is half green.\n{SENT}{AGAIN}", ASKED, sent(), ASKED, code=143)
    assert isinstance(told, Failure)
    assert told.said == "The fence is half green."


def test_progress_ends_the_retrying() -> None:
    """The line that tells the cost is a sign of life, whether or not there is a log."""
    items = read(AGENT, b"Tokens: 8.1k sent, 300 cache write, 1.2k cache hit, 484 received. Cost: $0.01 message")
    assert [item.tokens for item in items if isinstance(item, Signal)] == [None, Tokens(8_100, 484)]
