"""The verbs token, dashboard and statusline."""

from __future__ import annotations

import json
import shlex
import webbrowser
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from locum.cli.main import locum
from locum.cli.network import has_screen

MADE = {
    "id": "1234abcd",
    "name": "mine",
    "scope": "read",
    "created": "2026-01-01T00:00:00Z",
    "used": None,
    "expires": None,
    "browser": False,
    "token": "locum_secret",
    "url": None,
    "schema": 1,
}


@contextmanager
def answered(monkeypatch, answer):
    """What the client was asked, while it answers so."""
    asked = []

    def take(_, path, *more, **query):
        asked.append((path, *more, *query.values()))
        return answer

    with monkeypatch.context() as patched:
        for name in ("get", "post", "text"):
            patched.setattr(f"locum.cli.client.Client.{name}", take)
        yield asked


def told(*asked):
    """What a verb prints, and to whom."""
    done = CliRunner().invoke(locum, asked)
    assert done.exit_code == 0, done.output
    return done


def test_a_token_goes_to_standard_output_alone(monkeypatch):
    """`TOKEN=$(locum token create x)` holds the token and nothing else; where it is good goes to standard error."""
    with answered(monkeypatch, MADE) as asked:
        done = told("token", "create", "mine", "--scope", "operate", "--for", "30d")
    assert asked == [("/tokens", {"name": "mine", "scope": "operate", "lasts": "30d"})]
    assert done.stdout == "locum_secret\n"
    assert "http.listen" in done.stderr


def test_tokens_are_listed_and_revoked(monkeypatch):
    """Each is a line with its id, scope and last use; a name is one step of the path, whatever is in it."""
    with answered(monkeypatch, {"tokens": [MADE]}):
        assert told("token", "list").stdout.split()[:3] == ["1234abcd", "mine", "read"]
    with answered(monkeypatch, {"tokens": []}):
        assert told("token", "list").stdout == "There are no tokens.\n"
    with answered(monkeypatch, MADE) as asked:
        told("token", "revoke", "../status")
        assert json.loads(told("token", "revoke", "mine", "--json").stdout)["id"] == "1234abcd"
    assert asked[0][0] == "/tokens/..%2Fstatus/revoke"


@pytest.mark.parametrize(
    ("environ", "more", "opened"), [({"DISPLAY": ":0"}, (), 1), ({}, (), 0), ({"DISPLAY": ":0"}, ("--print",), 0)]
)
def test_the_dashboard_is_opened_where_there_is_a_screen(monkeypatch, environ, more, opened):
    """With a screen a browser is opened; without one, or on request, the link is printed and nothing else happens."""
    links = []
    monkeypatch.setattr(webbrowser, "open", links.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with answered(monkeypatch, {"url": "http://127.0.0.1:1/login?code=x", "expires": ""}):
        assert told("dashboard", *more).stdout == "http://127.0.0.1:1/login?code=x\n"
    assert len(links) == opened
    assert has_screen({"WAYLAND_DISPLAY": "wayland-0"})


def test_the_line_for_a_status_bar_is_shown_and_explained(monkeypatch, tmp_path):
    """The verb shows the line; --print shows one command that names this daemon's socket, however it is called."""
    with answered(monkeypatch, "one | 5 %\n") as asked:
        assert told("statusline", "--chain", "side").stdout == "one | 5 %\n"
    assert asked == [("/statusline", "side")]
    odd = tmp_path / "a 'b"
    line = told("--state", str(odd), "statusline", "--chain", "side", "--print").stdout
    words = shlex.split(line)
    assert words[words.index("--unix-socket") + 1] == str(odd / "locum.sock")
    assert words[-3:] == ["http://locum/statusline?chain=side", "||", "true"]
