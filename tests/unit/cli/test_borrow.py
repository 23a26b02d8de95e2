"""Lending a tier's environment to other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.unit.cli.daemon import answering

LOCUM = [sys.executable, "-c", "from locum.cli.main import main; main()"]
TIERS = [
    {"name": "plain", "agent": "command", "command": ["true"]},
    {
        "name": "api",
        "agent": "claude-code",
        "home": "login",
        "env": {"ANTHROPIC_API_KEY": {"file": "key"}, "MY_TOKEN": "plain-secret", "REGION": "it's here"},
    },
]


@pytest.fixture
def daemon(tmp_path):
    """A daemon whose chain runs on `api`, and the files it runs from."""
    (tmp_path / "key").write_text("sk-1\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": TIERS}}))
    chains = {"default": {"active_tier": "api"}, "held": {"active_tier": None}}
    status = {"chains": chains, "config": {"path": str(tmp_path / "service.json")}}
    with answering(tmp_path / "locum.sock", {("GET", "/status"): status}) as found:
        yield found


def test_secrets_are_hidden_unless_asked_for(cli, daemon):
    """Neither a referenced secret nor a plain one with a telling name is shown by default."""
    found = cli("env").output
    assert "sk-1" not in found
    assert "plain-secret" not in found
    assert "export ANTHROPIC_API_KEY='********'\n" in found
    assert "--reveal" in found


def test_a_shell_can_read_what_is_revealed(cli, daemon, tmp_path):
    """The assignments survive quoting, and the login's folder is among them."""
    text = cli("env", "--reveal").output
    script = f'{text}\nprintf "%s|%s|%s" "$ANTHROPIC_API_KEY" "$REGION" "$CLAUDE_CONFIG_DIR"'
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == f"sk-1|it's here|{tmp_path}/login"


def test_only_what_is_the_tiers_own_is_lent(cli, daemon):
    """What a headless run needs, such as no retries, is not pressed on a person's own session."""
    assert set(json.loads(cli("env", "--json").output)["env"]) == {
        "ANTHROPIC_API_KEY",
        "MY_TOKEN",
        "REGION",
        "CLAUDE_CONFIG_DIR",
    }


def test_a_command_runs_in_the_tiers_environment(daemon, tmp_path):
    """The command replaces locum: its output and its exit code are its own."""
    env = {**os.environ, "LOCUM_SOCKET": str(tmp_path / "locum.sock"), "HOME": str(tmp_path)}
    command = ["exec", "--", "sh", "-c", 'printf %s "$ANTHROPIC_API_KEY"; exit 7', "-x"]
    found = subprocess.run([*LOCUM, *command], env=env, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (7, "sk-1", "")


def test_secrets_never_cross_the_socket(cli, daemon):
    """The daemon is asked which tier is active, and nothing else."""
    cli("env", "--reveal")
    assert daemon.asked == [("GET", "/status", None)]


def test_a_named_tier_needs_no_daemon(cli, tmp_path):
    """With --tier the file alone is enough."""
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": TIERS}}))
    found = cli("env", "--tier", "plain")
    assert (found.exit_code, found.output) == (0, "# tier plain\n")


def test_a_named_tier_is_that_of_the_running_daemon(cli, daemon, tmp_path, monkeypatch):
    """The daemon's own file counts wherever one is started, unless another file is named outright."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert cli("env", "--tier", "plain").output == "# tier plain\n"
    other = elsewhere / "other.json"
    other.write_text(json.dumps({"failover": {"tiers": [{**TIERS[0], "name": "mine"}]}}))
    assert cli("--config", str(other), "env", "--tier", "mine").output == "# tier mine\n"
    assert "other.json" in cli("--config", str(other), "env", "--tier", "plain").stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("env", "--chain", "held"), 75, "every tier of held is held"),
        (("env", "--chain", "none"), 1, "The chains are default, held"),
        (("env", "--tier", "none"), 1, "none"),
        (("exec", "--", "/no/such/program"), 127, "there is no program"),
        (("exec", "--", "/"), 126, "cannot be run"),
        (("exec",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_lent_says_why(cli, daemon, args, code, says):
    """Each way to go wrong has its own exit code."""
    found = cli(*args)
    assert found.exit_code == code
    assert says in found.stderr


def test_a_secret_that_is_gone_is_a_configuration_error(cli, daemon, tmp_path):
    """The missing file is named, with exit code 78."""
    (tmp_path / "key").unlink()
    found = cli("env")
    assert found.exit_code == 78
    assert f"{tmp_path}/key" in found.stderr
