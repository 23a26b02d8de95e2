"""Steering chains from the command line."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.daemon import answering, problem

STATUS = {"chains": {"default": {}, "side": {}}}
HOLD = {"kind": "operator", "until": "2026-11-22T04:50:00Z", "reason": "upkeep"}
LIFTED = {"tier": "one", "kind": "operator", "target": "tier:one"}
BUMPED = {"chain": "default", "active_tier": "two", "tier": "one", "hold": HOLD, "already_held": False}


def steered(verb, answer, chain="default"):
    """A daemon that answers one order."""
    return {("GET", "/status"): STATUS, ("POST", f"/chains/{chain}/{verb}"): answer}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (BUMPED, "one is held by the operator, until 04:50 (in 2 h): upkeep; active tier of default: two\n"),
        (
            {**BUMPED, "active_tier": None},
            "one is held by the operator, until 04:50 (in 2 h): upkeep; default has no tier to run on\n",
        ),
        (
            {**BUMPED, "already_held": True},
            "one was held already, now by the operator, until 04:50 (in 2 h): upkeep; active tier of default: two\n",
        ),
    ],
)
def test_bump_says_what_is_held_and_what_takes_over(cli, tmp_path, answer, says):
    """The person learns whether work goes on, and where; a repetition says that it is one."""
    with answering(tmp_path / "locum.sock", steered("bump", answer)) as daemon:
        found = cli("bump", "--tier", "one", "--for", "2h", "--reason", "upkeep")
    assert (found.exit_code, found.output) == (0, says)
    assert daemon.asked[-1][2] == {"tier": "one", "for": "2h", "reason": "upkeep"}


@pytest.mark.parametrize("length", ["3661d", "9" * 30 + "d", "9" * 50 + "s", "0s", "tomorrow", "2 h", ""])
def test_a_length_that_cannot_be_is_refused_with_the_limits(cli, tmp_path, length):
    """Too long, too short and no length at all are told with what can be written, before anything is asked."""
    with answering(tmp_path / "locum.sock", steered("bump", BUMPED)) as daemon:
        found = cli("bump", "--for", length)
    assert (found.exit_code, daemon.asked) == (2, [])
    assert "is no length of time for --for" in found.stderr
    assert "such as 90s, 2h or 1h30m: from 1s to 3660d." in found.stderr


@pytest.mark.parametrize("length", ["1s", "3660d"])
def test_the_limits_that_are_told_are_taken(cli, tmp_path, length):
    """What the refusal names as possible is."""
    with answering(tmp_path / "locum.sock", steered("bump", BUMPED)) as daemon:
        assert cli("bump", "--for", length).exit_code == 0
    assert daemon.asked[-1][2]["for"] == length


@pytest.mark.parametrize(
    ("lifted", "says"),
    [
        ([], "nothing was held; active tier of default: one\n"),
        ([LIFTED], "1 hold lifted: one (operator); active tier of default: one\n"),
        (
            [LIFTED, {"tier": "two", "kind": "auth_error", "target": "account:a"}],
            "2 holds lifted: one (operator), two (auth_error); active tier of default: one\n",
        ),
        (
            [{"tier": "one", "kind": "token_budget", "target": "chain:default"}, LIFTED],
            ("2 holds lifted: the halt of chain default (token_budget), one (operator); active tier of default: one\n"),
        ),
    ],
)
def test_release_says_what_was_lifted(cli, tmp_path, lifted, says):
    """Nothing to lift is no error; what held every tier is not told as if it had held one."""
    answer = {"chain": "default", "active_tier": "one", "released": lifted}
    with answering(tmp_path / "locum.sock", steered("release", answer)) as daemon:
        found = cli("release", "default", "--kind", "operator")
    assert (found.exit_code, found.output) == (0, says)
    assert daemon.asked == [("POST", "/chains/default/release", {"tier": None, "kind": "operator"})]


@pytest.mark.parametrize(
    ("verb", "answer", "says"),
    [
        ("pause", {"already_paused": False}, "side is paused\n"),
        ("pause", {"already_paused": True}, "side was paused already\n"),
        ("resume", {"already_running": False}, "side takes tasks again\n"),
        ("resume", {"already_running": True}, "side was not paused\n"),
    ],
)
def test_pause_and_resume_say_whether_anything_changed(cli, tmp_path, verb, answer, says):
    """Either can be typed twice."""
    with answering(tmp_path / "locum.sock", steered(verb, {"chain": "side", **answer}, "side")):
        assert cli(verb, "side").output == says


def test_reload_of_a_bad_file_exits_with_78(cli, tmp_path):
    """The problem is told, and that the old configuration goes on."""
    answer = {"result": "rejected", "path": "/s.json", "problems": ["/s.json:1:1: no."], "warnings": []}
    with answering(tmp_path / "locum.sock", {("POST", "/reload"): answer}):
        found = cli("reload")
    assert found.exit_code == 78
    assert "/s.json:1:1: no." in found.stderr
    assert "last good" in found.stderr


@pytest.mark.parametrize("verb", ["bump", "release", "pause", "resume"])
def test_json_is_what_the_daemon_said(cli, tmp_path, verb):
    """Programs get the daemon's answer unchanged."""
    with answering(tmp_path / "locum.sock", steered(verb, BUMPED)):
        assert json.loads(cli(verb, "--json").output) == BUMPED


def test_a_reload_tells_its_result_and_warnings(cli, tmp_path):
    """A file that is used but does less than it says is used, with a warning and exit code 0."""
    answer = {"result": "applied", "path": "/s.json", "problems": [], "warnings": ["/s.json:1:1: warning: x."]}
    with answering(tmp_path / "locum.sock", {("POST", "/reload"): answer}):
        assert cli("reload").output == "/s.json:1:1: warning: x.\n/s.json: applied\n"
        assert json.loads(cli("reload", "--json").output) == answer


def test_an_agent_that_steers_is_refused_with_77(cli, tmp_path):
    """What the daemon forbids exits as not permitted."""
    refusal = (403, problem("forbidden", "an agent may read and submit", "Run it elsewhere."))
    with answering(tmp_path / "locum.sock", steered("bump", refusal)):
        assert cli("bump", "default").exit_code == 77


def test_a_kind_that_does_not_exist_is_a_usage_error(cli):
    """Mistyped kinds are caught before anything is asked."""
    assert cli("release", "--kind", "nonsense").exit_code == 2
