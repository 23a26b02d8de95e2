"""`locum agents`: what people and programs are told of what is installed."""

from __future__ import annotations

import json

import pytest

from locum.agents.registry import AGENTS


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH of one folder, where Claude Code is installed in the version that was measured, and Codex in another."""
    for name, version in (("claude", "2.1.197 (Claude Code)"), ("codex", "codex-cli 0.170.0-alpha.1")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    for agent in AGENTS.values():
        for name in (*agent.keys, *agent.variables):
            monkeypatch.delenv(name, raising=False)
    return tmp_path / "bin"


def test_every_agent_is_listed_without_a_config_or_a_daemon(cli, path):
    """What is on PATH is told with its version and login, what is not is told too, and each with what it can do."""
    listed = json.loads(cli("agents", "--json").stdout)
    assert listed["config"] == {"path": None, "problem": None}
    agents = {each["name"]: each for each in listed["agents"]}
    assert list(agents) == list(AGENTS)
    (claude,), (codex,) = agents["claude-code"]["installs"], agents["codex"]["installs"]
    assert (claude["path"], claude["version"], claude["as_measured"]) == (f"{path}/claude", "2.1.197", True)
    assert (codex["version"], codex["as_measured"], codex["logged_in"]) == ("0.170.0-alpha.1", False, False)
    assert agents["command"]["installs"] == []


def test_people_see_it_in_lines(cli, path, tmp_path, monkeypatch):
    """Tier, place, version, a version that was not measured, and the login stand on one line under the agent's name."""
    monkeypatch.setenv("CODEX_API_KEY", "precious")
    tiers = [{"name": "mine", "agent": "codex"}, {"name": "gone", "agent": "codex", "program": "./codex"}]
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": tiers}}))
    told = cli("agents", "codex")
    assert told.exit_code == 0
    assert told.stdout == (
        "codex        usage, resume, hooks, transcripts\n"
        f"             tier mine: {path}/codex 0.170.0-alpha.1, locum was measured with 0.169.0, "
        "login (CODEX_API_KEY is set)\n"
        f"             tier gone: {tmp_path}/codex is not there\n"
    )


def test_where_a_login_was_looked_for_is_told_of_a_named_agent(cli, path):
    """The whole list stays short; who asks for one agent hears which files and variables would be a login."""
    assert cli("agents").stdout.count("no login found\n") == 2
    told = cli("agents", "codex").stdout
    assert "no login found (no " in told
    assert "none of CODEX_API_KEY, OPENAI_API_KEY is set)" in told


def test_an_unknown_agent_is_refused_with_those_there_are(cli):
    """A name that no agent has is a mistake to tell, not an empty list."""
    told = cli("agents", "codex", "cursor")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "there is no agent 'cursor'" in told.stderr
    assert "claude-code, codex" in told.stderr


def test_a_config_that_cannot_be_used_hides_nothing(cli, path, tmp_path):
    """What PATH has is listed all the same, and the mistake is told beside it."""
    (tmp_path / "service.json").write_text("{")
    told = cli("agents", "claude-code")
    assert told.exit_code == 0
    assert "locum check" in told.stderr
    assert f"{path}/claude 2.1.197" in told.stdout
    problem = json.loads(cli("agents", "--json").stdout)["config"]["problem"]
    assert "service.json" in problem


def test_a_config_that_is_named_must_be_there(cli):
    """Whoever names a file is told when there is none, and gets no other answer."""
    assert cli("--config", "nowhere.json", "agents").exit_code == 78


def test_what_a_program_says_cannot_steer_the_terminal(cli, path):
    """Control characters of a hostile program do not reach the terminal."""
    (path / "claude").write_text("#!/bin/sh\nprintf '\\033]0;owned\\007 9.9.9-\\033[2J'\n")
    assert "\033" not in cli("agents", "claude-code").output
