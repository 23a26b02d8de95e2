"""Promises of seats: paths and secrets are those of the file, and a changed login is noticed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from locum.agents.registry import AGENTS
from locum.config.load import load
from locum.engine.seats import Seats
from locum.errors import ConfigError, NotFoundError


def seats(folder: Path, *tiers: dict[str, Any], **environ: str) -> Seats:
    """The seats of a service.json with these tiers in `folder`."""
    path = folder / "service.json"
    path.write_text(json.dumps({"failover": {"tiers": list(tiers)}}))
    return Seats(load(path, environ), AGENTS, environ)


def guard(made: Seats, tier: str) -> str:
    """The guard of a tier now."""
    return made.guarded(made.loaded.plan).tiers[tier].guard


def test_paths_start_at_the_file_and_bare_names_at_path(tmp_path: Path) -> None:
    """Programs, commands and homes that are paths are the config's own; a bare name is left to PATH."""
    made = seats(
        tmp_path,
        {"name": "a", "agent": "claude-code", "program": "bin/claude", "home": "homes/a", "args": ["--x"]},
        {"name": "b", "agent": "claude-code", "program": "claude"},
        {"name": "c", "agent": "command", "command": ["./agent", "./kept"]},
        {"name": "d", "agent": "command", "command": ["agent"]},
    )
    assert made.seat("a").program == str(tmp_path / "bin/claude")
    assert made.seat("a").home == tmp_path / "homes/a"
    assert made.seat("a").args == ("--x",)
    assert (made.seat("b").program, made.seat("b").home) == ("claude", None)
    assert made.seat("c").command == (str(tmp_path / "agent"), "./kept")
    assert made.seat("d").command == ("agent",)


def test_secrets_reach_the_seat_and_its_environment(tmp_path: Path) -> None:
    """A reference becomes its text when a run starts, over the daemon's own environment, cleaned."""
    tier = {"name": "a", "agent": "claude-code", "env": {"ANTHROPIC_API_KEY": {"env": "SECRET"}, "PLAIN": "x"}}
    made = seats(tmp_path, tier, SECRET="hush", NOTIFY_SOCKET="/run/x", PATH="/bin")
    seat = made.seat("a")
    assert seat.env == {"ANTHROPIC_API_KEY": "hush", "PLAIN": "x"}
    environment = made.environment(seat)
    assert (environment["PATH"], environment["ANTHROPIC_API_KEY"]) == ("/bin", "hush")
    assert "NOTIFY_SOCKET" not in environment


def test_a_missing_secret_and_a_missing_tier_are_told(tmp_path: Path) -> None:
    """Neither is guessed: each is an error of its own kind that names what is missing."""
    made = seats(tmp_path, {"name": "a", "agent": "claude-code", "env": {"KEY": {"env": "SECRET"}}})
    with pytest.raises(ConfigError, match="SECRET"):
        made.seat("a")
    with pytest.raises(NotFoundError, match="nobody"):
        made.seat("nobody")
    assert guard(made, "a"), "where a login lies is known without its secret"


def test_a_changed_login_changes_the_guard(tmp_path: Path) -> None:
    """The guard follows the content of the login's file: written, changed, removed; and nothing else."""
    tier = {"name": "a", "agent": "claude-code", "home": "home"}
    made = seats(tmp_path, tier, {"name": "b", "agent": "command", "command": ["x"]})
    (tmp_path / "home").mkdir()
    login = tmp_path / "home" / ".credentials.json"
    missing, other = guard(made, "a"), guard(made, "b")
    login.write_text("one")
    first = guard(made, "a")
    login.write_text("two")
    second = guard(made, "a")
    login.write_text("one")
    assert len({missing, first, second}) == 3
    assert guard(made, "a") == first
    login.unlink()
    assert guard(made, "a") == missing
    assert guard(made, "b") == other


def test_a_login_that_is_no_file_is_a_missing_one(tmp_path: Path) -> None:
    """A pipe or a device in the login's place blocks nobody; a link that its owner made is followed."""
    made = seats(tmp_path, {"name": "a", "agent": "claude-code", "home": "home"})
    (tmp_path / "home").mkdir()
    login = tmp_path / "home" / ".credentials.json"
    missing = guard(made, "a")
    os.mkfifo(login)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(guard(made, "a")), daemon=True)
    thread.start()
    thread.join(5)
    assert found == [missing]
    login.unlink()
    login.symlink_to("/dev/zero")
    assert guard(made, "a") == missing
    login.unlink()
    (tmp_path / "kept").write_text("one")
    login.symlink_to(tmp_path / "kept")
    assert guard(made, "a") != missing
