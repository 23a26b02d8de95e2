"""Running tasks from the command line."""

from __future__ import annotations

import json

import pytest

from locum.cli import terminal
from tests.unit.cli.conftest import NOW
from tests.unit.cli.daemon import answering, problem

TASK = {"id": "t-1", "state": "queued"}
ATTEMPT = {"type": "attempt", "run": "r-1", "number": 1, "agent": "claude-code", "model": "opus", "resumed": False}
ENDED = {
    "type": "ended",
    "state": "done",
    "reason": "",
    "reason_code": "",
    "said": "ok",
    "tokens": {"total": 1240},
    "usage_known": True,
}
LIMIT = "5-hour limit reached"
STORY = [
    {**ATTEMPT, "tier": "claude-max"},
    {"type": "output", "run": "r-1", "stream": "out", "text": "I am looking.\n"},
    {"type": "output", "run": "r-1", "stream": "err", "text": "warning"},
    {
        "type": "failed",
        "run": "r-1",
        "tier": "claude-max",
        "kind": "usage_limit",
        "reason": LIMIT,
        "next": "move",
        "wait_ms": None,
    },
    {
        "type": "switch",
        "from": "claude-max",
        "to": "claude-api",
        "kind": "usage_limit",
        "reason": LIMIT,
        "until_ms": NOW + 7_800_000,
    },
    {**ATTEMPT, "tier": "claude-api", "number": 2, "model": None, "resumed": True},
    {"type": "a kind of tomorrow"},
    {"type": "switch", "from": "claude-api", "to": None, "kind": "auth_error", "reason": "401", "until_ms": None},
    {"type": "waiting", "reason": "every tier is held", "until_ms": None},
    {"type": "returned", "from": "codex", "to": "codex", "kind": "usage_limit", "reason": "it ended", "until_ms": None},
    {"type": "output", "run": "r-2", "stream": "out", "text": "Done."},
    ENDED,
]


def following(*happenings):
    """A daemon that takes a task and then tells these happenings."""
    return {
        ("POST", "/tasks"): (201, TASK),
        ("GET", "/tasks/t-1/follow"): list(happenings),
        ("GET", "/tasks/t-1"): {**TASK, "runs": []},
        ("POST", "/tasks/t-1/cancel"): {**TASK, "state": "cancelled"},
    }


def test_a_run_shows_the_agent_and_each_switch(cli, tmp_path):
    """The agent's words alone are on standard output; what locum does about it is on standard error, in order."""
    with answering(tmp_path / "locum.sock", following(*STORY)):
        found = cli("run", "do it")
    assert found.exit_code == 0
    assert found.stdout == "I am looking.\nDone.\n"
    assert found.stderr == (
        "▶ claude-max (claude-code, opus)\n"
        "warning\n"
        "! claude-max: usage_limit; moves on: 5-hour limit reached\n"
        "→ claude-max: usage_limit until 05:00 (in 2 h 10 min) → claude-api\n"
        "▶ claude-api (claude-code), attempt 2, resuming its session\n"
        "→ claude-api: auth_error → no tier is left\n"
        "… waiting: every tier is held\n"
        "← codex is back: it ended\n"
        "✓ t-1 done, 1,240 tokens\n"
    )


def test_as_json_every_happening_is_one_line(cli, tmp_path):
    """Programs learn the id of the task first, then get each happening as the daemon told it."""
    with answering(tmp_path / "locum.sock", following(*STORY)):
        found = cli("run", "do it", "--json")
    assert [json.loads(line) for line in found.stdout.splitlines()] == [
        {"schema": 1, "type": "submitted", "task": "t-1"},
        *STORY,
    ]


@pytest.mark.parametrize(
    ("state", "reason_code", "code"),
    [("done", "", 0), ("failed", "attempts", 1), ("failed", "no_tier", 75), ("cancelled", "", 1)],
)
@pytest.mark.parametrize("verb", [("run", "x"), ("logs", "-f", "t-1")])
def test_the_exit_code_is_the_tasks(cli, tmp_path, verb, state, reason_code, code):
    """Done is 0, failed is 1, and no tier to try is 75, whether it is run or followed."""
    end = {**ENDED, "state": state, "reason_code": reason_code}
    with answering(tmp_path / "locum.sock", following(end)):
        assert cli(*verb).exit_code == code


def test_a_daemon_that_stops_is_no_failed_task(cli, tmp_path):
    """A stream without an end is told as 69, with how to go on: the task is not lost."""
    with answering(tmp_path / "locum.sock", following(STORY[0], ...)):
        found = cli("run", "x")
    assert found.exit_code == 69
    assert "locum logs -f t-1" in found.stderr


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_detaches_and_a_second_one_cancels(cli, tmp_path, monkeypatch, presses):
    """One Ctrl-C never costs work; two mean it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("locum.cli.work._shown", interrupted)
    monkeypatch.setattr(terminal, "pause", interrupted if presses == 2 else lambda _: None)
    with answering(tmp_path / "locum.sock", following(STORY[0], None)) as daemon:
        found = cli("run", "x")
    assert found.exit_code == 130
    assert "locum logs -f t-1" in found.stderr
    assert (("POST", "/tasks/t-1/cancel", {}) in daemon.asked) == (presses == 2)


def test_what_is_asked_for_reaches_the_daemon(cli, tmp_path):
    """Every option is sent as what it means, the folder as an absolute path, and what is not given is not sent."""
    with answering(tmp_path / "locum.sock", following(ENDED)) as daemon:
        cli("submit", "x", "--chain", "side", "--cwd", "sub", "--no-wait", "--shared-cwd", "--title", "T")
        cli("submit", "x")
    full = {"chain": "side", "cwd": f"{tmp_path}/sub", "no_wait": True, "shared_cwd": True, "title": "T"}
    assert [body for _, _, body in daemon.asked] == [{"prompt": "x", **full}, {"prompt": "x", "cwd": str(tmp_path)}]


@pytest.mark.parametrize("how", ["words", "file", "stdin", "dash"])
def test_the_prompt_comes_from_words_a_file_or_standard_input(cli, tmp_path, how):
    """All ways in give the same prompt."""
    (tmp_path / "p.md").write_text("grüß\ndich")
    args, text = {
        "words": (("grüß\ndich",), None),
        "file": (("--file", "p.md"), None),
        "stdin": ((), "grüß\ndich"),
        "dash": (("-",), "grüß\ndich"),
    }[how]
    with answering(tmp_path / "locum.sock", following()) as daemon:
        found = cli("submit", *args, input=text)
    assert (found.exit_code, found.output) == (0, "t-1\n")
    assert daemon.asked[0][2]["prompt"] == "grüß\ndich"


@pytest.mark.parametrize(
    ("args", "text", "says"),
    [
        ((), "", "the prompt is empty"),
        (("--file", "gone"), None, "No such file"),
        (("--file", "binary"), None, "not UTF-8"),
        (("x", "--file", "binary"), None, "given twice"),
    ],
)
def test_a_prompt_that_is_none_is_refused_here(cli, tmp_path, args, text, says):
    """Nothing is sent when there is nothing to do."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with answering(tmp_path / "locum.sock", following()) as daemon:
        found = cli("run", *args, input=text)
    assert found.exit_code in (1, 2)
    assert says in found.stderr
    assert daemon.asked == []


def test_logs_of_a_task_at_work_end_when_all_is_told(cli, tmp_path, monkeypatch):
    """Without -f what there is so far is shown, and the verb comes back."""
    monkeypatch.setattr("locum.cli.work.QUIET_S", 0.3)
    with answering(tmp_path / "locum.sock", following(STORY[0], STORY[1], None)):
        found = cli("logs", "t-1")
    assert (found.exit_code, found.stdout) == (0, "I am looking.\n")


@pytest.mark.parametrize("verb", [("logs", "t-9"), ("logs", "-f", "t-9"), ("cancel", "t-9")])
def test_a_task_that_is_not_there_is_an_error(cli, tmp_path, verb):
    """A mistyped id is told, with exit code 1."""
    with answering(tmp_path / "locum.sock", {}):
        assert cli(*verb).exit_code == 1


@pytest.mark.parametrize(
    ("state", "says"), [("cancelled", "t-1 is cancelled\n"), ("running", "t-1 is being stopped\n")]
)
def test_cancel_says_how_far_it_is(cli, tmp_path, state, says):
    """A task at work takes its agent's time to stop."""
    with answering(tmp_path / "locum.sock", {("POST", "/tasks/t-1/cancel"): {**TASK, "state": state}}):
        assert cli("cancel", "t-1").output == says


def test_a_refused_task_shows_the_daemons_words(cli, tmp_path):
    """The daemon's refusal and its remedy arrive whole."""
    refusal = (404, problem("not_found", "no chain side", "The chains are default."))
    with answering(tmp_path / "locum.sock", {("POST", "/tasks"): refusal}):
        found = cli("run", "x", "--chain", "side")
    assert found.stderr == "locum: no chain side.\n  The chains are default.\n"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("",), "the prompt is empty"),
        ((" \n",), "the prompt is empty"),
        (("-f", "/dev/zero"), "/dev/zero is not a file"),
        (("-f", "/"), "/ is not a file"),
        (("-f", "long"), "the prompt is longer than 1K"),
        (("-f", "-"), "the prompt is longer than 1K"),
    ],
)
def test_a_prompt_that_is_none_never_leaves_the_terminal(cli, tmp_path, monkeypatch, given, says):
    """Nothing endless is read, and what is refused is told in words of the command line."""
    monkeypatch.setattr("locum.cli.work.LARGEST_PROMPT", 1024)
    (tmp_path / "long").write_text("x" * 1025)
    with answering(tmp_path / "locum.sock", following(*STORY)) as daemon:
        found = cli("run", *given, input="x" * 1025)
    assert (found.exit_code, daemon.asked) == (2, [])
    assert found.stderr.startswith(f"locum: {says}")


@pytest.mark.parametrize(
    ("story", "told", "known", "says"),
    [
        ([STORY[0]], None, False, "t-1 done, tokens unknown: x"),
        ([STORY[0]], {"total": 7}, False, "t-1 done, at least 7 tokens: x"),
        ([STORY[0]], {"total": 1}, True, "t-1 done, 1 token: x"),
        ([STORY[0]], {"total": 0}, True, "t-1 done, 0 tokens: x"),
        ([], {"total": 0}, True, "t-1 done: x"),
    ],
)
def test_tokens_that_nobody_told_are_not_passed_over(cli, tmp_path, story, told, known, says):
    """What agents used and did not tell is said to be unknown, and zero only when they told so; a task that never ran
    has used none.
    """
    end = {**ENDED, "tokens": told, "usage_known": known, "reason": "x"}
    with answering(tmp_path / "locum.sock", following(*story, end)):
        assert says in cli("run", "x").stderr
