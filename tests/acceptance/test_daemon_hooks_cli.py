"""Promises to people who run their agents themselves, kept by the real command line and the real daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.cli.agentfile import AgentFile
from tests.harness import LOCUM, Daemon, running

MINE = '{\n    "model": "opus",\n    "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}\n}\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with one Claude Code tier in the user's own home, and a second one elsewhere."""
    tiers = [
        {"name": "a", "agent": "claude-code"},
        {"name": "b", "agent": "claude-code", "home": str(tmp_path / "second")},
        {"name": "c", "agent": "command", "command": ["true"]},
    ]
    (tmp_path / "home").mkdir()
    with running(Daemon(tmp_path, {"failover": {"tiers": tiers}}, {"HOME": str(tmp_path / "home")})) as made:
        yield made


def asked(daemon: Daemon, settings: Path, event: str) -> subprocess.CompletedProcess[str]:
    """What the agent hears from its hook before a prompt."""
    commands = [command for at, _, command in AgentFile(settings).ours() if at[1] == event]
    assert len(commands) == 1
    transcript = str(settings.parent / "projects" / "p" / "s.jsonl")
    said = {"hook_event_name": event, "session_id": "s", "transcript_path": transcript, "prompt_id": "p"}
    return subprocess.run(
        ["/bin/sh", "-c", commands[0]],
        input=json.dumps(said),
        env=daemon.env,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_session_of_ones_own_is_counted_for_its_tier_and_stopped_with_it(daemon: Daemon) -> None:
    """Install, try, hold the tier, release it, kill the daemon, take it all out: each step says what is, and does it."""
    settings = daemon.folder / "home" / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(MINE)
    done = daemon.run("hooks", "install", "claude-code")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"installed in {settings}: ")
    assert "\nusage counts for tier a of chain default\n" in done.stdout
    tried = daemon.run("hooks", "test", "claude-code")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert tried.stdout == (
        "the hook reached the daemon\nusage counts for tier a of chain default\nthe next prompt would run\n"
    )
    assert "decision" not in json.loads(asked(daemon, settings, "UserPromptSubmit").stdout)
    daemon.run("bump", "--tier", "a", "--reason", "upkeep")
    tried = daemon.run("hooks", "test", "claude-code")
    assert tried.returncode == 0
    assert "the next prompt would be stopped: tier a is held" in tried.stdout
    assert "upkeep" in tried.stdout
    answer = asked(daemon, settings, "UserPromptSubmit")
    assert (answer.returncode, json.loads(answer.stdout)["decision"]) == (0, "block")
    daemon.run("release")
    assert "would run" in daemon.run("hooks", "test", "claude-code").stdout
    daemon.kill()
    answer = asked(daemon, settings, "UserPromptSubmit")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "goes on without being counted" in answer.stderr
    assert daemon.run("hooks", "test", "claude-code").returncode == 69
    assert daemon.run("hooks", "uninstall", "claude-code").returncode == 0
    assert settings.read_text() == MINE


def test_settings_of_another_home_count_for_its_own_tier(daemon: Daemon) -> None:
    """A second login has hooks of its own, and its usage is not mixed up with the first one's."""
    daemon.env["CLAUDE_CONFIG_DIR"] = str(daemon.folder / "second")
    assert "tier b of chain default" in daemon.run("hooks", "install", "claude-code").stdout
    assert "tier b of chain default" in daemon.run("hooks", "test", "claude-code").stdout
    assert not (daemon.folder / "home" / ".claude").exists()


def test_a_tier_that_left_the_configuration_is_missed_by_the_test(daemon: Daemon) -> None:
    """Hooks that name what is no more count for nobody: trying one says so, and what there is."""
    assert daemon.run("hooks", "install", "codex", "--tier", "d").returncode == 1
    done = daemon.run("hooks", "install", "codex", "--tier", "c")
    assert done.returncode == 0
    assert "usage counts for tier c of chain default" in done.stdout
    assert "tier c runs command, not codex" in done.stderr
    assert "tier c of chain default" in daemon.run("hooks", "test", "codex").stdout
    daemon.configure({"failover": {"tiers": [{"name": "a", "agent": "claude-code"}]}})
    daemon.run("reload")
    tried = daemon.run("hooks", "test", "codex")
    assert tried.returncode == 1
    assert tried.stderr == (
        "locum: the hook names tier c, but there is no tier c any more.\n"
        "  The tiers are a. Name another one: `locum hooks install codex --chain CHAIN --tier TIER`.\n"
    )


def test_hooks_that_count_for_nobody_are_told_when_they_are_installed(daemon: Daemon) -> None:
    """Two tiers with one home, a home of nobody's, an agent of nobody's: each is said at once, with its reason."""
    both = [{"name": name, "agent": "claude-code"} for name in ("max", "api")]
    daemon.configure({"failover": {"tiers": both}})
    daemon.run("reload")
    say = "usage counts for no tier: "
    assert (
        f"{say}max and api have this agent, and none or several" in daemon.run("hooks", "install", "claude-code").stdout
    )
    assert f"{say}no tier runs codex" in daemon.run("hooks", "install", "codex").stdout
    daemon.configure({"failover": {"tiers": both[:1]}})
    daemon.run("reload")
    daemon.env["CLAUDE_CONFIG_DIR"] = str(daemon.folder / "second")
    for named, where in (((), ""), (("--chain", "default"), " of chain default")):
        done = daemon.run("hooks", "install", "claude-code", *named)
        assert f"{say}max, the only tier{where} with this agent, has another home" in done.stdout
        assert done.stderr == ""


def test_an_agent_of_locums_own_changes_no_hooks(daemon: Daemon) -> None:
    """A run would install hooks for its user, in a home that is not always the user's: that is 77, and no file."""
    script = f"{LOCUM} hooks install codex; echo $?"
    daemon.configure({"failover": {"tiers": [{"name": "m", "agent": "command", "command": ["sh", "-c", script]}]}})
    daemon.run("reload")
    task = daemon.ended(daemon.submit("x"))
    assert daemon.run("logs", task["id"]).stdout.splitlines()[-1] == "77"
    assert not (daemon.folder / "home" / ".codex").exists()


def test_a_loop_in_a_shell_stops_when_its_tier_does(daemon: Daemon) -> None:
    """The loop of the README ends with the failure that it reports; nothing is counted twice, and all adds up."""
    loop = (
        f"for n in 1 1 2 3; do {LOCUM} report --id $n --tier c --input 900 --output 100 "
        "$([ $n = 2 ] && echo --failure usage_limit --reset 2h); [ $? -eq 75 ] && break; done; echo $n"
    )
    done = subprocess.run(["/bin/sh", "-c", loop], env=daemon.env, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[0] == lines[4] == "counted 1,000 tokens for tier c of chain default"
    assert lines[1] == "go on: chain default runs on a"
    assert lines[2] == "reported before, 0 tokens more for tier c of chain default"
    assert lines[5].startswith("stop: tier c is held")
    assert (lines[6], done.stderr) == ("2", "")
    usage = daemon.client.get("/usage")
    assert usage["tiers"]["c"]["totals"]["total"] == usage["totals"]["total"] == 2000
    assert daemon.run("audit").returncode == 0


def test_a_loop_in_a_shell_goes_on_without_a_daemon(daemon: Daemon) -> None:
    """A night's work does not end because nobody counts it: only 75 stops the loop of the README."""
    daemon.kill()
    loop = f"for n in 1 2; do {LOCUM} report --id $n --tier c --input 1; [ $? -eq 75 ] && break; done; echo $n"
    done = subprocess.run(["/bin/sh", "-c", loop], env=daemon.env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "2\n"
    assert done.stderr.count("no daemon answers") == 2


def test_an_agent_reports_for_itself_alone(daemon: Daemon) -> None:
    """An agent that locum runs may report what it spent, but not for another tier: that is 77, and counts nothing."""
    report = f"{LOCUM} --state {daemon.state} report --id x --input 7"
    script = f"{report} --tier a; echo $?; {report}; echo $?"
    tiers = [
        {"name": "mine", "agent": "command", "command": ["/bin/sh", "-c", script]},
        {"name": "a", "agent": "codex"},
    ]
    daemon.configure({"failover": {"tiers": tiers}})
    daemon.run("reload")
    task = daemon.ended(daemon.submit("x"))
    said = daemon.run("logs", task["id"]).stdout.splitlines()
    assert task["state"] == "done"
    assert "77" in said
    assert "counted 7 tokens for tier mine of chain default" in said
    assert "0" in said
    assert daemon.client.get("/usage")["tiers"]["a"]["totals"]["total"] == 0
