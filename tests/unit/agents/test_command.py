"""Any program: its argv, its small protocol and its exit codes."""

from __future__ import annotations

from typing import Any

import pytest

from locum.agents.base import End, Mark, Seat, Signal, Success
from locum.agents.bill import Bill
from locum.agents.command import ProgramAgent
from locum.agents.rules import parse_rules
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage
from tests.unit.agents.build import ENDED_MS, judged, kind, launch, read

AGENT = ProgramAgent()
OK = {"type": "result", "status": "ok"}
BROKEN = {"type": "result", "status": "error"}


def failure(name: str = "auth_error", **more: Any) -> dict[str, Any]:
    """A failure as a program tells it."""
    return {"type": "failure", "kind": name, "message": "no key", **more}


def test_placeholders_are_filled_once_and_other_braces_stay() -> None:
    """What a placeholder brings in is not filled again; the prompt itself never enters the argv."""
    seat = Seat(
        "t",
        model="{cwd}",
        command=("./a", "{prompt_file}", "--m={model}", "{cwd}:{run}", "{session}", "{prompt}", "{}"),
    )
    command = AGENT.command(launch(seat, prompt="{model}"))
    assert command.argv == ("./a", "/runs/1/prompt.md", "--m={cwd}", "/srv/project:run-1", "fresh-id", "{prompt}", "{}")
    assert command.stdin == b"{model}"


def test_usage_is_keyed_by_run_and_id_or_place() -> None:
    """Read again after a restart the same line is the same key; another run's is another."""
    line = {"type": "usage", "id": "m1", "model": "x", "input": 900, "output": 200, "cache_read": 0, "cache_write": 0}
    assert read(AGENT, line, run="r") == [Usage("r:m1", Tokens(900, 200), "x")]
    unnamed = {"type": "usage", "input": 5}
    assert read(AGENT, unnamed, run="r", offset=70) == [Usage("r@70", Tokens(5))]
    assert read(AGENT, unnamed, run="q", offset=70) == [Usage("q@70", Tokens(5))]


def test_a_program_that_says_it_spent_nothing_is_believed() -> None:
    """Zero that was told is known; half a zero tells nothing."""
    for line, known in (({"type": "usage", "input": 0, "output": 0}, True), ({"type": "usage", "input": 0}, False)):
        bill = Bill()
        for told in read(AGENT, line, run="r"):
            bill.take(told)
        assert bill.is_known(AGENT, Success()) is known


@pytest.mark.parametrize(
    "line",
    [
        b"plain text",
        b'{"type":"usage","input":-5}',
        b'{"type":"usage","input":"5"}',
        b'{"type":"usage","input":5.5}',
        b'{"type":"usage","input":true}',
        b'{"type":"usage","input":5,"output":"many"}',
        b'{"type":"usage"}',
        b'{"type":"usage","input":0}',
        b'{"type":"result","status":"great"}',
        b'{"type":"result"}',
        b'{"type":"hello"}',
        b'{"type":["usage"]}',
        b'["usage"]',
    ],
)
def test_a_malformed_line_is_plain_output(line: bytes) -> None:
    """It counts nothing and tells nothing."""
    assert read(AGENT, line) == []


@pytest.mark.parametrize(
    ("events", "code", "expected"),
    [
        ([], 0, None),
        ([], 1, FailureKind.CRASH),
        ([], 75, FailureKind.CRASH),
        ([], 127, FailureKind.CRASH),
        ([], -9, FailureKind.CRASH),
        ([], None, FailureKind.CRASH),
        ([{"type": "usage", "input": 5}], 0, None),
        ([{"type": "usage", "input": 5}], 3, FailureKind.CRASH),
        ([OK], 0, None),
        ([OK], 143, None),
        ([OK], None, None),
        ([OK], 3, FailureKind.CRASH),
        ([BROKEN], 0, FailureKind.UNKNOWN),
        ([failure()], 0, FailureKind.AUTH_ERROR),
        ([failure()], 1, FailureKind.AUTH_ERROR),
        ([failure()], None, FailureKind.AUTH_ERROR),
        ([failure(), BROKEN], 1, FailureKind.AUTH_ERROR),
        ([failure(), OK], 0, None),
        ([OK, failure("overloaded")], 0, FailureKind.OVERLOADED),
        ([failure("sunspots")], 1, FailureKind.UNKNOWN),
        ([failure("operator")], 1, FailureKind.UNKNOWN),
        ([failure("token_budget")], 1, FailureKind.UNKNOWN),
    ],
)
def test_the_table_of_ends(events: list[dict[str, Any]], code: int | None, expected: FailureKind | None) -> None:
    """The last word of the protocol decides, then the exit code; kinds that are locum's own are not taken."""
    assert kind(judged(AGENT, *events, code=code)) is expected


@pytest.mark.parametrize(("code", "remedy"), [(127, "the tier's `command`"), (126, "check its permissions")])
def test_a_program_that_cannot_be_started_says_what_to_mend(code: int, remedy: str) -> None:
    """The remedy names a key that a tier of this agent may have."""
    told = judged(AGENT, code=code)
    assert isinstance(told, Failure)
    assert remedy in told.evidence
    assert "`program`" not in told.evidence


def test_a_failure_carries_what_it_told() -> None:
    """Kind, message, reset, window and model are the program's own."""
    told = judged(AGENT, failure("usage_limit", reset_at="2026-11-22T09:39:11Z", window="five_hour", model="big"))
    assert told == Failure(
        FailureKind.USAGE_LIMIT,
        evidence="no key",
        rule="failure:usage_limit",
        reset_ms=1_795_340_351_000,
        window="five_hour",
        model="big",
    )


def test_a_bad_reset_or_window_is_dropped_and_the_failure_kept() -> None:
    """Half a failure is still one."""
    told = judged(AGENT, failure("usage_limit", reset_at="soon", window="fortnight"))
    assert isinstance(told, Failure)
    assert (told.kind, told.reset_ms, told.window) == (FailureKind.USAGE_LIMIT, None, None)


def test_what_it_said_is_its_output_without_the_protocol() -> None:
    """The hand-over shows words, not protocol lines."""
    out = 'working\n{"type":"usage","input":5}\n{"answer": 42}\ndone\n{"type":"result","status":"ok"}\n'
    assert AGENT.verdict(End(0, ENDED_MS, out), [Signal(Mark.DONE)]) == Success('working\n{"answer": 42}\ndone')
    failed = AGENT.verdict(End(1, ENDED_MS, out), [])
    assert isinstance(failed, Failure)
    assert failed.said == 'working\n{"answer": 42}\ndone'


def test_a_result_names_the_session() -> None:
    """A safe session id is told, an unsafe one is not."""
    assert read(AGENT, OK | {"session": "s-1"}) == [Signal(Mark.SESSION, "s-1"), Signal(Mark.DONE)]
    assert read(AGENT, OK | {"session": "../s"}) == [Signal(Mark.DONE)]


def test_users_rules_read_what_it_wrote() -> None:
    """Without the protocol a user's rule can tell the kind, its reset included."""
    own = parse_rules([{"id": "mine", "agent": "command", "kind": "usage_limit", "pattern": "LIMIT", "reset": True}])
    told = judged(ProgramAgent(own), code=3, err="oops\nLIMIT: retry in 30s\n")
    assert isinstance(told, Failure)
    assert (told.kind, told.rule, told.reset_ms) == (FailureKind.USAGE_LIMIT, "mine", ENDED_MS + 30_000)
    assert isinstance(judged(ProgramAgent(own), code=0, out="LIMIT"), Success)
