"""The hooks of agents that people run themselves: put in, tried, and taken out again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from locum.agents.registry import AGENTS, hooks
from locum.cli.agentfile import AgentFile
from tests.unit.cli.daemon import answering, problem

TIERS = [{"name": "a", "agent": "claude-code"}, {"name": "b c", "agent": "claude-code"}]
SIDE = [TIERS[0], {"name": "d", "agent": "codex"}]
STATUS = {"chains": {"default": {"tiers": TIERS}, "side": {"tiers": SIDE}}}
ANSWER = {"schema": 1, "agent": "claude-code", "attributed": None, "go_on": True, "reason": None}
SETTINGS = "home/.claude/settings.json"


def told(**more):
    """A daemon that answers the test of a hook of any agent."""
    return {("GET", "/status"): STATUS, **{("POST", f"/hooks/{agent}"): {**ANSWER, **more} for agent in hooks(AGENTS)}}


def events(agent):
    """The events of an agent's hooks."""
    return [each.event for each in hooks(AGENTS)[agent].installed]


def commands(path):
    """Every command of ours in a settings file."""
    return [command for _, _, command in AgentFile(Path(path)).ours()]


def test_install_says_what_was_done_and_how_to_undo_it(cli, tmp_path):
    """File, events, whose usage it is, how to try it: all there to copy, and nothing on standard error."""
    with answering(tmp_path / "locum.sock", told(attributed={"chain": "default", "tier": "b c"})):
        found = cli("hooks", "install", "claude-code", "--chain", "default", "--tier", "b c", "--settings", "my file")
    assert found.output == (
        f"installed in {tmp_path}/my file: {', '.join(events('claude-code'))}\n"
        "usage counts for tier b c of chain default\n"
        "try it:  locum hooks test claude-code --settings 'my file'\n"
        "undo it: locum hooks uninstall claude-code --settings 'my file'\n"
    )


def test_what_hooks_cannot_do_is_said(cli):
    """Who relies on a hook learns beforehand where it ends."""
    assert "cannot" in cli("hooks", "install", "codex").output
    assert "not known" in cli("hooks", "install", "gemini").output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("codex",), "usage counts for the only tier with this agent and home; where"),
        (("codex", "--chain", "side"), "usage counts for the only tier of chain side with this agent and home; where"),
        (("codex", "--tier", "a"), "usage counts for tier a\n"),
        (("gemini", "--chain", "side", "--tier", "a"), "usage counts for tier a of chain side\n"),
    ],
)
def test_whom_usage_counts_for_is_said(cli, args, says):
    """Nobody finds out at the end of the month that nothing was counted where they thought."""
    assert f"\n{says}" in cli("hooks", "install", *args).output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ("claude-code",),
            "a and b c have this agent, and none or several of them this home; name one with --tier",
        ),
        (
            ("claude-code", "--chain", "side"),
            "a, the only tier of chain side with this agent, has another home; name it with --tier if it is meant",
        ),
        (("codex",), "d, the only tier with this agent, has another home; name it with --tier if it is meant"),
        (("codex", "--chain", "default"), "no tier of chain default runs codex, so name one with --tier"),
        (("gemini",), "no tier runs gemini, so name one with --tier"),
    ],
)
def test_the_daemon_is_asked_whom_usage_counts_for(cli, tmp_path, args, says):
    """What nobody will be charged for is said at once, with the reason, and not found out by a test later."""
    with answering(tmp_path / "locum.sock", told()) as daemon:
        found = cli("hooks", "install", *args)
    assert (found.exit_code, found.stderr) == (0, "")
    assert f"\nusage counts for no tier: {says}\n" in found.output
    method, path, body = daemon.asked[-1]
    assert (method, path) == ("POST", f"/hooks/{args[0]}" + (f"?chain={args[2]}" if args[2:] else ""))
    assert (body["hook_event_name"], body["session_id"]) == ("LocumTest", "locum-test")


def test_what_the_daemon_finds_is_what_is_said(cli, tmp_path):
    """Without a name the tier is the daemon's word; the hook and the question name the same, and the same transcript."""
    with answering(tmp_path / "locum.sock", told(attributed={"chain": "side", "tier": "d"})) as daemon:
        found = cli("hooks", "install", "codex")
        cli("hooks", "test", "codex")
    assert "\nusage counts for tier d of chain side\n" in found.output
    assert daemon.asked[1] == daemon.asked[2]


def test_what_keeps_usage_from_being_counted_is_told(cli, tmp_path):
    """A note of the daemon's is passed on, on one line."""
    place = {"chain": "default", "tier": "a"}
    with answering(tmp_path / "locum.sock", told(attributed=place, reason="locum: it is\nnot read.")):
        assert cli("hooks", "install", "claude-code").stderr == "locum: it is not read.\n"


def test_what_stops_a_prompt_just_now_is_left_to_the_test(cli, tmp_path):
    """A hold is no fault of what was installed."""
    place = {"chain": "default", "tier": "a"}
    with answering(tmp_path / "locum.sock", told(attributed=place, go_on=False, reason="locum: held")):
        assert cli("hooks", "install", "claude-code").stderr == ""


def test_a_tier_of_another_agent_is_allowed_and_said(cli, tmp_path):
    """Gemini CLI can count for any tier; a slip of the finger looks the same, so it is told."""
    with answering(tmp_path / "locum.sock", told(attributed={"chain": "side", "tier": "d"})):
        found = cli("hooks", "install", "gemini", "--tier", "d")
    assert found.exit_code == 0
    assert found.stderr == "locum: tier d runs codex, not gemini; these sessions count for it all the same.\n"


@pytest.mark.parametrize("answer", [(404, problem("not_found", "no such path")), {"hello": 1}])
def test_a_daemon_that_cannot_say_changes_nothing(cli, tmp_path, answer):
    """One that knows no hooks yet is no reason not to install: then what it will go by is said."""
    with answering(tmp_path / "locum.sock", {**told(), ("POST", "/hooks/claude-code"): answer}):
        found = cli("hooks", "install", "claude-code")
    assert (found.exit_code, found.stderr) == (0, "")
    assert "\nusage counts for the only tier with this agent and home; where no single one" in found.output


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_an_agent_changes_no_hooks(cli, tmp_path, monkeypatch, verb):
    """A run has its user's settings, but a socket and a home of its own: it is refused, and nothing is written."""
    monkeypatch.setenv("LOCUM_RUN", "r-1")
    found = cli("hooks", verb, "claude-code")
    assert found.exit_code == 77
    assert found.stderr == (
        "locum: an agent that locum runs changes no hooks ($LOCUM_RUN is set).\n  Run it in a terminal of your own.\n"
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("agent", "variable", "value", "place"),
    [
        ("claude-code", None, None, "home/.claude/settings.json"),
        ("claude-code", "CLAUDE_CONFIG_DIR", "second", "second/settings.json"),
        ("codex", None, None, "home/.codex/hooks.json"),
        ("codex", "CODEX_HOME", "second", "second/hooks.json"),
        ("gemini", None, None, "home/.gemini/settings.json"),
        ("gemini", "GEMINI_CLI_HOME", "second", "second/.gemini/settings.json"),
    ],
)
def test_the_file_is_the_one_that_the_agent_reads(cli, tmp_path, monkeypatch, agent, variable, value, place):
    """A folder that a variable moves is found where the agent finds it; the new file is for its owner alone."""
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / value))
    assert str(tmp_path / place) in cli("hooks", "install", agent).output
    assert (tmp_path / place).stat().st_mode & 0o777 == 0o600
    assert set(json.loads((tmp_path / place).read_text())) == {"hooks"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--chain", "none"), "there is no chain none.\n  The chains are default, side.\n"),
        (("--tier", "none"), "there is no tier none.\n  The tiers are a, b c, d.\n"),
        (("--chain", "side", "--tier", "b c"), "there is no tier b c in chain side.\n  The tiers are a, d.\n"),
    ],
)
def test_a_name_that_the_daemon_has_not_got_is_refused(cli, tmp_path, args, says):
    """A slip of the finger is told with what there is, and nothing is written."""
    with answering(tmp_path / "locum.sock", told()):
        found = cli("hooks", "install", "claude-code", *args)
    assert (found.exit_code, found.stderr) == (1, f"locum: {says}")
    assert not (tmp_path / SETTINGS).exists()


def test_without_a_daemon_hooks_are_installed_and_that_is_said(cli, tmp_path):
    """One can install before there is a daemon, and hears that names were not checked and what happens until then."""
    found = cli("hooks", "install", "claude-code", "--tier", "any")
    assert found.exit_code == 0
    assert "could not be checked" in found.stderr
    assert "sessions go on uncounted" in found.stderr
    assert "?tier=any'" in commands(tmp_path / SETTINGS)[0]


def test_the_socket_that_answers(cli, tmp_path, monkeypatch):
    """Where several are possible, the hooks tell the daemon that runs, and else the one that would."""
    monkeypatch.delenv("LOCUM_SOCKET")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    state = tmp_path / "home/.local/state/locum"
    state.mkdir(parents=True)
    assert cli("hooks", "install", "claude-code").exit_code == 0
    assert f"--unix-socket {tmp_path}/run/locum/locum.sock " in commands(tmp_path / SETTINGS)[0]
    with answering(state / "locum.sock", told()):
        assert cli("hooks", "install", "claude-code").output.startswith("installed in ")
    assert all(f"--unix-socket {state}/locum.sock " in each for each in commands(tmp_path / SETTINGS))
    assert len(commands(tmp_path / SETTINGS)) == len(events("claude-code"))


def test_without_curl_nothing_is_installed(cli, tmp_path, monkeypatch):
    """A hook that could never work is refused with what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = cli("hooks", "install", "claude-code")
    assert (found.exit_code, "Install curl" in found.stderr) == (1, True)
    assert not (tmp_path / "home").exists()


def test_an_agent_without_hooks_is_told_with_those_that_have_some(cli):
    """Nobody has to guess how an agent is called here."""
    found = cli("hooks", "install", "claude")
    assert (found.exit_code, "claude-code, codex, gemini" in found.stderr) == (2, True)


def test_a_socket_that_no_settings_can_name_is_refused(cli, tmp_path, monkeypatch):
    """Settings are UTF-8, file names need not be: that ends in a sentence."""
    monkeypatch.setenv("LOCUM_SOCKET", os.fsdecode(os.fsencode(tmp_path) + b"/\xff.sock"))
    found = cli("hooks", "install", "claude-code")
    assert (found.exit_code, "is not UTF-8" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1 "b": 2}', ":1:9: a `,` is missing"),
        (b'{\n  "a": 1, // mine\n}', "has a comment"),
        (b'{"a": [1,],}', "has a comment, or a comma"),
        (b"[]", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b'{"a": NaN}', ":1:7: a word without quotes"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"hooks": []}', "`hooks` in"),
        (b'{"hooks": null}', "`hooks` in"),
        (b'{"hooks": {"Stop": {}}}', "`hooks.Stop` in"),
        (b"[" * 200_000, "more than 64 levels"),
        (b" " * (5 << 20), "is longer than 4M"),
    ],
)
def test_a_file_that_is_not_understood_is_left_alone(cli, tmp_path, content, says):
    """What is wrong, where and what to do is told; not a byte changes, and nothing is left beside it."""
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).write_bytes(content)
    found = cli("hooks", "install", "claude-code")
    assert found.exit_code == 1
    assert f"{tmp_path}/{SETTINGS}" in found.stderr
    assert says in found.stderr
    assert "nothing was written" in found.stderr
    assert (tmp_path / SETTINGS).read_bytes() == content
    assert list((tmp_path / SETTINGS).parent.iterdir()) == [tmp_path / SETTINGS]


@pytest.mark.parametrize("what", ["folder", "pipe", "loop", "below a file"])
def test_what_is_no_file_is_refused_at_once(cli, tmp_path, what):
    """A folder, a pipe that would block, a link to itself: each is told, none is waited for."""
    path = tmp_path / "settings.json"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    else:
        path.touch()
        path /= "settings.json"
    for verb in ("install", "uninstall", "test"):
        found = cli("hooks", verb, "claude-code", "--settings", str(path))
        assert found.exit_code == 1
        assert f"{path} cannot be read" in found.stderr


def test_a_folder_that_cannot_be_made_is_told(cli):
    """Where nothing can be written, the reason is given and how to go elsewhere."""
    found = cli("hooks", "install", "claude-code", "--settings", "/proc/none/settings.json")
    assert found.exit_code == 1
    assert "/proc/none/settings.json cannot be written" in found.stderr


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_link_is_kept_and_its_target_replaced(cli, tmp_path, there):
    """Settings that live among somebody's dotfiles stay a link to them, with mode and owner as they were."""
    target, owner = tmp_path / "dotfiles" / "claude.json", (1234, 1234) if os.geteuid() == 0 else (os.geteuid(), -1)
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).symlink_to("../../dotfiles/claude.json")
    if there:
        target.parent.mkdir()
        target.write_text('{"a": 1}')
        target.chmod(0o640)
        os.chown(target, *owner)
    assert cli("hooks", "install", "claude-code").exit_code == 0
    assert (tmp_path / SETTINGS).readlink() == Path("../../dotfiles/claude.json")
    assert len(commands(target)) == len(events("claude-code"))
    if there:
        found = target.stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o640, owner[0])


def test_only_what_is_ours_is_taken_out(cli, tmp_path):
    """Neighbours in the same entry stay, and commands that only look alike."""
    cli("hooks", "install", "claude-code")
    ours = commands(tmp_path / SETTINGS)[0]
    others = [{"type": "command", "command": each} for each in ("say hi", "curl http://locum/hooks/claude-code")]
    mixed = {"hooks": {"Stop": [{"hooks": [others[0], {"command": ours}, others[1], {"command": ours}]}], "Odd": 3}}
    (tmp_path / SETTINGS).write_text(json.dumps(mixed))
    assert cli("hooks", "uninstall", "claude-code").output == f"removed 2 hooks from {tmp_path}/{SETTINGS}\n"
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"hooks": {"Stop": [{"hooks": others}], "Odd": 3}}
    assert cli("hooks", "uninstall", "claude-code").output == f"none were in {tmp_path}/{SETTINGS}\n"


def test_uninstalling_where_nothing_is_makes_nothing(cli, tmp_path):
    """Neither a file nor a folder appears."""
    assert cli("hooks", "uninstall", "claude-code").exit_code == 0
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"attributed": {"chain": "default", "tier": "a"}},
            "usage counts for tier a of chain default\nthe next prompt would run\n",
        ),
        (
            {"attributed": {"chain": "default", "tier": "a"}, "go_on": False, "reason": "locum: held until 5"},
            "usage counts for tier a of chain default\nthe next prompt would be stopped: held until 5\n",
        ),
        (
            {"reason": "locum: not all was counted"},
            (
                "usage shows as unattributed and nothing stops it, for no single tier has this agent and home\n"
                "name one: locum hooks install claude-code --tier TIER\n"
                "the next prompt would run\nnot all was counted\n"
            ),
        ),
    ],
)
def test_trying_a_hook_says_what_it_hears(cli, tmp_path, more, says):
    """The installed line itself is run, with an event that no agent has, and its answer is put into words."""
    with answering(tmp_path / "locum.sock", told(**more)) as daemon:
        cli("hooks", "install", "claude-code")
        found = cli("hooks", "test", "claude-code")
        assert json.loads(cli("hooks", "test", "claude-code", "--json").output) == {**ANSWER, **more}
    assert (found.exit_code, found.output) == (0, f"the hook reached the daemon\n{says}")
    assert daemon.asked[2][2] == {
        "hook_event_name": "LocumTest",
        "session_id": "locum-test",
        "cwd": str(tmp_path),
        "transcript_path": f"{tmp_path}/home/.claude/projects/locum-test.jsonl",
    }


@pytest.mark.parametrize(("made", "place"), [(True, "other/projects"), (False, "home/.claude/projects")])
def test_a_hook_is_tried_for_the_home_its_settings_belong_to(cli, tmp_path, made, place):
    """Settings of another home count for that one's tier; those of a project for the user's own."""
    (tmp_path / "other").mkdir()
    if made:
        (tmp_path / "other/projects").mkdir()
    with answering(tmp_path / "locum.sock", told()) as daemon:
        for verb in ("install", "test"):
            assert cli("hooks", verb, "claude-code", "--settings", "other/settings.json").exit_code == 0
    assert daemon.asked[-1][2]["transcript_path"] == f"{tmp_path}/{place}/locum-test.jsonl"


def test_trying_what_is_not_installed_says_how_to(cli):
    """The remedy can be typed as it stands."""
    found = cli("hooks", "test", "claude-code", "--settings", "gone.json")
    assert found.exit_code == 1
    assert "`locum hooks install claude-code --settings gone.json`" in found.stderr


def test_trying_without_a_daemon_exits_with_69_and_the_hooks_own_words(cli, tmp_path):
    """What the agent would see is shown, then why, then what to do."""
    cli("hooks", "install", "claude-code", "--tier", "b c")
    found = cli("hooks", "test", "claude-code")
    assert found.exit_code == 69
    assert "`locum --socket PATH hooks install claude-code --tier 'b c'`" in found.stderr
    assert "locum: this hook got no answer, so the session goes on" in found.stderr
    assert f"reaches no daemon at {tmp_path}/locum.sock" in found.stderr


@pytest.mark.parametrize("answer", [(404, problem("not_found", "no")), {**ANSWER}], ids=["refused", "unattributed"])
@pytest.mark.parametrize("names", [("--tier", "old"), ("--chain", "default", "--tier", "old"), ("--chain", "old")])
def test_a_hook_whose_tier_is_gone_says_so(cli, tmp_path, answer, names):
    """Whichever way the daemon answers it, a name that has left the configuration is told with those there are."""
    cli("hooks", "install", "claude-code", *names)
    with answering(tmp_path / "locum.sock", {**told(), ("POST", "/hooks/claude-code"): answer}):
        found = cli("hooks", "test", "claude-code")
    assert found.exit_code == 1
    assert "old" in found.stderr
    assert "any more" in found.stderr
    assert "locum hooks install claude-code --chain CHAIN --tier TIER" in found.stderr


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        ((500, problem("internal", "no")), 1, "failed with exit code 1"),
        ([{"hello": 1}], 69, "no locum daemon that knows hooks"),
        ({"hello": 1}, 69, "no locum daemon that knows hooks"),
    ],
)
def test_a_strange_answer_is_told_as_one(cli, tmp_path, answer, code, says):
    """What is no answer to a hook is never taken for one."""
    cli("hooks", "install", "claude-code")
    with answering(tmp_path / "locum.sock", {**told(), ("POST", "/hooks/claude-code"): answer}):
        found = cli("hooks", "test", "claude-code")
    assert (found.exit_code, says in found.stderr) == (code, True)


def test_trying_says_what_hooks_cannot_do(cli, tmp_path):
    """Hooks that Codex was not told to trust answer here, and are never called by it: that stands below the answer."""
    with answering(tmp_path / "locum.sock", told()):
        cli("hooks", "install", "codex")
        found = cli("hooks", "test", "codex")
    assert found.output.endswith(f"the next prompt would run\n{hooks(AGENTS)['codex'].cannot}\n")


def test_hooks_that_somebody_took_out_are_missed(cli, tmp_path):
    """A half of the hooks counts a half of the truth: that is said."""
    with answering(tmp_path / "locum.sock", told()):
        cli("hooks", "install", "claude-code")
        settings = json.loads((tmp_path / SETTINGS).read_text())
        del settings["hooks"]["Stop"]
        (tmp_path / SETTINGS).write_text(json.dumps(settings))
        assert "no hook for Stop any more" in cli("hooks", "test", "claude-code").stderr


def test_programs_hear_the_same(cli, tmp_path):
    """With --json each verb says in keys what it did."""
    place = {"schema": 1, "agent": "codex", "settings": f"{tmp_path}/home/.codex/hooks.json"}
    with answering(tmp_path / "locum.sock", told(attributed={"chain": "default", "tier": "a"})):
        found = json.loads(cli("hooks", "install", "codex", "--tier", "a", "--json").stdout)
    assert found == {
        **place,
        "changed": True,
        "events": events("codex"),
        "socket": f"{tmp_path}/locum.sock",
        "chain": None,
        "tier": "a",
        "checked": True,
        "attributed": {"chain": "default", "tier": "a"},
    }
    assert json.loads(cli("hooks", "uninstall", "codex", "--json").output) == {**place, "changed": True}
    assert json.loads(cli("hooks", "uninstall", "codex", "--json").output) == {**place, "changed": False}


@pytest.mark.parametrize(
    ("agent", "switch", "name"),
    [
        ("claude-code", {"disableAllHooks": True}, "disableAllHooks"),
        ("gemini", {"hooksConfig": {"enabled": False}}, "hooksConfig.enabled"),
    ],
)
def test_hooks_that_the_agent_has_switched_off_are_not_called_working(cli, tmp_path, agent, switch, name):
    """What the agent's own settings keep from running is said at install, and fails the test."""
    (tmp_path / "own.json").write_text(json.dumps(switch))
    with answering(tmp_path / "locum.sock", told(attributed={"chain": "default", "tier": "a"})):
        assert f"{name} in" in cli("hooks", "install", agent, "--settings", "own.json").output
        found = cli("hooks", "test", agent, "--settings", "own.json")
    assert found.exit_code == 1
    assert "switches all hooks" in found.output


def test_whose_hooks_are_replaced_is_said(cli, tmp_path, monkeypatch):
    """A second daemon does not take over the sessions of the first without a word."""
    cli("hooks", "install", "claude-code", "--tier", "a")
    monkeypatch.setenv("LOCUM_SOCKET", str(tmp_path / "second.sock"))
    with answering(tmp_path / "second.sock", told(attributed={"chain": "default", "tier": "a"})):
        found = cli("hooks", "install", "claude-code", "--tier", "a").output
        assert f"they take the place of the hooks of the daemon at {tmp_path}/locum.sock" in found
        assert "take the place" not in cli("hooks", "install", "claude-code", "--tier", "a").output
        monkeypatch.setenv("LOCUM_SOCKET", str(tmp_path / "third.sock"))
        assert (
            f"these hooks ask another daemon, at {tmp_path}/second.sock" in cli("hooks", "test", "claude-code").output
        )


@pytest.mark.parametrize("name", ["--settings", "--chain", "--tier"])
def test_an_empty_name_is_not_taken_for_none(cli, tmp_path, name):
    """`--settings "$F"` with an empty F must not change the user's own file."""
    found = cli("hooks", "install", "claude-code", name, "")
    assert (found.exit_code, "is empty" in found.output) == (2, True)
    assert not (tmp_path / SETTINGS).exists()
