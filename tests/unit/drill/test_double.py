"""The double of a service.json: what is kept of it, and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from locum.config.load import load
from locum.drill import double
from locum.drill.double import Folders
from locum.engine.seats import Seats

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = [ROOT / "service.json.example", *sorted((ROOT / "tests/drill/configs").glob("*.json"))]
PRIVATE = "a-real-key-that-nobody-shall-see"


def doubled(path: Path, top: Path):
    """A file and its double, both loaded."""
    top.mkdir()
    folders, original = Folders(top), load(path, os.environ)
    double.write(original, folders)
    return original, load(folders.config, double.environment(os.environ, folders)), folders


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_double_has_the_same_chains_and_budgets(path: Path, tmp_path: Path) -> None:
    """Tiers, order, triggers, limits, windows and weights are the same, and tiers share accounts as they did."""
    original, copy, _ = doubled(path, tmp_path / "drill")
    assert copy.plan.budgets == original.plan.budgets
    assert list(copy.plan.chains) == list(original.plan.chains)
    for name, chain in original.plan.chains.items():
        other = copy.plan.chains[name]
        assert other.triggers == chain.triggers
        assert [(tier.name, tier.agent, tier.model) for tier in other.tiers] == [
            (tier.name, tier.agent, tier.model) for tier in chain.tiers
        ]
    tiers = original.plan.tiers
    for one in tiers:
        for other_name in tiers:
            shared = tiers[one].account == tiers[other_name].account
            assert shared == (copy.plan.tiers[one].account == copy.plan.tiers[other_name].account)


def test_nothing_that_is_anybodys_is_in_the_double(tmp_path: Path) -> None:
    """Keys, homes, programs, commands, and whatever else the file may say, lead nowhere but into the scratch folder."""
    tier = {
        "name": "a",
        "agent": "claude-code",
        "program": "/opt/claude",
        "home": "/home/me/.claude-second",
        "env": {
            "ANTHROPIC_API_KEY": PRIVATE,
            "HOME": "/home/me",
            "CLAUDE_CONFIG_DIR": "/home/me/.claude",
            "ANTHROPIC_AUTH_TOKEN": {"file": "/home/me/token"},
            "LD_PRELOAD": "/home/me/lib.so",
        },
    }
    other = {"name": "b", "agent": "command", "command": ["/home/me/agent", "{prompt_file}"]}
    path = tmp_path / "service.json"
    path.write_text(json.dumps({"failover": {"tiers": [tier, other]}, "post_task": {"command": ["/home/me/after"]}}))
    _, copy, folders = doubled(path, tmp_path / "drill")
    written = "".join(each.read_text() for each in folders.top.rglob("*") if each.is_file())
    assert PRIVATE not in written
    assert "/home/me" not in written
    assert "LD_PRELOAD" not in written
    assert copy.service.post_task is None
    seats = Seats(copy, {}, double.environment({"HOME": "/home/me", "SECRET": PRIVATE, "TZ": "UTC"}, folders))
    for name in ("a", "b"):
        seat = seats.seat(name)
        places = (seat.program, seat.home, *seat.command[:1], seat.env.get("HOME"), seat.env.get("CLAUDE_CONFIG_DIR"))
        assert all(str(place).startswith(str(folders.top)) for place in places if place)
        assert PRIVATE not in seats.environment(seat).values()
        assert seats.environment(seat)["HOME"].startswith(str(folders.top))
