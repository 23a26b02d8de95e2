"""Which file a caller may name as its transcript, and what is read of it: nothing that is not its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from locum.agents.hooks import Moment, Told
from locum.agents.registry import AGENTS, hooks
from locum.engine.transcript import Caller, Reading, find, keeps
from locum.errors import UsageError

ADAPTER = hooks(AGENTS)["claude-code"]
ME = os.geteuid()
ROOT = pytest.mark.skipif(ME != 0, reason="only root can give a file away")


@pytest.fixture
def home(tmp_path) -> Path:
    """An agent's home with a project in it."""
    (tmp_path / ".claude/projects/p").mkdir(parents=True)
    return tmp_path / ".claude"


def named(path: Path | str, home: Path, caller: Caller | None = None):
    """What is found under that name."""
    return find(str(path), ADAPTER, caller or Caller(ME), [home])


def refused(path: Path | str, home: Path, why: str, caller: Caller | None = None) -> None:
    """The name is refused with that reason, and the remedy says what that means."""
    with pytest.raises(UsageError, match=why) as caught:
        named(path, home, caller)
    assert caught.value.remedy == "Nothing of it was counted."


def test_a_transcript_in_the_home_is_found(home):
    """The plain case, and one that is not written yet."""
    path = home / "projects/p/s.jsonl"
    assert (named(path, home).path, named(path, home).there) == (path, False)
    path.touch()
    assert (named(path, home).path, named(path, home).there) == (path, True)


def test_every_way_to_the_home_leads_to_the_same_file(home, tmp_path):
    """A home or a folder of transcripts that is itself a link is the agent's own; the real path is what is kept."""
    path = home / "projects/p/s.jsonl"
    path.touch()
    (tmp_path / "link").symlink_to(home)
    assert named(tmp_path / "link/projects/p/s.jsonl", tmp_path / "link").path == path
    assert named(path, tmp_path / "link").path == path
    assert named(home / "projects/../projects/p/./s.jsonl", home).path == path
    other = tmp_path / "other"
    other.mkdir()
    (other / "projects").symlink_to(home / "projects")
    assert named(other / "projects/p/s.jsonl", other).path == path
    assert keeps(home, ADAPTER, path)
    assert keeps(other, ADAPTER, path), "two homes that share their transcripts both keep them"


def test_the_callers_own_environment_says_where_its_home_is(home, tmp_path):
    """A home that no tier has: by its variable, or by HOME, and else by the user's entry in the system."""
    path = home / "projects/p/s.jsonl"
    path.touch()
    elsewhere = tmp_path / "elsewhere"
    for environ in ({"CLAUDE_CONFIG_DIR": str(home)}, {"HOME": str(tmp_path)}):
        assert named(path, elsewhere, Caller(ME, environ)).path == path
    for environ in ({}, {"CLAUDE_CONFIG_DIR": ""}, {"HOME": ""}, {"HOME": "relative"}, {"HOME": "\udcff"}):
        refused(path, elsewhere, "does not lie in the user's own .claude/projects", Caller(ME, environ))
    refused(path, elsewhere, "belongs to another user", Caller(4_000_000))


@pytest.mark.parametrize(
    "where", ["settings.json", "projects.jsonl", "projects", "../secret", "projects/../settings.json", "/etc/passwd"]
)
def test_what_lies_outside_the_transcripts_is_not_read(home, where):
    """Neither the rest of the home nor anything above it, however the name winds; a file that is not there neither."""
    path = home / where
    if not path.exists():
        refused(path, home, "does not lie in" if where != "projects/../settings.json" else "not read")
        Path(os.path.normpath(path)).touch()
    refused(path, home, "does not lie in|not a regular file")


def test_a_folder_that_only_begins_like_the_home_is_another(home):
    """`.claude/projects-old` is not in `.claude/projects`."""
    other = home / "projects-old/s.jsonl"
    other.parent.mkdir()
    other.touch()
    refused(other, home, "does not lie in")


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "fifo", "directory", "socket", "device"])
def test_what_is_no_regular_file_is_refused_at_once(home, kind):
    """No link is followed, no pipe is waited for, no device is read: each is told for what it is."""
    path = home / "projects/p/s.jsonl"
    secret = home / "projects/p/secret"
    secret.touch()
    match kind:
        case "link":
            path.symlink_to(secret)
        case "dangling":
            path.symlink_to(home / "nowhere")
        case "loop":
            path.symlink_to(path)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            os.mknod(path, 0o140600)
        case "device":
            path = Path("/dev/zero")
    refused(path, home, "symbolic links|not a regular file|no such device")


def test_a_link_on_the_way_leads_out(home, tmp_path):
    """A project folder that is a link to elsewhere does not bring elsewhere into the home."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "s.jsonl").touch()
    (home / "projects/q").symlink_to(out)
    refused(home / "projects/q/s.jsonl", home, "does not lie in")
    refused(home / "projects/q/later.jsonl", home, "does not lie in")


@ROOT
def test_a_file_of_another_user_is_not_read(home):
    """Not by the user whose it is not: neither another's file in one's own home, nor one's own named by another."""
    path = home / "projects/p/s.jsonl"
    path.touch()
    os.chown(path, 4242, 4242)
    refused(path, home, "belongs to another user \\(uid 4242, not 0\\)")
    assert named(path, home, Caller(4242)).path == path
    os.chown(path, 0, 0)
    refused(path, home, "belongs to another user \\(uid 0, not 4242\\)", Caller(4242))


def test_a_file_that_cannot_be_opened_is_told_why(home, monkeypatch):
    """Unreadable is a reason of its own."""

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", closed)
    refused(home / "projects/p/s.jsonl", home, "permission denied")


def test_a_relative_path_means_nothing_here(home):
    """The daemon's working directory is not the agent's."""
    refused("projects/p/s.jsonl", home, "not absolute")


# ── subagents ────────────────────────────────────────────────────────────────────────────────────────────


def seen(home: Path, owner: int = ME) -> set[str]:
    """The files that a session's reading looks at, below its project."""
    path = home / "projects/p/s.jsonl"
    reading = Reading(ADAPTER, Told(Moment.DONE, "Stop", "s", transcript=str(path)), owner, 0)
    return {str(tail.path.relative_to(path.parent)) for tail in reading.look()}


def test_the_files_of_subagents_are_found_at_any_depth(home):
    """All that lie in the folder of the session, and no other session's."""
    for name in ("s/subagents/a.jsonl", "s/deep/er/b.jsonl", "s/c.jsonl", "s/notes.txt", "t/subagents/d.jsonl"):
        path = home / "projects/p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert seen(home) == {"s.jsonl", "s/subagents/a.jsonl", "s/deep/er/b.jsonl", "s/c.jsonl"}


@pytest.mark.parametrize("where", ["s", "s/subagents", "s/subagents/a.jsonl"])
def test_no_link_brings_anothers_files_into_a_session(home, tmp_path, where):
    """Where the session's folder, one in it or a file is a link, what lies behind it is not read; nor is the root."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.jsonl").touch()
    link = home / "projects/p" / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "out/a.jsonl" if where.endswith("jsonl") else tmp_path / "out")
    assert seen(home) == {"s.jsonl"}
    link.unlink()
    link.symlink_to("/")
    assert seen(home) == {"s.jsonl"}


def test_a_folder_that_contains_itself_is_walked_once(home):
    """Links that lead back up do not multiply the files or the time."""
    folder = home / "projects/p/s/subagents"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").touch()
    for number in range(20):
        (folder / f"up{number}").symlink_to(folder)
    assert seen(home) == {"s.jsonl", "s/subagents/a.jsonl"}


@ROOT
def test_a_subagents_file_of_another_user_is_not_read(home):
    """The owner is looked at file by file."""
    path = home / "projects/p/s/subagents/a.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    os.chown(path, 4242, 4242)
    assert seen(home) == {"s.jsonl"}
    assert seen(home, 4242) == {"s.jsonl", "s/subagents/a.jsonl"}
