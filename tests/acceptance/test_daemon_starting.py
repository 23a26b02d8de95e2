"""Promises of starting: what stands in the way is named with its remedy, left as it is, and never half-used."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.harness import LOCUM, Daemon, may_mount, scripted


@pytest.fixture
def made(tmp_path: Path) -> Daemon:
    """A daemon that has not been started."""
    return Daemon(tmp_path, {"failover": {"tiers": [scripted({}, name="a", stage=tmp_path)]}})


def refused(made: Daemon, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Start a daemon that shall not start: its exit code and what it said."""
    env = {**made.env, **(env or {})}
    done = subprocess.run(
        [LOCUM, "serve"], env=env, cwd=made.folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def used(made: Daemon) -> Path:
    """The database of a daemon that has run and was stopped."""
    made.start()
    made.ended(made.submit("x"))
    assert made.stop() == 0
    return made.state / "locum.db"


def test_a_damaged_database_is_named_and_left_alone(made: Daemon) -> None:
    """A file that is no database, or a damaged one, ends the start with its path and a remedy; not a byte is changed."""
    database = used(made)
    whole = database.read_bytes()
    for damaged in (b"not a database at all" * 400, whole[:100] + b"\xff" * 8000 + whole[8100:]):
        database.write_bytes(damaged)
        code, said = refused(made)
        assert (code, database.read_bytes()) == (1, damaged)
        assert str(database) in said
        assert "is not a database" in said or "is damaged" in said
    database.write_bytes(whole)
    made.start()
    assert made.stop() == 0


def test_a_newer_database_is_not_touched(made: Daemon) -> None:
    """A database of a newer locum ends the start; it is not migrated backwards or written to."""
    database = used(made)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = database.read_bytes()
    code, said = refused(made)
    assert (code, database.read_bytes()) == (1, before)
    assert "newer locum" in said


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_whatever_lies_at_the_sockets_place_is_left_there(made: Daemon, kind: str) -> None:
    """A file, folder or link where the socket belongs is named and kept, and no daemon runs without a socket."""
    path = made.folder / "busy.sock"
    {"file": lambda: path.write_text("mine"), "folder": path.mkdir, "link": lambda: path.symlink_to("/etc")}[kind]()
    code, said = refused(made, {"LOCUM_SOCKET": str(path)})
    assert code == 1
    assert str(path) in said
    assert f"a {kind} is there" in said
    assert path.is_symlink() == (kind == "link")
    assert path.exists()


def test_a_dead_daemons_socket_is_replaced(made: Daemon) -> None:
    """What a killed daemon leaves behind does not keep the next one from starting."""
    made.state.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(made.state / "locum.sock"))
    left.close()
    made.start()
    assert made.stop() == 0


def test_a_living_daemons_socket_is_not_taken(made: Daemon) -> None:
    """A daemon of another state never takes over a socket that is served."""
    made.start()
    code, said = refused(made, {"LOCUM_STATE": str(made.folder / "other"), "LOCUM_SOCKET": str(made.client.paths[0])})
    assert code == 1
    assert "another daemon serves" in said
    assert made.answers()
    assert made.stop() == 0


@pytest.mark.parametrize("state", ["file", "under a file", "/proc/locum"])
def test_a_state_folder_that_cannot_be_made_is_named(made: Daemon, state: str) -> None:
    """A state folder that cannot be made or written ends the start with its path and what to do."""
    (made.folder / "file").write_text("")
    path = {"file": made.folder / "file", "under a file": made.folder / "file" / "state"}.get(state, Path(state))
    code, said = refused(made, {"LOCUM_STATE": str(path), "LOCUM_SOCKET": str(made.folder / "s.sock")})
    assert code == 1
    assert str(path) in said
    assert "--state" in said


def test_a_broken_file_ends_the_start_with_78_and_every_problem(made: Daemon) -> None:
    """A service.json that cannot be used is told whole, with line and column, and exit code 78."""
    made.config.write_text('{\n  "failover": {"tiers": [{"name": "a", "agent": "comand"}]},\n  "limit": {}\n}\n')
    code, said = refused(made)
    assert code == 78
    assert "service.json:2:" in said
    assert "command" in said, "the nearest right spelling"
    assert "service.json:3:3" in said
    assert not (made.state / "locum.db").exists()


def test_a_read_only_state_folder_is_named(made: Daemon) -> None:
    """A state folder on a disk that became read-only ends the start with a sentence, not with a trace."""
    used(made)
    if not may_mount():
        pytest.skip("only a user who may mount can make a folder read-only for everybody")
    read_only = f"mount --bind {made.state} {made.state} && mount -o remount,ro,bind {made.state}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{read_only} && exec {LOCUM} serve"],
        env=made.env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(made.state) in done.stderr
