"""The verbs that look, in a pipe and on a terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from locum.cli import plain, terminal
from locum.cli.screen import screen
from tests.unit.cli.daemon import answering

HOLD = {"kind": "usage_limit", "until": "2026-11-22T05:00:00Z", "reason": "5-hour\x1b[31m limit\nreached"}
STATUS = {
    "schema": 1,
    "chains": {
        "default": {
            "active_tier": "claude-api",
            "last_failure_kind": "usage_limit",
            "last_failure_at": "2026-11-22T02:40:00Z",
            "last_failure_reason": "5-hour limit reached",
            "last_failure_tier": "claude-max",
            "paused": False,
            "exhausted": False,
            "running": 2,
            "queued": 1,
            "tiers": [
                {"name": "claude-max", "state": "held", "hold": HOLD, "agent": "claude-code", "model": "opus"},
                {"name": "claude-api", "state": "active", "hold": None, "agent": "claude-code", "model": None},
                {
                    "name": "codex",
                    "state": "held",
                    "hold": {"kind": "operator", "until": None, "reason": ""},
                    "agent": "codex",
                    "model": None,
                },
            ],
        }
    },
    "config": {"path": "/etc/locum/service.json", "problems": ["/etc/locum/service.json:3:5: no"], "warnings": []},
    "version": "0.1.0",
}
WINDOW = {"kind": "week", "start": "2026-11-16T00:00:00Z", "end": "2026-11-23T00:00:00Z", "timezone": "UTC"}
TOTALS = {"input": 3_000_000, "output": 400_000, "cache_read": 0, "cache_write": 0, "total": 3_400_000}
USED = {"threshold_tokens": 5_000_000, "totals": TOTALS, "window": WINDOW, "percent": 68.0}
ALL_TIME = {"kind": "all", "start": None, "end": None, "timezone": None}
UNLIMITED = {"threshold_tokens": None, "totals": TOTALS, "window": ALL_TIME, "percent": None}
USAGE = {"schema": 1, **USED, "chains": {"default": USED}, "tiers": {"claude-max": UNLIMITED}}
ANSWERS = {("GET", "/status"): STATUS, ("GET", "/usage"): USAGE}

PLAIN = """\
default: active tier claude-api, 2 running, 1 queued
  claude-max  held       usage_limit until 05:00 (in 2 h 10 min): 5-hour [31m limit reached
  claude-api  active
  codex       held       by the operator, until released
  tokens: 3,400,000 of 5,000,000 tokens (68 %) this week, until Mon 00:00 (in 21 h 10 min)
  last failure: usage_limit on claude-max, 02:40 (10 min ago): 5-hour limit reached
config: /etc/locum/service.json
refused edit: /etc/locum/service.json:3:5: no
"""


def test_status_in_a_pipe_is_plain_text(cli, tmp_path):
    """No colours, no tables, no control characters out of an agent's mouth; one line a tier."""
    with answering(tmp_path / "locum.sock", ANSWERS):
        found = cli("status")
    assert (found.exit_code, found.output) == (0, PLAIN)


def test_status_on_a_terminal_is_a_table(cli):
    """On a terminal each tier is a row with its state, tokens and hold, and the budget is a bar."""
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=120, legacy_windows=False).print(screen(STATUS, USAGE))
    text = out.getvalue()
    assert "\x1b[" in text
    assert "━" in text
    for words in ("▶ claude-api", "✗ claude-max", "3,400,000", "usage_limit until 05:00 (in 2 h 10 min)", "unknown"):
        assert words in text
    assert "\x1b[31m limit" not in text.replace("\x1b[0m", "")


def test_a_terminal_is_noticed(cli, tmp_path, monkeypatch):
    """The same verb draws the table when people look, and watching redraws it in place."""
    monkeypatch.setattr("locum.cli.reading.on_terminal", lambda: True)

    def pause(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "pause", pause)
    with answering(tmp_path / "locum.sock", ANSWERS):
        assert "▶ claude-api" in cli("status").output
        watched = cli("status", "--watch")
    assert watched.exit_code == 130
    assert "▶ claude-api" in watched.output


def test_json_is_what_the_daemon_said(cli, tmp_path):
    """Programs get the daemon's answer unchanged, for every reading verb."""
    more = {
        ("GET", "/tasks"): {"schema": 1, "tasks": []},
        ("GET", "/explain"): {"schema": 1, "chains": {}, "problems": []},
        ("GET", "/audit"): {"schema": 1, "clean": True},
    }
    with answering(tmp_path / "locum.sock", {**ANSWERS, **more}):
        for verb in ("status", "usage", "tasks", "explain", "audit"):
            found = cli(verb, "--json")
            assert found.exit_code == 0
            assert json.loads(found.output) == {**ANSWERS, **more}[("GET", f"/{verb}")]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("operator", "  last switch: by the operator, off claude-max, 02:40 (10 min ago)"),
        ("token_budget", "  last switch: by token_budget, off claude-max, 02:40 (10 min ago)"),
        ("unknown", "  last failure: unknown on claude-max, 02:40 (10 min ago)"),
    ],
)
def test_what_was_done_on_purpose_is_no_failure(cli, tmp_path, kind, says):
    """A bump and a spent budget are told as a switch, so that nobody looks for what broke."""
    chain = {**STATUS["chains"]["default"], "last_failure_kind": kind}
    status = {**STATUS, "chains": {"default": chain}}
    with answering(tmp_path / "locum.sock", {**ANSWERS, ("GET", "/status"): status}):
        assert says in cli("status").output


def test_a_halt_is_told_beside_the_budget(cli, tmp_path):
    """Whoever looks at the tokens sees at which number everything stops, with a threshold or without."""
    for used in (USED, UNLIMITED):
        usage = {**USAGE, "chains": {"default": {**used, "halt_tokens": 8_000_000}}}
        with answering(tmp_path / "locum.sock", {**ANSWERS, ("GET", "/usage"): usage}):
            assert "every tier is held at 8,000,000" in cli("usage").output
            assert "every tier is held at 8,000,000" in cli("status").output
        (tmp_path / "locum.sock").unlink()


def test_status_can_be_watched_until_it_is_stopped(cli, tmp_path, monkeypatch):
    """In a pipe a watched status is told again only when it has changed; Ctrl-C ends it with 130."""
    answers = dict(ANSWERS)
    rounds = []

    def pause(_):
        rounds.append(1)
        if len(rounds) == 2:
            answers["GET", "/status"] = {**STATUS, "chains": {}}
        if len(rounds) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "pause", pause)
    with answering(tmp_path / "locum.sock", answers):
        found = cli("status", "--watch")
    assert found.exit_code == 130
    assert found.output.count("default: active tier claude-api") == 1
    assert found.output.count("config: /etc/locum/service.json") == 2


def test_a_watched_status_outlives_the_daemon(cli, tmp_path, monkeypatch):
    """A daemon that is restarted does not end the watching: it is said, and its answers are shown again."""
    rounds = []

    def restart(_):
        rounds.append(1)
        if len(rounds) == 1:
            first.__exit__(None, None, None)
            (tmp_path / "locum.sock").unlink()
        elif len(rounds) == 2:
            again.__enter__()
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "pause", restart)
    first, again = (answering(tmp_path / "locum.sock", ANSWERS) for _ in range(2))
    first.__enter__()
    found = cli("status", "--watch")
    again.__exit__(None, None, None)
    assert found.exit_code == 130
    shown = found.output.split("config: /etc/locum/service.json")
    assert len(shown) == 3
    assert "Waiting for it." in shown[1]


def test_usage_is_told_by_chain_and_tier(cli, tmp_path):
    """A limit is told with its share; types that were not used are left out."""
    with answering(tmp_path / "locum.sock", ANSWERS):
        assert cli("usage").output == (
            "chain default    3,400,000 of 5,000,000 tokens (68 %) this week, until Mon 00:00 (in 21 h 10 min)"
            "  [input 3,000,000, output 400,000]\n"
            "tier claude-max  3,400,000 tokens in all  [input 3,000,000, output 400,000]\n"
        )
        assert cli("usage", "--chain", "default").output.count("\n") == 1


def test_tokens_of_nobody_are_told_with_what_to_do(cli, tmp_path):
    """Sessions that count for no tier are shown, with why and what to do; where there are none nothing is said."""
    nobody = {"input": 1200, "output": 0, "cache_read": 34, "cache_write": 0, "total": 1234}
    usage = {**USAGE, "unattributed": {"totals": nobody}}
    none = {**USAGE, "unattributed": {"totals": dict.fromkeys(nobody, 0)}}
    with answering(tmp_path / "locum.sock", {**ANSWERS, ("GET", "/usage"): usage}):
        assert cli("usage").output.endswith(
            "tier claude-max  3,400,000 tokens in all  [input 3,000,000, output 400,000]\n"
            "no tier          1,234 tokens in all  [input 1,200, cache_read 34]\n"
            "  Nobody knows whose tier these sessions use: no budget counts them, and nothing stops them.\n"
            "  Install their hooks with --tier NAME; give --tier NAME to what is reported without one.\n"
        )
        assert "no tier" not in cli("usage", "--chain", "default").output
    (tmp_path / "locum.sock").unlink()
    with answering(tmp_path / "locum.sock", {**ANSWERS, ("GET", "/usage"): none}):
        assert "no tier" not in cli("usage").output


def test_tasks_are_one_a_line_and_titles_cannot_steer_the_terminal(cli, tmp_path):
    """A prompt is anybody's text: it is shown on one line without control characters."""
    task = {"id": "t-1", "state": "failed", "chain": "default", "created": "2026-11-22T02:50:00Z"}
    tasks = [{**task, "title": "a\n\x1b]0;x\x07b", "reason": "no tier"}]
    with answering(tmp_path / "locum.sock", {("GET", "/tasks"): {"tasks": tasks}}) as daemon:
        found = cli("tasks", "--state", "failed", "--state", "done", "--limit", "5")
        assert found.output == "t-1  failed     default  2026-11-22 02:50  a ]0;x b (no tier)\n"
        assert daemon.asked[0][1] == "/tasks?limit=5&state=failed&state=done"


def test_explain_keeps_chains_apart_and_tells_a_refused_edit(cli, tmp_path):
    """One sentence a line, an empty line between chains."""
    answer = {"chains": {"a": ["One.", "Two."], "b": ["Three."]}, "problems": ["f:1:1: x."]}
    with answering(tmp_path / "locum.sock", {("GET", "/explain"): answer}) as daemon:
        assert cli("explain", "a").output.startswith("One.\nTwo.\n\nThree.\n\nAn edit of service.json is refused")
        assert daemon.asked[0][1] == "/explain?chain=a"


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["the hour 3 is not the sum"], 1)])
def test_an_audit_that_finds_something_exits_with_1(cli, tmp_path, problems, code):
    """Scripts can rely on the exit code alone."""
    answer = {"clean": not problems, "entries": 2, "events": 3, "tokens": TOTALS, "problems": problems}
    with answering(tmp_path / "locum.sock", {("GET", "/audit"): answer}):
        found = cli("audit")
    assert found.exit_code == code
    assert all(problem in found.output for problem in problems)


def test_version_needs_no_daemon(cli):
    """The version of the program is told whether or not a daemon runs."""
    found = cli("version")
    assert found.exit_code == 0
    assert found.output.endswith("no daemon is running\n")
    assert json.loads(cli("version", "--json").output)["daemon"] is None


@pytest.mark.parametrize(
    ("effects", "window", "says"),
    [
        ({"threshold_effect": "none"}, "week", "; reaching it holds nothing"),
        ({"threshold_effect": "released"}, "week", "; released: it holds nothing more in this window"),
        ({"threshold_effect": "released"}, "rolling", "; released: it holds nothing more until usage falls below it"),
        (
            {"halt_tokens": 9, "halt_effect": "released"},
            "rolling",
            "; every tier is held at 9 (released: not any more until usage falls below it)",
        ),
    ],
)
def test_a_budget_that_holds_nothing_is_not_shown_as_one_that_does(effects, window, says):
    """What was released, or has nowhere to go, is told where the figure stands that looks like a limit."""
    usage = {"threshold_tokens": 5, "percent": 200.0, "totals": {"total": 10}, "used_tokens": 10}
    assert plain.spent({**usage, **effects, "window": {"kind": window, "end": None}}).endswith(says)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {},
            "acc: five_hour: 91 % used (allowed_warning), resets 05:00 (in 2 h 10 min); the vendor said so 10 min ago",
        ),
        ({"used_percent": None}, "acc: five_hour: how full it is was not told (allowed_warning), resets"),
        ({"used_percent": 0.0, "status": "", "resets": None}, "acc: five_hour: 0 % used; the vendor said so"),
        ({"freshness": "stale"}, "the vendor said so 10 min ago: stale"),
        ({"counted": TOTALS}, "10 min ago; 3,400,000 tokens counted here"),
        ({"freshness": "over"}, "five_hour has begun anew since the vendor last spoke of it (10 min ago): how full it"),
        ({"model": "opus\x1b[31m"}, "acc: five_hour opus"),
    ],
)
def test_what_the_vendor_says_is_shown_with_its_age(cli, tmp_path, more, says):
    """A reading that is old, over or does not tell a number is never shown as if it were one, and never as 0."""
    told = {
        "name": "five_hour",
        "model": None,
        "status": "allowed_warning",
        "used_percent": 91.0,
        "resets": "2026-11-22T05:00:00Z",
        "read": "2026-11-22T02:40:00Z",
        "freshness": "current",
        "counted": None,
    }
    accounts = {"acc": {"tiers": ["claude-max"], "windows": [{**told, **more}]}, "quiet": {"tiers": [], "windows": []}}
    with answering(tmp_path / "locum.sock", {**ANSWERS, ("GET", "/status"): {**STATUS, "accounts": accounts}}):
        text = cli("status").output
    assert says in text
    assert "quiet" not in text
    assert "\x1b" not in text
