"""Promises of a launch: what is started is what was asked for, and what adoption needs lies beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.config.model import Limits, TierEntry
from locum.engine.launch import Prepared, bounds_of, free_bytes, prepare, remembered, resumed
from locum.engine.runner import Bounds
from locum.engine.spool import Spool
from locum.policy.failure import FailureKind
from locum.policy.plan import Tier
from locum.policy.task import Run, RunState

BOUNDS = Bounds(stall_after=10, time_limit=None, spool=1 << 20, stop_grace=1)
CLAUDE = Tier("a", "claude-code", "acme")


def run_of(number: int = 1, tier: Tier = CLAUDE, **more: Any) -> Run:
    """An attempt of a task."""
    return Run(f"r-{number}", "t-1", number, "default", tier, "/srv", RunState.RUNNING, 5, **more)


def prepared(
    folder: Path, run: Run, seat: Seat, runs: list[Run], prompt: bytes = b"write it", **environ: str
) -> Prepared:
    """That run, made ready in `folder`."""
    return prepare(
        run,
        AGENTS[run.tier.agent],
        seat,
        prompt=prompt,
        runs=runs,
        fresh="11111111-2222-3333-4444-555555555555",
        spool=Spool(folder / run.id),
        bounds=BOUNDS,
        environ={"HOME": "/home/x", "TMPDIR": "/elsewhere", "SECRET": "hush", **environ},
        timezone="Europe/Madrid",
        began=77.0,
    )


def test_a_tier_has_its_own_bounds_where_it_has_any() -> None:
    """A tier's stall_after and time_limit win; the rest is that of limits."""
    limits = Limits.model_validate({"stall_after": "5m", "stop_grace": "3s", "spool": "1M"})
    entry = TierEntry.model_validate({"name": "a", "agent": "codex", "stall_after": "9s", "time_limit": "1h"})
    assert bounds_of(entry, limits) == Bounds(stall_after=9, time_limit=3600, spool=1 << 20, stop_grace=3)
    assert bounds_of(None, limits) == Bounds(stall_after=300, time_limit=None, spool=1 << 20, stop_grace=3)


def test_a_first_attempt_is_given_the_bare_prompt(tmp_path: Path) -> None:
    """Prompt, input, environment and what adoption needs are on disk before anything starts; no secret is."""
    made = prepared(tmp_path, run_of(), Seat("a", home=Path("/logins/a")), [])
    spool = made.watched.spool
    assert spool.prompt.read_text() == spool.stdin.read_text() == "write it"
    assert made.spawn.env["TMPDIR"] == str(spool.tmp)
    assert made.spawn.env["LOCUM_TIER"] == "a"
    assert "--session-id" in made.spawn.argv
    assert "hush" not in (spool.folder / "meta.json").read_text()
    again = remembered(run_of(), AGENTS["claude-code"], spool, replace(BOUNDS, spool=1), 1e9)
    assert (again.bounds, again.timezone, again.began) == (BOUNDS, "Europe/Madrid", 77.0)
    assert again.seat.home == Path("/logins/a")
    assert again.environ["HOME"] == "/home/x"


def test_files_of_its_own_are_there_and_the_daemons_settings_stay(tmp_path: Path) -> None:
    """An agent finds the plugin that its settings name, and those settings hold all that the environment had in them."""
    own = json.dumps({"model": "acme/large", "plugin": ["theirs"]})
    opencode = run_of(tier=Tier("o", "opencode", "acme"))
    made = prepared(tmp_path, opencode, Seat("o"), [], OPENCODE_CONFIG_CONTENT=own)
    settings = json.loads(made.spawn.env["OPENCODE_CONFIG_CONTENT"])
    assert (settings["model"], settings["plugin"][0]) == ("acme/large", "theirs")
    plugin = Path(settings["plugin"][1].removeprefix("file://"))
    assert plugin.parent.parent == made.watched.spool.folder
    assert b"session.status" in plugin.read_bytes()
    assert (plugin.parent / "refusal.js").is_file()


def test_a_prompt_of_any_bytes_is_taken(tmp_path: Path) -> None:
    """Bytes that are no text reach the agent as replacement characters, and never stop a launch."""
    made = prepared(tmp_path, run_of(), Seat("a"), [], b"\xff\xfe prompt")
    assert made.watched.spool.stdin.read_text() == "\ufffd\ufffd prompt"


def test_a_resumed_session_is_told_to_go_on(tmp_path: Path) -> None:
    """With a session of the same login the agent gets a short word instead of note and prompt."""
    before = run_of(session="s-1", usage_known=False)
    run = run_of(2)
    assert resumed(run, AGENTS["claude-code"], [before]) == "s-1"
    made = prepared(tmp_path, replace(run, session="s-1"), Seat("a"), [before])
    assert made.watched.spool.stdin.read_text() == "Continue; do not redo finished work."
    assert made.spawn.argv[list(made.spawn.argv).index("--resume") + 1] == "s-1"


def test_an_agent_that_cannot_resume_is_not_asked_to() -> None:
    """A session of a `command` agent is its own business."""
    tier = Tier("c", "command", "own")
    before = run_of(tier=tier, session="s-1")
    assert resumed(run_of(2, tier), AGENTS["command"], [before]) is None


def test_another_tier_gets_the_note_ahead_of_the_prompt(tmp_path: Path) -> None:
    """Why the last attempt ended comes first, the whole prompt after it."""
    before = replace(run_of(), state=RunState.FAILED, failure=FailureKind.CRASH, reason="boom", said="half")
    made = prepared(tmp_path, run_of(2, Tier("b", "codex", "other")), Seat("b"), [before])
    text = made.watched.spool.prompt.read_text()
    assert text.index("crash: boom") < text.index("half") < text.index("write it")


@pytest.mark.parametrize("meta", ["", "[]", "{", json.dumps({"bounds": [1, 2]})])
def test_adoption_makes_do_without_a_readable_meta(tmp_path: Path, meta: str) -> None:
    """A run whose meta file is missing or torn is watched by today's bounds, from now on."""
    spool = Spool(tmp_path / "r-1")
    spool.create("x")
    (spool.folder / "meta.json").write_text(meta)
    found = remembered(run_of(), AGENTS["command"], spool, BOUNDS, 123.0)
    assert (found.bounds, found.timezone, found.began, found.seat.home) == (BOUNDS, "UTC", 123.0, None)


@pytest.mark.parametrize(
    "meta",
    [
        '{"home": 5, "environ": [1], "bounds": "x", "timezone": 7, "began": "z"}',
        '{"environ": {"HOME": 5}, "bounds": [null, null, null, null], "timezone": "No/Where", "began": null}',
        '{"bounds": [1e400, null, 5, 1], "began": NaN, "timezone": "America"}',
        '{"bounds": [1, -1, 5, 1], "began": -5, "timezone": "../../etc/passwd"}',
        '{"bounds": [1, null, 5.5, 1], "began": 1e300, "timezone": ""}',
        '{"bounds": [1, null, 5, NaN], "began": true, "home": ""}',
        '{"bounds": [true, null, 5, 1], "environ": {"HOME": "a\\u0000b", "LD_PRELOAD": "/x"}}',
        '{"bounds": [%s, null, 5, 1], "home": "\\ud800"}' % ("9" * 40),
        '{"bounds": [1, null, %s, 1], "home": "a\\u0000b"}' % ("9" * 40),
        '{"bounds": [1, null, 0, 1], "timezone": "\\ud800"}',
        '{"bounds": [1, null, 5, -1], "home": "relative"}',
    ],
)
def test_adoption_believes_nothing_that_cannot_be(tmp_path: Path, meta: str) -> None:
    """Whatever shape an agent has given the meta file, each thing in it that cannot be is as if it were missing."""
    spool = Spool(tmp_path / "r-1")
    spool.create("x")
    (spool.folder / "meta.json").write_text(meta)
    found = remembered(run_of(), AGENTS["command"], spool, BOUNDS, 123.0)
    assert (found.bounds, found.timezone, found.began) == (BOUNDS, "UTC", 123.0)
    assert (found.seat.home, found.environ) == (None, {})


def test_adoption_keeps_what_is_right_beside_what_is_wrong(tmp_path: Path) -> None:
    """One bad value spoils none of the others."""
    spool = Spool(tmp_path / "r-1")
    spool.create("x")
    meta = {"home": 5, "environ": {"HOME": "/h", "CODEX_HOME": 5}, "bounds": [2, 3.5, 7, 0], "timezone": "Asia/Tokyo"}
    spool.write_meta({**meta, "began": 7})
    found = remembered(run_of(), AGENTS["command"], spool, BOUNDS, 123.0)
    assert found.bounds == Bounds(stall_after=2, time_limit=3.5, spool=7, stop_grace=0)
    assert (found.environ, found.timezone, found.began, found.seat.home) == ({"HOME": "/h"}, "Asia/Tokyo", 7, None)


def test_free_space_is_told(tmp_path: Path) -> None:
    """The space is that of the folder's own disk."""
    assert free_bytes(tmp_path) > 0
