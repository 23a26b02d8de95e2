"""Finding verbs, telling errors, and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from locum.cli.main import _VERBS
from tests.unit.cli.daemon import answering, problem

LOCUM = [sys.executable, "-c", "from locum.cli.main import main; main()"]


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_its_own_help(cli, verb):
    """Each verb that is listed exists, and says what it does."""
    found = cli(verb, "--help")
    assert found.exit_code == 0
    assert "Usage: locum" in found.output


def test_alone_it_shows_what_there_is(cli):
    """Without a verb the whole list comes, set up first, and that is no error."""
    found = cli()
    assert found.exit_code == 0
    assert found.output.index("init") < found.output.index("serve") < found.output.index("run ")
    assert "Exit codes" in found.output


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("nonsense",), 2),
        (("status", "--nonsense"), 2),
        (("status",), 69),
        (("submit", "x"), 69),
        (("check",), 78),
        (("run", "--file", "gone"), 2),
        (("run", "x", "--file", "y"), 2),
    ],
)
def test_exit_codes_without_a_daemon(cli, args, code):
    """Scripts tell usage, configuration and a missing daemon apart by the code alone."""
    found = cli(*args)
    assert found.exit_code == code
    assert found.stdout == ""
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("agents", "gpt"),
        ("signals", "list", "--agent", "gpt"),
        ("signals", "explain", "--agent", "gpt", "--exit", "1", "--stdout", "out"),
        ("signals", "add", "--id", "x", "--agent", "gpt", "--kind", "crash", "--pattern", "x", "--said", "x"),
        ("hooks", "install", "gpt"),
        ("hooks", "uninstall", "gpt"),
        ("hooks", "test", "gpt"),
        ("import", "--agent", "gpt"),
    ],
)
def test_an_agent_that_is_not_known_is_one_mistake_everywhere(cli, args):
    """Whatever the verb, and whatever else is missing: exit code 2, and the agents there are."""
    found = cli(*args)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr == (
        "locum: there is no agent 'gpt'.\n"
        "  The agents are claude-code, codex, gemini, opencode, qwen, pi, copilot, aider, command.\n"
    )


def test_a_missing_daemon_is_told_with_what_to_type(cli, tmp_path):
    """One line what, one line what to do."""
    assert cli("status").stderr == (
        f"locum: no daemon answers at {tmp_path}/locum.sock.\n"
        "  Start one with `locum serve`; if it runs, name its socket with --socket or $LOCUM_SOCKET.\n"
    )


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("not_found", 1),
        ("conflict", 1),
        ("usage", 2),
        ("too_large", 2),
        ("unreachable", 69),
        ("no_tier", 75),
        ("forbidden", 77),
        ("config", 78),
        ("internal", 1),
        ("something_new", 1),
    ],
)
def test_a_refusal_keeps_its_exit_code_over_the_socket(cli, tmp_path, code, exit_code):
    """What the daemon refuses exits as if it had happened here; a code nobody knows is a failure."""
    with answering(tmp_path / "locum.sock", {("GET", "/status"): (400, problem(code, "what", "Do this."))}):
        found = cli("status")
    assert found.exit_code == exit_code
    assert found.stderr.endswith(": what.\n  Do this.\n")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", b"SSH-2.0\r\n\r\n"])
def test_an_answer_that_is_none_is_an_unreachable_daemon(cli, tmp_path, answer):
    """A daemon that dies in mid-sentence, or something that is no daemon, is told as 69 and never as a traceback."""
    import socket
    import threading

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "locum.sock"))
        listening.listen()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        found = cli("status")
        thread.join()
    assert found.exit_code == 69
    assert "broke off" in found.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path):
    """`locum … | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        found = subprocess.run(LOCUM, stdout=pipe, stderr=subprocess.PIPE, timeout=30)
    assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed_are_no_error(closed):
    """What nobody wants to read is written nowhere, and never into a file or a socket that is opened later."""
    found = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *LOCUM, "version"], capture_output=True, timeout=30)
    assert (found.returncode, found.stderr) == (0, b"")
    assert bool(found.stdout) is (">&-" not in closed.split())


def test_output_that_cannot_be_written_is_told():
    """A full disk costs a sentence and exit code 1, not a traceback."""
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run([*LOCUM, "version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert found.returncode == 1
    assert found.stderr == "locum: standard output cannot be written (no space left on device)\n"


def test_options_stand_before_the_verb_and_win_over_the_environment(cli, tmp_path):
    """--socket is used even where $LOCUM_SOCKET names another."""
    with answering(tmp_path / "other.sock", {("GET", "/version"): {"version": "9", "pid": 1}}):
        assert "daemon 9" in cli("--socket", str(tmp_path / "other.sock"), "version").output


def test_a_mistyped_verb_is_told_with_the_nearest(cli):
    """Nobody has to read the whole list for a slip of the finger."""
    found = cli("statsu")
    assert found.exit_code == 2
    assert "locum status" in found.output


def test_looking_imports_nothing_heavy():
    """The daily verbs start quickly: no models, no server, no tables are imported for plain output."""
    script = (
        "import sys, locum.cli.main, locum.cli.reading, locum.cli.work, locum.cli.steering,"
        " locum.cli.report, locum.cli.hooks;"
        "print([each for each in ('pydantic', 'starlette', 'anyio', 'rich', 'apsw', 'asyncio', 'structlog',"
        " 'http.client') if each in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("verb", ["tasks", "usage"])
def test_verbs_that_show_every_chain_say_so(cli, verb):
    """What an option means when it is left out is what then happens."""
    assert "left out: all of them" in " ".join(cli(verb, "--help").output.split())


@pytest.mark.parametrize(("verb", "meant"), [("bump", "the active one"), ("release", "every tier of the chain")])
def test_steering_says_which_tier_is_meant(cli, verb, meant):
    """Nobody has to read another paragraph to learn which tier an order is about."""
    assert f"left out: {meant}" in " ".join(cli(verb, "--help").output.split())
