"""Runners that are not locum's own: what they tell, and what they hear."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.daemon import answering, problem

COUNTED = {"input": 900, "output": 200, "cache_read": 0, "cache_write": 0, "total": 1100}
ANSWER = {
    "schema": 1,
    "go_on": True,
    "reason": None,
    "until": None,
    "chain": "default",
    "tier": "a",
    "active_tier": "a",
    "last_failure_kind": None,
    "percent": 34.5,
    "duplicate": False,
    "counted": COUNTED,
}
STOP = {
    **ANSWER,
    "go_on": False,
    "reason": "locum: every tier\nis held",
    "until": "2026-11-22T04:50:00Z",
    "active_tier": None,
}


def hearing(answer):
    """A daemon that answers a report."""
    return {("POST", "/hooks/post-task"): answer}


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ((), {}),
        (("--input", "9"), {"tokens": {"input": 9, "output": 0, "cache_read": 0, "cache_write": 0}}),
        (("--input", "0"), {"tokens": {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0}}),
        (
            ("--output", "1", "--cache-read", "2", "--cache-write", "3"),
            {"tokens": {"input": 0, "output": 1, "cache_read": 2, "cache_write": 3}},
        ),
        (("--chain", "c", "--tier", "t", "--session", "s"), {"chain": "c", "tier": "t", "session": "s"}),
        (("--model", "m", "--provider", "p", "--cost", "0.25"), {"model": "m", "provider": "p", "cost_usd": 0.25}),
        (("--cost", "0"), {"cost_usd": 0.0}),
        (("--failure", "crash"), {"failure": {"kind": "crash"}}),
        (
            ("--failure", "usage_limit", "--message", "no more", "--reset", "2h"),
            {"failure": {"kind": "usage_limit", "message": "no more", "reset_at": "2026-11-22T04:50:00Z"}},
        ),
        (
            ("--failure", "usage_limit", "--reset", "2026-11-22T06:00:00+02:00"),
            {"failure": {"kind": "usage_limit", "reset_at": "2026-11-22T04:00:00Z"}},
        ),
        (
            ("--failure", "usage_limit", "--reset", "2020-01-01T00:00:00Z"),
            {"failure": {"kind": "usage_limit", "reset_at": "2020-01-01T00:00:00Z"}},
        ),
    ],
)
def test_what_is_told_is_sent_and_nothing_else(cli, tmp_path, args, body):
    """What nobody told is left out, tokens above all: unknown is not 0, and 0 is not unknown."""
    with answering(tmp_path / "locum.sock", hearing(ANSWER)) as daemon:
        assert cli("report", "--id", "n1", *args).exit_code == 0
    assert daemon.asked == [("POST", "/hooks/post-task", {"id": "n1", **body})]


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (
            ANSWER,
            0,
            (
                "counted 1,100 tokens for tier a of chain default\n"
                "go on: chain default runs on a, 34.5 % of its budget is used\n"
            ),
        ),
        (
            {**ANSWER, "percent": None, "active_tier": "b", "duplicate": True},
            0,
            "reported before, 1,100 tokens more for tier a of chain default\ngo on: chain default runs on b\n",
        ),
        (
            {**ANSWER, "chain": None, "tier": None, "active_tier": None, "percent": None},
            0,
            "counted 1,100 tokens for no tier (name one with --tier NAME)\ngo on\n",
        ),
        (STOP, 75, "counted 1,100 tokens for tier a of chain default\nstop: every tier is held\n"),
    ],
)
def test_the_runner_hears_whether_to_go_on(cli, tmp_path, answer, code, says):
    """A loop in a shell needs the exit code alone; people read what was counted and why to stop, on one line each."""
    with answering(tmp_path / "locum.sock", hearing(answer)):
        found = cli("report", "--id", "n1", "--input", "1100")
        assert (found.exit_code, found.output) == (code, says)
        found = cli("report", "--id", "n1", "--json")
        assert (found.exit_code, json.loads(found.output)) == (code, answer)


def test_tokens_that_nobody_told_are_not_said_to_be_none(cli, tmp_path):
    """The daemon's sum of nothing is not shown as if the work had been free."""
    with answering(tmp_path / "locum.sock", hearing({**ANSWER, "counted": dict.fromkeys(COUNTED, 0)})):
        found = cli("report", "--id", "n1").output
    assert found.startswith("counted a piece of work whose usage is unknown for tier a of chain default\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "the report has no id"),
        (("--id", ""), "the report has no id"),
        (("--id", "n", "--input", "-1"), "--input"),
        (("--id", "n", "--input", "many"), "--input"),
        (("--id", "n", "--cost", "-1"), "the cost is not an amount"),
        (("--id", "n", "--cost", "nan"), "the cost is not an amount"),
        (("--id", "n", "--cost", "inf"), "the cost is not an amount"),
        (("--id", "n", "--message", "x"), "--message and --reset tell of a failure"),
        (("--id", "n", "--reset", "2h"), "--message and --reset tell of a failure"),
        (("--id", "n", "--failure", "operator"), "--failure"),
        (("--id", "n", "--failure", "typo"), "--failure"),
        (("--id", "n", "--failure", "crash", "--reset", "soon"), "'soon' is no moment"),
        (("--id", "n", "--failure", "crash", "--reset", "0001-01-01T00:00:00+14:00"), "is no moment"),
        (("n1",), "'n1' is not understood here"),
        (("-", "--id", "n"), "told twice"),
    ],
)
def test_a_report_that_is_not_understood_is_not_sent(cli, tmp_path, args, says):
    """Each slip is told before anything is counted, with exit code 2."""
    with answering(tmp_path / "locum.sock", hearing(ANSWER)) as daemon:
        found = cli("report", *args, input="{}")
    assert (found.exit_code, says in found.stderr, daemon.asked) == (2, True, [])


def test_a_whole_report_is_passed_on_as_it_is(cli, tmp_path):
    """What a program writes reaches the daemon, keys that this version does not know too: the daemon judges them."""
    body = {"id": "ü", "tokens": {"input": 1}, "later": [1.5, None]}
    with answering(tmp_path / "locum.sock", hearing(STOP)) as daemon:
        assert cli("report", "-", input=json.dumps(body)).exit_code == 75
    assert daemon.asked[0][2] == body


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "[" * 60_000, '{"a": "\ud800"'.encode("utf-8", "surrogatepass"), " " * 70_000]
)
def test_what_is_no_report_is_refused(cli, text):
    """Nothing but a JSON object of bounded size is passed on."""
    found = cli("report", "-", input=text)
    assert (found.exit_code, "the report is" in found.stderr) == (2, True)


@pytest.mark.parametrize(("code", "exit_code"), [("forbidden", 77), ("not_found", 1), ("usage", 2)])
def test_a_refusal_is_not_taken_for_a_stop(cli, tmp_path, code, exit_code):
    """An agent that names another's tier exits with 77, a name that is not there with 1: neither is 75, nor 0."""
    with answering(tmp_path / "locum.sock", hearing((400, problem(code, "no", "Do this.")))):
        assert cli("report", "--id", "n").exit_code == exit_code


def test_without_a_daemon_the_runner_hears_that(cli):
    """A loop can tell a daemon that is down (69) from one that says stop (75)."""
    assert cli("report", "--id", "n").exit_code == 69
