"""init and check: what happens before there is a daemon."""

from __future__ import annotations

import json
import sys

import pytest

from locum.agents.registry import AGENTS
from locum.cli.template import first_config
from locum.config.load import load

TIERS = [
    {"name": "one", "agent": "command", "command": ["./mine"], "env": {"API_KEY": {"file": "key"}}},
    {"name": "two", "agent": "codex", "model": "gpt", "usage_threshold_tokens": 2000, "usage_reset": "day"},
]
SERVICE = {"usage_threshold_tokens": 5000, "failover": {"tiers": TIERS, "triggers": ["token_budget", "auth_error"]}}


def program(folder, name):
    """An executable of that name."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


NAMES = tuple(name for name in AGENTS if name != "command")


@pytest.mark.parametrize("agents", [(), *((name,) for name in NAMES), ("claude-code", "codex"), NAMES])
def test_the_first_file_is_valid_whatever_was_found(tmp_path, agents):
    """What init writes can be served at once: no errors and no warnings, one tier an agent."""
    path = tmp_path / "service.json"
    path.write_text(first_config(agents))
    loaded = load(path, {"HOME": str(tmp_path)})
    assert loaded.warnings == ()
    found = [tier.agent for tier in loaded.plan.chains["default"].tiers]
    assert found == (list(agents) or ["claude-code"])
    assert len(path.read_text().splitlines()) <= 30 + len(agents), "it is read before it is used: it stays small"
    assert max(map(len, path.read_text().splitlines())) <= 140


def test_what_is_commented_out_is_valid_too(tmp_path):
    """Whoever takes the comment marks away gets a file that works."""
    text = first_config(("claude-code", "codex"))
    lines = [line.replace("// {", "{").replace('//  "env', ' "env') for line in text.splitlines()]
    (tmp_path / "service.json").write_text("\n".join(lines))
    loaded = load(tmp_path / "service.json", {"HOME": str(tmp_path)})
    assert len(loaded.plan.chains["default"].tiers) == 5


def test_init_finds_agents_and_says_where_it_wrote_and_what_next(cli, tmp_path, monkeypatch):
    """The usual place is used without being asked, and the next commands are there to copy."""
    found = program(tmp_path / "bin", "claude")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    result = cli("init")
    target = tmp_path / "home" / ".config" / "locum" / "service.json"
    assert result.exit_code == 0
    assert f"found claude-code: {found}\nwrote {target}\n" in result.output
    assert "locum check\n" in result.output
    assert cli("check").exit_code == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_agent_is_found_by_init_and_missed_by_check(cli, tmp_path, monkeypatch, name):
    """Each agent that locum knows is found under its own program's name; once that is gone, check says so."""
    found = program(tmp_path / "bin", AGENTS[name].program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert f"found {name}: {found}\n" in cli("init", "--path", "service.json").output
    for key in AGENTS[name].keys:
        monkeypatch.delenv(key, raising=False)
    told = cli("check")
    assert told.exit_code == 0
    (lacking,) = told.stderr.splitlines()
    assert f": no login of {name} was found (" in lacking
    assert f": {name}\n" in told.stdout
    monkeypatch.setenv(AGENTS[name].keys[0], "precious")
    assert cli("check").stderr == ""
    found.unlink()
    (missing,) = cli("check").stderr.splitlines()
    assert f"{AGENTS[name].program} is not on PATH" in missing


def test_init_never_overwrites(cli, tmp_path):
    """A file that is there stays byte for byte."""
    (tmp_path / "mine.json").write_text("precious")
    found = cli("init", "--path", "mine.json")
    assert found.exit_code == 1
    assert "--path" in found.stderr
    assert (tmp_path / "mine.json").read_text() == "precious"


def test_init_into_a_place_that_cannot_be_written_says_so(cli, tmp_path):
    """A file where a folder should be is told, not traced."""
    (tmp_path / "file").touch()
    found = cli("init", "--path", "file/service.json")
    assert found.exit_code == 1
    assert "cannot be written" in found.stderr


def test_check_says_what_it_understood(cli, tmp_path, monkeypatch):
    """Chains, tiers and budgets come back in words, with the file and why that one."""
    monkeypatch.setenv("CODEX_API_KEY", "precious")
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "codex").parent))
    program(tmp_path, "mine")
    (tmp_path / "key").write_text("secret")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "service.json").write_text(json.dumps(SERVICE))
    found = cli("check")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout == (
        f"{tmp_path}/service.json (the first one found in the usual places) is valid\n"
        "chain default: one → two\n"
        "  tier one: command\n"
        "  tier two: codex, model gpt\n"
        "  budget of chain default: 5,000 tokens in the week starting Monday 00:00 UTC; then the tier in use is held\n"
        "  budget of tier two: 2,000 tokens in the day starting 00:00 UTC; then the tier is held\n"
        "  does not move for: crash, credit_exhausted, model_unavailable, network, no_result, overloaded, rate_limit, "
        "server_error, stalled, usage_limit\n"
    )
    assert "secret" not in found.output


@pytest.mark.parametrize("way", ["option", "global", "variable"])
def test_check_says_why_that_file(cli, tmp_path, monkeypatch, way):
    """A file that was named is used, and how it was named is told."""
    (tmp_path / "other.json").write_text(json.dumps(SERVICE))
    if way == "variable":
        monkeypatch.setenv("LOCUM_CONFIG", str(tmp_path / "other.json"))
    args = {"option": ("check", "--config", "other.json"), "global": ("--config", "other.json", "check")}.get(
        way, ("check",)
    )
    why = "named by $LOCUM_CONFIG" if way == "variable" else "named by --config"
    assert f"({why}) is valid" in cli(*args).stdout


def test_check_warns_of_what_this_host_lacks(cli, tmp_path, monkeypatch):
    """A program that is missing and a secret that cannot be had are warnings: the file itself is right."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    (tmp_path / "service.json").write_text(json.dumps(SERVICE))
    found = cli("check")
    assert found.exit_code == 0
    assert f"warning: tier one: {tmp_path}/mine is not a program" in found.stderr
    assert "warning: tier one: API_KEY: " in found.stderr
    assert "warning: tier two: codex is not on PATH" in found.stderr
    assert len(json.loads(cli("check", "--json").stdout)["doubts"]) == 3


def test_check_looks_programs_up_where_the_tier_does(cli, tmp_path, monkeypatch):
    """A tier that sets its own PATH is started by that one: nothing is missed that is there, nor found elsewhere."""
    program(tmp_path / "shell", "codex")
    program(tmp_path / "own", "gemini")
    monkeypatch.setenv("PATH", str(tmp_path / "shell"))
    env = {"PATH": str(tmp_path / "own"), "CODEX_API_KEY": "precious", "GEMINI_API_KEY": "precious"}
    tiers = [{"name": agent, "agent": agent, "env": env} for agent in ("codex", "gemini")]
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": tiers}}))
    words = "is not on the PATH that the tier sets; install it, or say where it is with `program`"
    assert cli("check").stderr.splitlines() == [f"warning: tier codex: codex {words}"]


def test_check_warns_of_a_tier_without_a_login(cli, tmp_path, monkeypatch):
    """One line each, with where it was looked and what to do; a login that is there, or may be, is no doubt."""
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "codex").parent))
    for key in AGENTS["codex"].keys:
        monkeypatch.delenv(key, raising=False)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "auth.json").write_text('{"tokens": {}}')
    tiers = [
        {"name": "bare", "agent": "codex"},
        {"name": "own", "agent": "codex", "home": "out"},
        {"name": "logged-in", "agent": "codex", "home": "in"},
        {"name": "keyed", "agent": "codex", "env": {"CODEX_API_KEY": "precious"}},
        {"name": "provided", "agent": "codex", "args": ["-c", "model_provider=house"]},
    ]
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": tiers}}))
    found = cli("check")
    doubts = [
        f"tier {name}: no login of codex was found (no {home}/auth.json, and none of CODEX_API_KEY, OPENAI_API_KEY is "
        f"set); log in once with `codex`{how}, or give it one of these variables in `env`"
        for name, home, how in (
            ("bare", tmp_path / "home" / ".codex", ""),
            ("own", tmp_path / "out", " with CODEX_HOME set to its home"),
        )
    ]
    assert (found.exit_code, found.stderr.splitlines()) == (0, [f"warning: {doubt}" for doubt in doubts])
    assert json.loads(cli("check", "--json").stdout)["doubts"] == doubts


def test_check_doubts_an_account_whose_tiers_differ_in_a_secret(cli, tmp_path, monkeypatch):
    """A key that only a file of the agent's own knows as a login merges two accounts unless somebody says so."""
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "codex").parent))
    for name in ("CODEX_API_KEY", "A", "B"):
        monkeypatch.setenv(name, "precious")
    tiers = [{"name": name, "agent": "codex", "env": {"HOUSE_KEY": {"env": name.upper()}}} for name in "ab"]
    service = tmp_path / "service.json"
    service.write_text(json.dumps({"failover": {"tiers": tiers}}))
    assert cli("check").stderr == (
        "warning: tiers a and b are taken for one account (codex), but differ in HOUSE_KEY; "
        "if that is a login, give each an `account` of its own\n"
    )
    service.write_text(json.dumps({"failover": {"tiers": [{**each, "account": each["name"]} for each in tiers]}}))
    assert cli("check").stderr == ""
    tiers[1]["env"] = {}
    service.write_text(json.dumps({"failover": {"tiers": tiers}}))
    assert cli("check").stderr == "", "a tool's key that only one of them has is no doubt"


def test_check_tells_every_problem_with_its_place(cli, tmp_path):
    """All problems at once, each `path:line:column`, exit code 78."""
    (tmp_path / "service.json").write_text('{\n "usage_treshold_tokens": 5,\n "failover": {"tiers": []}}')
    found = cli("check")
    assert found.exit_code == 78
    assert f"{tmp_path}/service.json:2:2: " in found.stderr
    assert len(found.stderr.splitlines()) == 2
    report = json.loads(cli("check", "--json").stdout)
    assert (report["valid"], len(report["problems"]), report["problems"][0]["line"]) == (False, 2, 2)


def test_serve_of_a_bad_file_starts_nothing(cli, tmp_path, monkeypatch):
    """The daemon refuses to start with 78, which systemd is told not to retry."""
    monkeypatch.setitem(sys.modules, "rich", sys.modules.get("rich"))  # which a daemon does without, and tests do not
    (tmp_path / "service.json").write_text("{")
    found = cli("--state", "state", "serve")
    assert found.exit_code == 78
    assert "service.json:1" in found.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("place", ["signals/wide.toml", "service.json"])
def test_check_tries_rules_that_were_written_by_hand(cli, tmp_path, place):
    """A rule that nobody proved is valid, and doubted with what it breaks; one that breaks nothing is no doubt."""
    program(tmp_path, "mine")
    service = {"failover": {"tiers": [{"name": "one", "agent": "command", "command": ["./mine"]}]}}
    rule = {"id": "wide", "agent": "codex", "kind": "auth_error", "pattern": ".+"}

    def check():
        if place == "service.json":
            service["signals"] = [{key: value for key, value in rule.items() if key not in ("said", "twins")}]
        else:
            (tmp_path / "signals").mkdir(exist_ok=True)
            lines = (f"{key} = {[value] if key in ('said', 'twins') else value!r}\n" for key, value in rule.items())
            (tmp_path / place).write_text("".join(lines))
        (tmp_path / "service.json").write_text(json.dumps(service))
        return cli("check")

    found = check()
    assert found.exit_code == 0
    (doubt,) = found.stderr.splitlines()
    origin = "service.json" if place == "service.json" else "added"
    assert doubt.startswith(f"warning: rule wide ({origin}) fails on run 'codex/")
    assert "it is told as auth_error, not " in doubt
    assert doubt.endswith(" more); `locum signals test` tells all that is wrong")
    rule["pattern"] = "The moon is full"
    unproved = "warning: rule wide (added) is not proved: it names neither a recorded run (case) nor a sentence (said)"
    stands_alone = check().stderr
    assert not stands_alone if place == "service.json" else stands_alone.startswith(unproved)
    rule |= {"said": "The moon is full.", "twins": "The moon is nearly full"}
    assert check().stderr == ""


def test_check_says_when_rules_cannot_be_tried(cli, tmp_path):
    """A kept run that somebody broke is a doubt as well, with its folder, and no end of the check."""
    program(tmp_path, "mine")
    rule = {"id": "moon", "agent": "codex", "kind": "auth_error", "pattern": "The moon is full"}
    tiers = [{"name": "one", "agent": "command", "command": ["./mine"]}]
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": tiers}, "signals": [rule]}))
    kept = tmp_path / "signals" / "cases" / "codex" / "moon"
    kept.mkdir(parents=True)
    (kept / "expected.json").write_text("{")
    found = cli("check")
    assert found.exit_code == 0
    assert f"warning: rules of your own cannot be tried: a kept case in {tmp_path}/signals/cases" in found.stderr


def test_a_chain_without_a_budget_is_not_said_to_ignore_one(cli, tmp_path):
    """A single tier with nothing to spend reads as what it is, not as a fault."""
    tier = {"name": "one", "agent": "command", "command": ["true"]}
    for more in ({}, {"usage_halt_tokens": 9000}):
        (tmp_path / "service.json").write_text(json.dumps({**more, "failover": {"tiers": [tier]}}))
        assert "does not move for" not in cli("check").stdout


@pytest.mark.parametrize(
    ("command", "doubt"),
    [
        (["./after.sh"], "{folder}/after.sh is not a program; install it, or say where it is with `command`"),
        (["./plain.sh", "x"], "{folder}/plain.sh is not a program; install it, or say where it is with `command`"),
        (["no-such-thing"], "no-such-thing is not on PATH; install it, or say where it is with `command`"),
        (["./real.sh"], None),
    ],
)
def test_check_misses_the_program_of_post_task(cli, tmp_path, command, doubt):
    """A command after each task that could not be started is told before the first task ends, with what to do."""
    program(tmp_path, "real.sh")
    program(tmp_path, "mine")
    (tmp_path / "plain.sh").write_text("#!/bin/sh\n")
    tiers = [{"name": "one", "agent": "command", "command": ["./mine"]}]
    value = {"failover": {"tiers": tiers}, "post_task": {"command": command, "time_limit": "90s"}}
    (tmp_path / "service.json").write_text(json.dumps(value))
    found = cli("check")
    assert found.exit_code == 0
    told = f"warning: post_task: {doubt.format(folder=tmp_path)}\n" if doubt else ""
    assert found.stderr == told
    assert f"after each task: {command[0]}, for 1 min 30 s at most\n" in found.stdout


def test_check_misses_homes_in_which_nothing_will_ever_be_seen(cli, tmp_path):
    """What `usage_sources` names in vain (an agent without transcripts, a folder that is not there) is told."""
    program(tmp_path, "mine")
    (tmp_path / "there").mkdir()
    homes = [{"agent": "aider", "home": "there"}, {"agent": "codex", "home": "there"}, {"agent": "pi", "home": "~x/y"}]
    tiers = [{"name": "one", "agent": "command", "command": ["./mine"]}]
    (tmp_path / "service.json").write_text(json.dumps({"failover": {"tiers": tiers}, "usage_sources": homes}))
    found = cli("check")
    assert (found.exit_code, found.stderr.splitlines()) == (
        0,
        [
            "warning: usage_sources: aider keeps no transcripts that could be read; count its tasks or report them",
            f"warning: usage_sources: {tmp_path}/~x/y is no folder yet; see whether pi keeps its sessions there",
        ],
    )
