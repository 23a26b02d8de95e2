"""The line that hooks run, really run by sh, against what may answer it and against nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from locum.cli.hookline import HookLine, is_ours, read_back
from tests.unit.cli.daemon import answering, problem

HOSTILE = ["two words", "it's", 'a"b', "$(touch made)", "`touch made`;touch made", "-x", "a\\nb\\", "a\nb", "ü&=?#%"]


def run(line, folder, said=b'{"a": 1}', seconds=5, **env):
    """What comes of a line when an agent runs it."""
    command = line.command(seconds)
    full = {**os.environ, **env}
    return subprocess.run(["/bin/sh", "-c", command], input=said, env=full, cwd=folder, capture_output=True, timeout=30)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_means_anything_to_the_shell(tmp_path, name):
    """Sockets, chains and tiers arrive as they are called, whatever they are called; nothing else happens."""
    line = HookLine(tmp_path / f"{name}.sock", "claude-code", name, name)
    with answering(line.socket, {("POST", "/hooks/claude-code"): {"go": "on"}}) as daemon:
        found = run(line, tmp_path)
    assert (found.returncode, found.stderr) == (0, b"")
    assert json.loads(found.stdout) == {"go": "on"}
    (method, path, body) = daemon.asked[0]
    assert (method, body) == ("POST", {"a": 1})
    assert read_back(f"x --unix-socket /s http://locum{path}") == HookLine(Path("/s"), "claude-code", name, name)
    assert read_back(line.command(5)) == line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_refusal_lets_the_agent_go_on(tmp_path, status):
    """No answer of the daemon can be taken for a block: 1, with a word on standard error and none on output."""
    line = HookLine(tmp_path / "s", "codex")
    with answering(line.socket, {("POST", "/hooks/codex"): (status, problem("no", "no"))}):
        found = run(line, tmp_path)
    assert (found.returncode, found.stdout) == (1, b"")
    assert b"goes on without being counted (why: locum hooks test codex)" in found.stderr


@pytest.mark.parametrize("how", ["none", "file", "mute", "garbled", "gone", "no curl"])
def test_without_an_answer_the_agent_goes_on(tmp_path, how):
    """No daemon, no socket, one that never answers or breaks off, no curl: always 1 and a word, never 2, in time."""
    line = HookLine(tmp_path / "s", "claude-code")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(20)
        if how == "file":
            line.socket.write_text("")
        elif how != "none":
            listening.bind(str(line.socket))
            listening.listen()
        if how == "gone":
            listening.close()
        if how == "garbled":
            with subprocess.Popen(["/bin/sh", "-c", line.command(5)], stdin=-1, stdout=-1, stderr=-1) as child:
                child.stdin.close()
                connection, _ = listening.accept()
                connection.sendall(b"SSH-2.0\r\n")
                connection.close()
                out, err = child.stdout.read(), child.stderr.read()
            found = subprocess.CompletedProcess([], child.returncode, out, err)
        else:
            found = run(line, tmp_path, seconds=2, **({"PATH": str(tmp_path)} if how == "no curl" else {}))
    assert (found.returncode, found.stdout) == (1, b"")
    assert b"locum: this hook got no answer" in found.stderr


def test_nobodys_own_curl_settings_get_in_between(tmp_path):
    """A proxy and a .curlrc of the user do not lead the hook astray."""
    (tmp_path / ".curlrc").write_text("url = http://127.0.0.1:1/\nproxy = http://127.0.0.1:1\noutput = stolen\n")
    line = HookLine(tmp_path / "s", "claude-code")
    away = "http://127.0.0.1:1"
    with answering(line.socket, {("POST", "/hooks/claude-code"): {}}):
        found = run(line, tmp_path, HOME=str(tmp_path), http_proxy=away, ALL_PROXY=away)
    assert (found.returncode, found.stdout) == (0, b"{}")


def test_what_an_agent_says_arrives_whole(tmp_path):
    """A long tool output in the hook's input is neither cut nor changed."""
    line = HookLine(tmp_path / "s", "claude-code")
    said = {"tool_response": "line\r\n\x00ü@" * 200_000}
    with answering(line.socket, {("POST", "/hooks/claude-code"): {}}) as daemon:
        assert run(line, tmp_path, json.dumps(said).encode()).returncode == 0
    assert daemon.asked[0][2] == said


@pytest.mark.parametrize("seconds", [1, 2, 60])
def test_the_line_ends_before_the_agent_loses_patience(seconds):
    """It gives up first, so that it is us who say why, but the daemon always has a second."""
    assert f" --max-time {max(1, seconds - 1)} " in HookLine(Path("/s"), "x").command(seconds)


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("curl --unix-socket /s http://locum/hooks/x", True),
        ("my-wrapper --unix-socket=/s 'http://locum/hooks/x' | tee log", True),
        ("curl http://locum/hooks/x", False),
        ("curl --unix-socket /s http://locum/status", False),
        (["curl", "--unix-socket", "http://locum/hooks/"], False),
        (None, False),
    ],
)
def test_ours_are_known_by_socket_and_address(command, ours):
    """Both must be there: what only speaks of locum belongs to somebody else."""
    assert is_ours(command) is ours


@pytest.mark.parametrize("command", ["", "'", "curl --unix-socket", "--unix-socket x", "--unix-socket x http://locum/"])
def test_a_line_that_was_changed_beyond_recognition_is_nothing(command):
    """What somebody has edited is not misread."""
    assert read_back(command) is None
