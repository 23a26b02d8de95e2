"""Whole rehearsals: with real daemons, real processes, and daemons that have one promise less."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from locum.agents.registry import AGENTS
from locum.config.load import load
from locum.drill.report import Verdict
from locum.drill.run import drill
from locum.drill.scenarios import SCENARIOS
from tests.harness import LOCUM

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / "configs"
BROKEN = Path(__file__).parent / "broken_serve.py"
IN_OPEN, IN_MODIFY, IN_CREATE, IN_DELETE, IN_ATTRIB = 0x20, 0x2, 0x100, 0x200, 0x4
MUTANTS = {  # what is broken, in which scenario that shows, and with which promise
    "hold_dropped": ("auth", "one path"),
    "wrong_tier_held": ("auth", "no cascade"),
    "account_forgotten": ("auth", "no cascade"),
    "hold_ends_early": ("quota", "nothing trusted blindly"),
    "stale_reset_believed": ("late-reset", "nothing trusted blindly"),
    "no_doubling": ("quota-no-reset", "nothing trusted blindly"),
    "probation_ignored": ("quota", "it comes back"),
    "one_bad_task_holds": ("hang", "no cascade"),
    "return_never_written": ("auth", "it comes back"),
    "preferred_tier_forgotten": ("calm", "it comes back"),
    "agents_not_found": ("kill", "agents outlive the daemon"),
    "counted_per_read": ("kill", "no token lost, none counted twice"),
    "double_fire": ("budget", "no cascade"),
    "limit_passed_by": ("budget", "no cascade"),
    "silent_return": ("auth", "no silent switch"),
    "exhaustion_untold": ("everything", "no silent switch"),
}


def rehearse(path: Path, *names: str, serve: tuple[str, ...] | None = None, env: dict[str, str] | None = None):
    """A drill of a file; what came of each scenario."""
    environ = dict(os.environ, **(env or {}))
    return drill(load(path, environ), environ, names, **({"serve": serve} if serve else {}))


def everything(folder: Path) -> Path:
    """A service.json with a tier for every agent that locum knows."""
    names = [*(name for name in AGENTS if name != "command"), "command"]
    tiers = [
        {"name": f"with-{name}", "agent": name, **({"command": ["./house"]} if name == "command" else {})}
        for name in names
    ]
    path = folder / "service.json"
    path.write_text(json.dumps({"usage_threshold_tokens": 500_000, "failover": {"tiers": tiers}}))
    return path


def told(results) -> list[str]:
    """What was broken, for who reads a failed test."""
    return [f"{each.name}: {breach.promise}: {breach.what}" for each in results for breach in each.breaches]


def test_a_quick_rehearsal_passes_with_the_example() -> None:
    """Tiers that are out of quota are left at once, held until the end that was told, and come back one task at a time."""
    (result,) = rehearse(ROOT / "service.json.example", "quota")
    assert result.passed, told([result])
    assert {hold.kind for hold in result.holds} == {"usage_limit"}
    assert len(result.holds) >= 3
    assert len(result.failovers) >= 3
    assert all(hold.ended_ms is not None and hold.ended_ms >= (hold.until_ms or 0) for hold in result.holds)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "name",
    ["service.json.example", "one_tier", "shared_account", "windows", "five_tiers", "used_up_at_once", "every agent"],
)
def test_every_promise_holds(name: str, tmp_path: Path) -> None:
    """Each scenario passes: with the example, a chain of one, shared accounts, odd windows, budgets that a run or two
    use up, and every agent there is.
    """
    path = {"service.json.example": ROOT / name, "every agent": tmp_path / "service.json"}.get(
        name, CONFIGS / f"{name}.json"
    )
    if name == "every agent":
        everything(tmp_path)
    results = rehearse(path)
    assert [each.name for each in results] == [each.name for each in SCENARIOS]
    assert not told(results)
    assert all(each.verdict is Verdict.PASS or each.unrehearsed or each.name == "budget" for each in results)


ODD = {  # legal, and nobody would write it: what is drilled, the first tier's agent, and what is set
    "halted in the first run": ("kill", "qwen", {"usage_halt_tokens": 6_000}),
    "used up for good": ("kill", "qwen", {"usage_halt_tokens": 2, "usage_reset": "all"}),
    "one attempt, which waits in place": ("throttle", "qwen", {"limits": {"attempts": 1}}),
    "windows of a second": (
        "late-reset",
        "codex",
        {
            "usage_threshold_tokens": 1,
            "usage_halt_tokens": 2,
            "usage_reset": {"rolling": "1s"},
            "limits": {"attempts": 1, "parallel": 1, "stall_after": "1s"},
        },
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", ODD)
def test_what_is_legal_and_odd_is_no_broken_promise(name: str, tmp_path: Path) -> None:
    """Budgets that a run uses up, for a second or for good, and tasks with one attempt: the daemon does as it is told."""
    scenario, agent, set_ = ODD[name]
    path = tmp_path / "service.json"
    tiers = [{"name": "first", "agent": agent}, {"name": "next", "agent": "claude-code"}]
    path.write_text(json.dumps({"failover": {"tiers": tiers}, **set_}))
    (result,) = rehearse(path, scenario)
    assert result.verdict is Verdict.PASS, told([result])
    assert bool(result.notes) == (name == "used up for good")


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("agents", "scenario", "failed", "not_played"),
    [
        (["claude-code", "gemini"], "cut", {"network"}, [("t0", "cut")]),  # only the last tier's agent can be cut off
        (["copilot", "aider"], "hang", {"stalled"}, []),
        (["copilot", "aider"], "lie", {"no_result"}, []),
        (["copilot", "aider"], "cut", {"network"}, []),
        (["aider", "copilot"], "quota", {"usage_limit"}, [("t0", "quota")]),
    ],
)
def test_what_can_be_played_is(agents, scenario, failed, not_played, tmp_path: Path) -> None:
    """A fault that some tier's agent can show is played there, on the last one too, and who cannot show it is named."""
    path = tmp_path / "service.json"
    tiers = [{"name": f"t{number}", "agent": agent} for number, agent in enumerate(agents)]
    path.write_text(json.dumps({"failover": {"tiers": tiers}}))
    (result,) = rehearse(path, scenario)
    assert result.verdict is Verdict.PASS, told([result])
    assert {hold.kind for hold in result.holds} == failed
    assert list(result.unrehearsed) == not_played


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("tiers", [1, 2])
def test_a_limit_without_an_end_holds_twice_as_long_the_second_time(tiers: int, tmp_path: Path) -> None:
    """Also where the only tier is the one that fails: it fails again as soon as it is back, before anything succeeds."""
    path = tmp_path / "service.json"
    named = [{"name": f"t{number}", "agent": "command", "command": ["./x"]} for number in range(tiers)]
    path.write_text(json.dumps({"failover": {"tiers": named}}))
    (result,) = rehearse(path, "quota-no-reset")
    assert result.verdict is Verdict.PASS, told([result])
    assert [((hold.until_ms or 0) - hold.since_ms) // 60_000 for hold in result.holds] == [30, 60]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_promise_fails_the_drill(mutant: str) -> None:
    """A daemon with one promise less does not pass, and the promise that is told is the one that it broke."""
    scenario, promise = MUTANTS[mutant]
    (result,) = rehearse(ROOT / "service.json.example", scenario, serve=(sys.executable, str(BROKEN), mutant))
    assert promise in {breach.promise for breach in result.breaches}, told([result])
    assert result.log


class Watched:
    """A tree in which nothing may happen: every opening of a file, and every change, is seen by the kernel."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._inotify >= 0
        mask = IN_OPEN | IN_MODIFY | IN_CREATE | IN_DELETE | IN_ATTRIB
        for folder in folders:
            for place in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
                assert self._libc.inotify_add_watch(self._inotify, os.fsencode(place), mask) >= 0

    def happened(self) -> bytes:
        """What the kernel saw since."""
        try:
            return os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return b""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_nothing_of_the_operators_is_touched(tmp_path: Path) -> None:
    """No file of a home, state or secret is opened or changed, and no program, hook or post_task is started."""
    home, bait, ours = tmp_path / "home", tmp_path / "bait", tmp_path / "ours"
    for folder in (home / ".claude", home / ".codex", home / "spare", home / ".local/state/locum", home / ".gemini"):
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text("{}")
        (folder / ".credentials.json").write_text("{}")
        (folder / "auth.json").write_text("{}")
    bait.mkdir()
    ours.mkdir()
    trap = f"#!/bin/sh\necho started >{tmp_path}/trapped\n"
    for name in ("claude", "codex", "gemini", "after.sh", "house"):
        (bait / name).write_text(trap)
        (bait / name).chmod(0o700)
    os.mkfifo(bait / "key", 0o600)  # who reads it waits for ever
    tiers = [
        {"name": "a", "agent": "claude-code", "env": {"ANTHROPIC_API_KEY": {"file": str(bait / "key")}}},
        {"name": "b", "agent": "codex", "home": str(home / "spare"), "program": str(bait / "codex")},
        {"name": "c", "agent": "claude-code", "env": {"CLAUDE_CONFIG_DIR": str(home / ".claude"), "LD_PRELOAD": "/x"}},
        {"name": "d", "agent": "command", "command": [str(bait / "house")], "env": {"K": {"credential": "none"}}},
    ]
    after = {"command": [str(bait / "after.sh")]}
    path = ours / "service.json"
    path.write_text(json.dumps({"failover": {"tiers": tiers}, "post_task": after}))
    environ = {
        "HOME": str(home),
        "PATH": f"{bait}:{os.environ['PATH']}",
        "LOCUM_STATE": str(home / ".local/state/locum"),
    }
    environ |= {
        "CREDENTIALS_DIRECTORY": str(bait),
        "XDG_RUNTIME_DIR": str(home),
        "TMPDIR": str(ours),
        "TZ": "Asia/Kolkata",
    }
    before = {each: (each.lstat(), each.read_bytes() if each.is_file() else b"") for each in tmp_path.rglob("*")}
    seen = Watched(home, bait)
    done = subprocess.run(
        [
            LOCUM,
            "drill",
            "--config",
            str(path),
            "--json",
            "--scenario",
            "calm",
            "--scenario",
            "auth",
            "--scenario",
            "kill",
        ],
        env=environ,
        cwd=ours,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["passed"]
    assert not seen.happened()
    assert not (tmp_path / "trapped").exists()
    after_all = {each: (each.lstat(), each.read_bytes() if each.is_file() else b"") for each in tmp_path.rglob("*")}
    assert before.keys() == after_all.keys()
    assert all(before[each][1] == after_all[each][1] for each in before)
    assert shutil.which("claude", path=environ["PATH"]) == str(bait / "claude"), "the trap was in the way"
