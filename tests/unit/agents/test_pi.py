"""pi: what starts it, one count for each answer wherever it is told, and failures that end with code 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import End, Mark, Seat, Signal, Source, Success, Verdict
from locum.agents.pi import Pi
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, launch, read

AGENT = Pi()
USED = {"input": 1200, "output": 42, "cacheRead": 800, "cacheWrite": 7, "totalTokens": 2049}
NOTHING = dict.fromkeys(USED, 0)


def answer(reason: str = "stop", text: str = "done", used: dict[str, int] = USED, **more: Any) -> dict[str, Any]:
    """A message of the model's."""
    content = [{"type": "text", "text": text}] if text else []
    told = {"role": "assistant", "content": content, "model": "m", "usage": used, "stopReason": reason}
    return {**told, "timestamp": ENDED_MS, "responseId": "r1", **more}


def ended(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that a prompt ends with whose last message this is: most of them repeat it."""
    return [
        {"type": "message_start", "message": message},
        {"type": "message_update", "message": message, "assistantMessageEvent": {"partial": message}},
        {"type": "message_end", "message": message},
        {"type": "turn_end", "message": message},
        {"type": "agent_end", "messages": [message]},
    ]


def failed(message: str) -> list[dict[str, Any]]:
    """The events of a prompt that failed."""
    return ended(answer("error", "", NOTHING, errorMessage=message))


def refusal(message: str, status: int, at: int | None = ENDED_MS, **more: Any) -> dict[str, Any]:
    """What our extension tells of it."""
    return {"locum": "refusal", "message": message, "at": at, "statusCode": status, **more}


def verdict(*events: dict[str, Any], code: int | None = 0, err: str = "", spent: Tokens | None = None) -> Verdict:
    """The verdict on a run that told `events`, each where it is told, in this order."""
    signals: list[Signal] = []
    for event in events:
        source = Source.ERR if "locum" in event else Source.OUT
        signals += [item for item in read(AGENT, event, source=source) if isinstance(item, Signal)]
    return AGENT.verdict(End(code, ENDED_MS, err_tail=err, tokens=spent or Tokens()), signals)


def failure(*events: dict[str, Any], code: int | None = 0, err: str = "") -> Failure:
    """The failure of such a run."""
    told = verdict(*events, code=code, err=err)
    assert isinstance(told, Failure)
    return told


def test_a_run_takes_the_prompt_from_stdin_and_our_extension() -> None:
    """Its own retries are switched off by a file, for it has no flag; a session is named to be resumed."""
    seat = Seat("t", model="acme/large", args=("--thinking", "low"), home=Path("/h"), env={"PI_TELEMETRY": "1"})
    command = AGENT.command(launch(seat, resume="s-1"))
    assert command.argv == (
        *("pi", "-p", "--mode", "json", "-e", "/runs/1/given/locum.js"),
        *("--model", "acme/large", "--thinking", "low", "--session", "s-1"),
    )
    assert command.stdin == b"say done"
    assert set(command.files) == {"locum.js", "refusal.js"}
    assert (command.env["PI_CODING_AGENT_DIR"], command.env["PI_TELEMETRY"]) == ("/h", "1")


def test_sessions_and_logins_are_looked_for_where_the_agent_keeps_them() -> None:
    """Its home moves them all, a folder of its own moves the sessions; an id that is no id finds nothing."""
    env = {"HOME": "/u", "PI_CODING_AGENT_SESSION_DIR": "/s"}
    assert AGENT.sources(Seat("t"), Path("/w"), "a-1", env) == ("/u/.pi/agent/sessions/*/*_a-1.jsonl", "/s/*_a-1.jsonl")
    assert AGENT.sources(Seat("t"), Path("/w"), "*", env) == ()
    assert AGENT.histories(Seat("t", home=Path("/h")), {}) == ("/h/sessions/*/*.jsonl",)
    assert AGENT.session_of(Path("/s/2026-11-22T15-01-21-493Z_01a203c6-abd4.jsonl")) == "01a203c6-abd4"
    assert AGENT.credentials(Seat("t"), env) == (Path("/u/.pi/agent/auth.json"), Path("/u/.pi/agent/models.json"))


def test_an_answer_is_counted_once_wherever_it_is_told() -> None:
    """Of all events one counts, and the session's file, and a fork of it with another session, give the same key."""
    told = [item for item in read(AGENT, *ended(answer()), session="s-1") if isinstance(item, Usage)]
    key = f"message:{ENDED_MS}:r1"
    assert told == [Usage(key, Tokens(1200, 42, 800, 7), "m", "s-1", ENDED_MS)]
    row = {"type": "message", "id": "1f5d8e8f", "message": answer()}
    (again,) = read(AGENT, row, source=Source.TRANSCRIPT, session="a-fork")
    assert isinstance(again, Usage)
    assert again.key == key


def test_answers_of_a_server_that_repeats_its_ids_are_told_apart() -> None:
    """Some servers draw an answer's id from a handful: the moment makes it one."""
    messages = [answer(timestamp=at) for at in (ENDED_MS, ENDED_MS + 1)] + [answer(responseId=None)]
    told = read(AGENT, *({"type": "message_end", "message": message} for message in messages))
    assert len({item.key for item in told if isinstance(item, Usage)}) == 3


@pytest.mark.parametrize("broken", [{"timestamp": None}, {"timestamp": 1e12}, {"usage": NOTHING}, {"role": "user"}])
def test_what_cannot_be_counted_once_is_not_counted(broken: dict[str, Any]) -> None:
    """Without a moment it could be counted twice; without a cost, or said by somebody else, there is nothing."""
    told = read(AGENT, {"type": "message_end", "message": answer() | broken})
    assert not [item for item in told if isinstance(item, Usage)]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("401 Incorrect API key provided.", FailureKind.AUTH_ERROR),
        ("429 Rate limit reached for m. Please try again in 1s.", FailureKind.RATE_LIMIT),
        ("429 The usage limit has been reached", FailureKind.USAGE_LIMIT),
        ("429 You exceeded your current quota, please check your plan", FailureKind.CREDIT_EXHAUSTED),
        ("400 Your input exceeds the context window of this model.", FailureKind.CONTEXT_OVERFLOW),
        ("400 Invalid value", FailureKind.INVALID_REQUEST),
        ("404 The model `m` does not exist", FailureKind.MODEL_UNAVAILABLE),
        ("503 Our servers are currently overloaded.", FailureKind.OVERLOADED),
        ("500 The server had an error; rate limit", FailureKind.SERVER_ERROR),
        ("Connection error.", FailureKind.NETWORK),
        ("terminated", FailureKind.NETWORK),
        ("something new", FailureKind.UNKNOWN),
    ],
)
def test_code_0_hides_no_failure(message: str, kind: FailureKind) -> None:
    """It ends with code 0 whatever the provider said: the status in its sentence, then the sentence, decide."""
    assert failure(*failed(message)).kind is kind


@pytest.mark.parametrize("first", [True, False], ids=["sentence first", "refusal first"])
def test_a_refusals_code_and_reset_are_added_to_its_sentence(first: bool) -> None:
    """Whichever stream is read first, the code names the kind and the body the reset."""
    body = json.dumps({"error": {"type": "usage_limit_reached", "resets_at": 1_795_370_000}})
    ours = refusal("429 The usage limit has been reached", 429, responseBody=body)
    theirs = failed("429 The usage limit has been reached")
    told = failure(*((*theirs, ours) if first else (ours, *theirs)))
    assert (told.kind, told.reset_ms) == (FailureKind.USAGE_LIMIT, 1_795_370_000_000)
    assert told.evidence == "The usage limit has been reached"


def test_a_success_needs_the_end_and_an_answer() -> None:
    """A page of HTML ends as "stop" too, without a word and without a cost: that was no answer."""
    assert isinstance(verdict(*ended(answer())), Success)
    assert failure(*ended(answer())[:-1]).kind is FailureKind.NO_RESULT
    empty = ended(answer("stop", "", NOTHING))
    assert failure(*ended(answer("toolUse"))[:-1], *empty).rule == "agent_end:empty"


@pytest.mark.parametrize("reason", ["length", "toolUse", "", None])
def test_an_end_that_is_no_stop_is_no_success(reason: str | None) -> None:
    """An answer that ran out of room has not finished the work."""
    assert failure(*ended(answer() | {"stopReason": reason})).kind is FailureKind.NO_RESULT


def test_a_retry_of_its_own_is_told_and_forgotten_when_it_works() -> None:
    """Where our extension could not switch them off, whoever watches bounds them."""
    retry = {"type": "auto_retry_start", "attempt": 1, "errorMessage": "503 Service Unavailable"}
    (told,) = read(AGENT, retry)
    assert told == Signal(Mark.RETRY, "Service Unavailable", status=503, rule="auto_retry_start")
    assert failure(retry, code=None).kind is FailureKind.SERVER_ERROR
    assert isinstance(verdict(*failed("503 Service Unavailable"), retry, *ended(answer())), Success)


@pytest.mark.parametrize(
    ("err", "rule", "kind"),
    [
        ("No API key found for openai.\n\nUse /login to log in", "pi.no_login", FailureKind.AUTH_ERROR),
        ('Error: Model "a/b" not found. Use --list-models', "pi.no_such_model", FailureKind.MODEL_UNAVAILABLE),
        ("No session found matching 's-1'", "pi.lost_session", FailureKind.INVALID_REQUEST),
    ],
)
def test_what_keeps_it_from_starting_is_on_standard_error(err: str, rule: str, kind: FailureKind) -> None:
    """These end with code 1 and no event at all."""
    told = failure(code=1, err=err)
    assert (told.rule, told.kind, told.lost_session) == (rule, kind, rule == "pi.lost_session")
