"""Importing from the command line: what is asked for, how progress is shown, and every way it can end."""

from __future__ import annotations

import json

import pytest

from locum.clock import SystemClock
from tests.unit.cli.daemon import answering, problem

COUNTED = {"input": 900, "output": 200, "cache_read": 0, "cache_write": 0, "total": 1100}
PROGRESS = {"files": 3, "bytes": 2_000_000, "files_known": 0, "counted": COUNTED}
HOME = {"agent": "claude-code", "folder": "/home/me/.claude/projects", "counted": COUNTED}
HOLD = {
    "chain": "default",
    "tier": "a",
    "kind": "token_budget",
    "until": None,
    "reason": "its budget\nis spent",
    "since": None,
    "target": "rung:default/a",
    "budget": "chain:default",
}
FULL = {"code": "state", "detail": "the disk is full", "remedy": "Make room"}
ENDED = {
    "type": "ended",
    "state": "done",
    **PROGRESS,
    "files_done": 3,
    "bytes_done": 2_000_000,
    "homes": [
        {**HOME, "chain": "default", "tier": "a", "account": "me"},
        {**HOME, "chain": None, "tier": None, "account": "me"},
        {**HOME, "chain": None, "tier": None, "account": None},
    ],
    "held": [],
    "unread": {"files": 0, "why": []},
    "error": None,
}


def progress(done):
    """How far it is."""
    return {"type": "progress", **PROGRESS, "files_done": done, "bytes_done": done * 600_000}


def importing(*lines):
    """A daemon that tells these lines of an import."""
    return {("POST", "/import"): list(lines)}


def test_progress_and_the_outcome_are_told(cli, tmp_path, monkeypatch):
    """Where nobody looks on, progress is a line each ten seconds on standard error; what came of it stands apart."""
    times = iter([0.0, 1.0, 9.9, 10.0, 12.0, 60.0])
    monkeypatch.setattr(SystemClock, "monotonic", lambda _: next(times))
    listed = {**progress(0), "files": 0, "bytes": 0}
    lines = (listed, progress(0), progress(1), progress(1), progress(2), ENDED)
    with answering(tmp_path / "locum.sock", importing(*lines)):
        done = cli("import")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "Importing 3 transcripts, 1.9M.",
        "Read 2 of 3 transcripts, 1.1M of 1.9M: 1,100 new tokens so far.",
    ]
    first, *rest = done.stdout.splitlines()
    assert first == "Read 3 transcripts, 1.9M: 1,100 new tokens."
    assert [line.rpartition(" tokens for ")[2] for line in rest] == [
        "tier a of chain default",
        "account me, no single tier",
        "nobody's tier (unattributed)",
    ]


def test_what_is_held_and_what_was_not_read_is_said(cli, tmp_path):
    """A budget that the history has used up, and files that were not read, are told with their reasons."""
    unread = {"files": 3, "why": ["/x/theirs.jsonl: it belongs to another user", "/y: permission\x1b denied"]}
    with answering(tmp_path / "locum.sock", importing({**ENDED, "held": [HOLD], "unread": unread, "files_known": 7})):
        done = cli("import")
    assert "(7 were known already)" in done.stdout
    assert "! a is held: its budget is spent" in done.stdout
    assert "! not read: /x/theirs.jsonl: it belongs to another user" in done.stdout
    assert "\x1b" not in done.stdout
    assert "! and 1 more were not read" in done.stdout


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ((), {}),
        (("--agent", "codex", "--home", "/h"), {"agent": "codex", "home": "/h"}),
        (("--since", "2026-01-31T05:00:00+02:00"), {"since": None}),
        (("--since", "2026-01-31"), {"since": None}),
    ],
)
def test_what_is_asked_for(cli, tmp_path, args, body):
    """Options become the order; a date becomes a moment with its zone."""
    with answering(tmp_path / "locum.sock", importing(ENDED)) as daemon:
        assert cli("import", *args).exit_code == 0
    ((_, _, order),) = daemon.asked
    if "since" in body:
        assert order["since"].startswith("2026-01-31T")
        assert order["since"][-6] in "+-"
    else:
        assert order == body


def test_programs_get_each_line(cli, tmp_path):
    """With --json every line of the daemon is one line of standard output."""
    with answering(tmp_path / "locum.sock", importing(progress(1), ENDED)):
        done = cli("import", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [progress(1), ENDED]
    assert done.stderr == ""


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "", "99999999999"])
def test_a_date_that_is_none_is_refused(cli, tmp_path, since):
    """Nonsense for a date is exit code 2, told with how to write one, before anything is asked for."""
    done = cli("import", "--since", since)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "2026-01-31" in done.stderr


def test_without_a_daemon(cli):
    """No daemon is exit code 69, as everywhere."""
    assert cli("import").exit_code == 69


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((409, problem("conflict", "an import goes on already")), 1, "goes on already"),
        ([{**ENDED, "state": "failed", "error": FULL}], 1, "locum: the disk is full.\n  Make room."),
        ([{**ENDED, "state": "stopped"}], 1, "import again"),
        ([progress(1), ...], 69, "goes on from there"),
    ],
)
def test_every_other_end_has_its_exit_code(cli, tmp_path, answer, code, said):
    """Another import, a disk that is full, a stop from elsewhere, a daemon that dies: none looks like success."""
    with answering(tmp_path / "locum.sock", {("POST", "/import"): answer}):
        done = cli("import")
    assert done.exit_code == code
    assert said in done.output
