"""opencode: what starts it, what its events and our plugin tell, and an end that nothing announces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import Command, End, Mark, Seat, Signal, Source, Success, Verdict
from locum.agents.opencode import OpenCode
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, launch, read

AGENT = OpenCode()
USED = {"input": 1200, "output": 32, "reasoning": 10, "cache": {"read": 800, "write": 5}}
PLUGIN = "file:///runs/1/given/locum.js"


def step(reason: str, name: str = "prt_1", tokens: dict[str, Any] = USED) -> dict[str, Any]:
    """The event that a step ends with."""
    part = {"id": name, "sessionID": "ses_1", "reason": reason, "tokens": tokens}
    return {"type": "step_finish", "timestamp": ENDED_MS, "sessionID": "ses_1", "part": part}


def error(name: str, **data: Any) -> dict[str, Any]:
    """The event of an error."""
    return {"type": "error", "timestamp": ENDED_MS, "sessionID": "ses_1", "error": {"name": name, "data": data}}


def ours(what: str, **told: Any) -> dict[str, Any]:
    """A line of our plugin."""
    return {"locum": what, **told}


def verdict(*events: dict[str, Any], code: int | None, err: str = "") -> Verdict:
    """The verdict on a run that told `events`, each where it is told, in this order."""
    signals: list[Signal] = []
    for event in events:
        source = Source.ERR if "locum" in event else Source.OUT
        told = read(AGENT, event, source=source, session="ses_1")
        signals += [item for item in told if isinstance(item, Signal)]
    return AGENT.verdict(End(code, ENDED_MS, err_tail=err), signals)


def failure(*events: dict[str, Any], code: int | None = 1, err: str = "") -> Failure:
    """The failure of such a run."""
    told = verdict(*events, code=code, err=err)
    assert isinstance(told, Failure)
    return told


def config(command: Command) -> dict[str, Any]:
    """The settings a run gets by its environment."""
    settings: dict[str, Any] = json.loads(command.env["OPENCODE_CONFIG_CONTENT"])
    return settings


def test_a_fresh_run_has_a_title_and_our_plugin() -> None:
    """With a title it asks no model for one, which would be spent and not counted; the prompt is on standard input."""
    command = AGENT.command(launch(Seat("t", model="acme/large", args=("--thinking",))))
    assert command.argv == (
        *("opencode", "run", "--format", "json", "--auto", "-m", "acme/large", "--thinking"),
        *("--title", "locum run-1"),
    )
    assert command.stdin == b"say done"
    assert config(command) == {"plugin": [PLUGIN]}
    assert set(command.files) == {"locum.js", "refusal.js"}


def test_a_resumed_run_names_its_session() -> None:
    """The session has a title, and goes on."""
    assert AGENT.command(launch(Seat("t"), resume="ses_1")).argv[-2:] == ("-s", "ses_1")


@pytest.mark.parametrize("where", ["tier", "daemon"])
def test_the_users_own_settings_stay(where: str) -> None:
    """Settings that are given by the environment keep all their keys and plugins; ours comes last."""
    own = {"OPENCODE_CONFIG_CONTENT": json.dumps({"model": "acme/large", "plugin": ["theirs"]})}
    seat = Seat("t", env=own if where == "tier" else {})
    command = AGENT.command(replace(launch(seat), environ=own))
    assert config(command) == {"model": "acme/large", "plugin": ["theirs", PLUGIN]}


def test_the_tiers_settings_win_over_the_daemons() -> None:
    """As with every variable: what the tier says is what its agent gets."""
    seat = Seat("t", env={"OPENCODE_CONFIG_CONTENT": '{"model": "mine"}', "OPENCODE_DISABLE_AUTOUPDATE": "0"})
    command = AGENT.command(replace(launch(seat), environ={"OPENCODE_CONFIG_CONTENT": '{"model": "theirs"}'}))
    assert config(command)["model"] == "mine"
    assert command.env["OPENCODE_DISABLE_AUTOUPDATE"] == "0"


@pytest.mark.parametrize("broken", ["{// a comment", "[]", ""])
def test_settings_that_cannot_be_read_are_left_alone(broken: str) -> None:
    """They are opencode's to judge; nothing of the user's is thrown away for our plugin."""
    command = AGENT.command(launch(Seat("t", env={"OPENCODE_CONFIG_CONTENT": broken})))
    assert command.env["OPENCODE_CONFIG_CONTENT"] == broken


def test_a_home_of_its_own_isolates_login_and_sessions() -> None:
    """The folders are opencode's; XDG_CONFIG_HOME, where git and others look too, stays as it is."""
    seat = Seat("t", home=Path("/h"), env={"XDG_STATE_HOME": "/mine"})
    env = AGENT.command(launch(seat)).env
    assert (env["XDG_DATA_HOME"], env["XDG_STATE_HOME"]) == ("/h/.local/share", "/mine")
    assert "XDG_CONFIG_HOME" not in env
    assert AGENT.credentials(seat, {"XDG_DATA_HOME": "/x"}) == (Path("/h/.local/share/opencode/auth.json"),)
    assert AGENT.credentials(Seat("t"), {"XDG_DATA_HOME": "/x"}) == (Path("/x/opencode/auth.json"),)
    assert AGENT.credentials(Seat("t"), {"HOME": "/u"}) == (Path("/u/.local/share/opencode/auth.json"),)


def test_a_step_is_one_key_wherever_it_is_told() -> None:
    """Standard output and plugin name a step alike; reasoning is part of the output, the cache not of the input."""
    (told, _) = (item for item in read(AGENT, step("stop"), session="ses_1"))
    assert told == Usage("part:prt_1", Tokens(1200, 42, 800, 5), session="ses_1", at_ms=ENDED_MS)
    again = read(AGENT, ours("step_finish", **{**step("stop"), "type": None}), source=Source.ERR)
    assert again == [told]


def test_what_a_subagent_spends_is_counted_and_ends_nothing() -> None:
    """Its steps are told by the plugin alone; its "stop" is not the run's."""
    (told,) = read(
        AGENT, ours("step_finish", timestamp=ENDED_MS, part=step("stop", "prt_9")["part"]), source=Source.ERR
    )
    assert isinstance(told, Usage)


def test_a_step_that_ended_well_may_not_be_the_last() -> None:
    """After it a compaction goes on: killed then, the run is no success, unless the plugin has said it was done."""
    assert isinstance(verdict(step("stop"), code=0), Success)
    assert failure(step("stop"), code=143).kind is FailureKind.CRASH
    assert isinstance(verdict(step("stop"), ours("done"), code=143), Success)


def test_code_0_after_a_refusal_is_no_success() -> None:
    """A run that the plugin stopped ends with code 0; why it was stopped is what counts, whatever came before."""
    refused = {"message": "The usage limit has been reached", "statusCode": 429, "next": 5}
    told = failure(step("stop"), ours("retry", **refused), ours("stopped", **refused), code=0)
    assert (told.kind, told.rule) == (FailureKind.USAGE_LIMIT, "opencode.usage_limit")
    assert told.reset_ms is None  # when it would ask again is no reset


def test_a_retry_that_goes_on_is_told_with_its_reset() -> None:
    """What the provider asked for, by its header or its body, is when the limit is over."""
    body = json.dumps({"error": {"type": "usage_limit_reached", "resets_at": 1_795_370_000}})
    line = ours("retry", message="The usage limit has been reached", statusCode=429, responseBody=body)
    (told,) = read(AGENT, line, source=Source.ERR)
    assert isinstance(told, Signal)
    assert (told.mark, told.kind, told.reset_ms) == (Mark.RETRY, FailureKind.USAGE_LIMIT, 1_795_370_000_000)
    assert failure(line, code=None).reset_ms == 1_795_370_000_000


@pytest.mark.parametrize("first", [True, False], ids=["hidden first", "plain first"])
def test_an_error_that_hides_in_the_log_is_told_by_the_plugin(first: bool) -> None:
    """Whichever of both streams is read first, the plain words decide."""
    hidden = error("UnknownError", message="Unexpected server error. Check server logs for details.", ref="err_1")
    plain = ours("error", error={"name": "UnknownError", "data": {"message": "Model not found: nope/none."}})
    told = failure(*((hidden, plain) if first else (plain, hidden)))
    assert (told.kind, told.evidence) == (FailureKind.MODEL_UNAVAILABLE, "Model not found: nope/none.")
    alone = failure(hidden)
    assert (alone.kind, alone.evidence) == (
        FailureKind.UNKNOWN,
        "Unexpected server error. Check server logs for details.",
    )


def test_an_abort_says_nothing_of_why() -> None:
    """Our plugin aborts what retries: the abort must not hide the reason."""
    told = failure(
        ours("stopped", message="Cannot connect to API: no"), error("MessageAbortedError", message="Aborted")
    )
    assert told.kind is FailureKind.NETWORK
    assert failure(error("MessageAbortedError", message="Aborted")).kind is FailureKind.UNKNOWN


@pytest.mark.parametrize(
    ("event", "kind", "rule"),
    [
        (error("ContextOverflowError", message="x"), FailureKind.CONTEXT_OVERFLOW, "error:ContextOverflowError"),
        (error("ProviderAuthError", message="x"), FailureKind.AUTH_ERROR, "error:ProviderAuthError"),
        (error("APIError", message="x", statusCode=403), FailureKind.AUTH_ERROR, "status:403"),
        (error("APIError", message="x", statusCode=404), FailureKind.MODEL_UNAVAILABLE, "status:404"),
        (error("APIError", message="Rate limit", statusCode=503), FailureKind.SERVER_ERROR, "status:503"),
        (step("length"), FailureKind.NO_RESULT, "step_finish:length"),
        (step("content-filter"), FailureKind.NO_RESULT, "step_finish:content-filter"),
    ],
)
def test_an_end_is_judged_by_its_type(event: dict[str, Any], kind: FailureKind, rule: str) -> None:
    """Name, then status; an answer that ended early is none."""
    told = failure(event)
    assert (told.kind, told.rule) == (kind, rule)


def test_a_wait_that_was_asked_for_counts_from_the_error() -> None:
    """Seconds of a header are of no use without the moment they were told."""
    event = error("APIError", message="x", statusCode=429, responseHeaders={"retry-after": "30"})
    assert failure(event).reset_ms == ENDED_MS + 30_000


def test_an_answer_that_was_cut_off_is_a_mark_and_counted() -> None:
    """It asks again each time, for ever: whoever watches counts these."""
    usage, cut = read(AGENT, step("unknown"), session="ses_1")
    assert isinstance(usage, Usage)
    assert isinstance(cut, Signal)
    assert cut.mark is Mark.CUT
    assert failure(step("unknown", tokens={}), code=-15).kind is FailureKind.SERVER_ERROR


def test_tools_begin_by_the_plugin_and_end_by_either() -> None:
    """Standard output tells of a tool only when it has ended, so that a long one would look like silence."""
    told = read(AGENT, ours("tool", id="c1"), ours("tool_done", id="c1"), source=Source.ERR)
    told += read(AGENT, {"type": "tool_use", "sessionID": "ses_1", "part": {"callID": "c1"}}, session="ses_1")
    assert [item.mark for item in told if isinstance(item, Signal)] == [Mark.TOOL, Mark.TOOL_DONE, Mark.TOOL_DONE]


def test_the_session_is_told_once_by_whoever_knows_it_first() -> None:
    """A run that was refused at once says nothing on standard output, and can be resumed all the same."""
    assert read(AGENT, ours("session", sessionID="ses_1"), source=Source.ERR) == [Signal(Mark.SESSION, "ses_1")]
    assert read(AGENT, {"type": "step_start", "sessionID": "ses_1"}) == [Signal(Mark.SESSION, "ses_1")]
    assert read(AGENT, {"type": "step_start", "sessionID": "ses_1"}, session="ses_1") == []


def test_a_lost_session_is_known_through_its_colours() -> None:
    """The sentence comes with terminal colours."""
    told = failure(err="\x1b[91m\x1b[1mError: \x1b[0mSession not found\n")
    assert (told.rule, told.lost_session, told.evidence) == ("opencode.lost_session", True, "Error: Session not found")
