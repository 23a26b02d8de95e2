"""What is found of the agents on a host, whatever lies in their place."""

from __future__ import annotations

import json

import pytest

from locum.agents.base import home_of
from locum.agents.claude_code import ClaudeCode
from locum.agents.known import MEASURED
from locum.agents.registry import AGENTS
from locum.config.load import load
from locum.engine import inventory
from locum.engine.inventory import installs
from locum.engine.seats import Seats

CLAUDE = {"claude-code": AGENTS["claude-code"]}


@pytest.fixture
def host(tmp_path):
    """A home and a PATH of nothing but what a test puts there: `host("claude", "echo 1.2.3")`."""
    (tmp_path / "bin").mkdir()

    def put(name, does, mode=0o755, folder="bin"):
        path = tmp_path / folder / name
        path.write_bytes(does if isinstance(does, bytes) else f"#!/bin/sh\n{does}\n".encode())
        path.chmod(mode)
        return path

    return put


def found(tmp_path, *tiers, agents=CLAUDE, **environ):
    """What is installed as these tiers have it, in an environment with that host's PATH and home."""
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), **environ}
    seats = None
    if tiers:
        (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": list(tiers)}}))
        seats = Seats(load(tmp_path / "service.json", environ), {}, environ)
    return installs(agents, seats, environ)


@pytest.mark.parametrize(
    ("does", "version", "problem"),
    [
        ("echo 2.1.197 '(Claude Code)'", "2.1.197", None),
        ("echo 'GitHub Copilot CLI 1.0.102.'", "1.0.102", None),
        ("echo 0.73.1 >&2", "0.73.1", None),
        ("echo 'node v20 warns' >&2; echo v1.2.3-rc.1", "1.2.3-rc.1", None),
        ("printf '\\033[1mcodex-cli\\033[0m 0.169.0\\n'", "0.169.0", None),
        ("echo hello", None, "no version"),
        ("head -c 200 /dev/urandom | tr -d '0-9'", None, "no version"),
        ("echo 1.2.3; exit 3", None, "exit code 3"),
        ("kill -9 $$", None, "exit code -9"),
        ("yes 1.2.3", None, "more than 64K"),
        (b"\x7fELF\x00\x01\x02", None, "cannot be started"),
        (b"", None, "cannot be started"),
    ],
)
def test_a_version_is_what_the_program_says_of_itself(tmp_path, host, does, version, problem):
    """A version is taken from a program that ended well, and anything else is a problem in words, never an exception."""
    path = host("claude", does)
    (each,) = found(tmp_path)
    assert (each.path, each.version) == (path, version)
    assert each.problem is None if problem is None else problem in each.problem
    assert each.as_measured is (None if version is None else version == "2.1.197")


def test_a_program_that_hangs_is_given_up(tmp_path, host, monkeypatch):
    """One that waits for ever costs its bound, and is told so."""
    monkeypatch.setattr(inventory, "PATIENCE_S", 0.3)
    host("claude", "trap '' TERM; sleep 60")
    (each,) = found(tmp_path)
    assert (each.version, each.problem) == (None, "--version was not answered within 0 s")


@pytest.mark.parametrize(
    ("named", "mode", "problem"),
    [
        (None, None, "claude is not on PATH"),
        (None, 0o644, "bin/claude is not executable"),
        ("./mine", None, "mine is not there"),
        ("./mine", 0o644, "mine is not executable"),
    ],
)
def test_what_cannot_be_run_says_why(tmp_path, host, named, mode, problem):
    """Missing and not executable are told apart, on PATH and at a path, and nothing is started."""
    if mode:
        host("mine" if named else "claude", "echo 1.2.3", mode, "." if named else "bin")
    tier = {"name": "a", "agent": "claude-code"} | ({"program": named} if named else {})
    (each,) = found(tmp_path, tier)
    assert (each.path, each.version) == (None, None)
    assert each.problem.endswith(problem)


def test_each_tier_is_looked_at_as_it_would_run(tmp_path, host):
    """Program, home, PATH and env are the tier's own; a program that several tiers share is asked once."""
    host("claude", f"echo x >>{tmp_path}/asked; echo 1.0.0")
    other = host("mine", "echo $MARK", folder=".")
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / ".credentials.json").write_text('{"claudeAiOauth": {"accessToken": "x"}}')
    tiers = [
        {"name": "a", "agent": "claude-code"},
        {"name": "b", "agent": "claude-code", "home": "homes"},
        {"name": "c", "agent": "claude-code", "program": "./mine", "env": {"MARK": "7.7.7"}},
        {"name": "d", "agent": "command", "command": ["./mine"]},
    ]
    a, b, c, d = found(tmp_path, *tiers, agents=CLAUDE | {"command": AGENTS["command"]})
    assert [each.version for each in (a, b, c, d)] == ["1.0.0", "1.0.0", "7.7.7", None]
    assert (tmp_path / "asked").read_text() == "x\n"
    assert (c.path, d.path, d.problem) == (other, other, None)
    assert [each.login.there for each in (a, b, c, d)] == [False, True, None, None]
    assert b.login.why == str(tmp_path / "homes" / ".credentials.json")


def test_an_agent_without_a_tier_is_looked_for_on_path(tmp_path, host):
    """Who is not in service.json may be there all the same; `command` is nothing without a tier."""
    host("codex", "echo codex-cli 0.169.0")
    rows = found(tmp_path, {"name": "a", "agent": "claude-code"}, agents=AGENTS)
    told = {each.agent: (each.tier, each.version) for each in rows}
    assert told["claude-code"] == ("a", None)
    assert told["codex"] == (None, "0.169.0")
    assert "command" not in told


def test_every_agent_is_asked_in_the_environment_of_its_adapter(tmp_path, host):
    """All programs answer at once, each started as its adapter starts it, so that none of them updates itself."""
    measured = {name: version for name, version in MEASURED.items() if name in AGENTS}
    for name, version in measured.items():
        host(AGENTS[name].program, f"env >{tmp_path}/{name}; echo {version}")
    rows = found(tmp_path, agents=AGENTS)
    assert {each.agent: each.version for each in rows} == measured
    assert all(each.as_measured for each in rows)
    assert "DISABLE_AUTOUPDATER=1\n" in (tmp_path / "claude-code").read_text()
    assert not [name for name in measured if "/given/" in (tmp_path / name).read_text()], "no file of a run is named"


@pytest.mark.parametrize(
    ("tier", "environ", "there", "why"),
    [
        ({}, {}, False, "none of ANTHROPIC_API_KEY, "),
        ({}, {"ANTHROPIC_API_KEY": "k"}, True, "ANTHROPIC_API_KEY is set"),
        ({}, {"ANTHROPIC_API_KEY": ""}, False, "none of ANTHROPIC_API_KEY, "),
        ({"env": {"ANTHROPIC_API_KEY": {"file": "gone"}}}, {}, True, "ANTHROPIC_API_KEY of the tier"),
        ({"env": {"ANTHROPIC_API_KEY": ""}}, {"ANTHROPIC_API_KEY": "k"}, None, "may hold one"),
        ({"args": ["--settings", "x"]}, {}, None, "may hold one"),
    ],
)
def test_a_login_in_a_variable_is_found(tmp_path, tier, environ, there, why):
    """The tier's own env counts before the environment; no secret is read, and none is told."""
    (each,) = found(tmp_path, {"name": "a", "agent": "claude-code"} | tier, **environ)
    assert each.login.there is there
    assert why in each.login.why


@pytest.mark.parametrize(
    ("content", "there"),
    [
        ('{"a": 1}', True),
        ("{}", False),
        ("", False),
        (" \n", False),
        ("null", False),
        ("not json", True),
        ("[" * 100_000, True),
    ],
)
def test_a_login_file_counts_when_it_holds_anything(tmp_path, content, there):
    """An empty one is none; whatever else is in it is not judged."""
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text(content)
    (each,) = found(tmp_path)
    assert each.login.there is there


class Settled(ClaudeCode):
    """An agent whose login may stand among its settings."""

    def credentials(self, seat, env):
        """Its settings."""
        return tuple(
            home_of(seat, env, "X", "") / name for name in ("settings.json", "models.json", ".env", "hosts.yml")
        )


@pytest.mark.parametrize(
    ("name", "content", "there"),
    [
        ("settings.json", '{"security": {"auth": {"selectedType": "openai"}}}', False),
        ("settings.json", '{"security": {"auth": {"apiKey": "sk-x"}}}', True),
        ("models.json", '{"models": [{"id": "m", "maxTokens": 8000}]}', False),
        ("models.json", '{"providers": {"mock": {"apiKey": "MOCK_KEY"}}}', True),
        (".env", "EDITOR=vi\nMAX_TOKENS=5\n", False),
        (".env", "export OPENAI_API_KEY=sk-x\n", True),
        ("settings.json", '{"apiKey": "", "token": null, "secret": {}, "password": none}', False),
        ("hosts.yml", "github.com:\n  oauth_token: gho_x\n", True),
    ],
)
def test_settings_are_a_login_when_they_name_a_key(tmp_path, name, content, there):
    """Settings that are there are no login by themselves; a key, a token or a secret with a value in them is."""
    (tmp_path / name).write_text(content)
    (each,) = found(tmp_path, agents={"claude-code": Settled()})
    assert each.login.there is there


def test_a_login_that_cannot_be_read_cannot_be_told(tmp_path):
    """A folder, or a pipe, in the login's place is neither a login nor none, and nobody waits for it."""
    (tmp_path / ".claude" / ".credentials.json").mkdir(parents=True)
    (each,) = found(tmp_path)
    assert (each.login.there, "cannot be read" in each.login.why) == (None, True)
