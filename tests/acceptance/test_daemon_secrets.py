"""An agent that shouts its secrets: nobody else hears them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PYTHON, World, scripted

FILED, LITERAL = "TOP-SECRET-from-a-file-1", "TOP-SECRET-in-the-config-2"
SHOUT = """
import os, sys
print("working with", os.environ["TOK"], flush=True)
print("Invalid key", os.environ["TOK"], "or", os.environ["MY_API_KEY"], file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def shouted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon after a task whose first tier shouted its secrets and whose second finished it."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "key").write_text(f"{FILED}\n")
    (folder / "key").chmod(0o600)
    (folder / "shout.py").write_text(SHOUT)
    world = World(folder)
    env = {"TOK": {"file": str(folder / "key")}, "MY_API_KEY": LITERAL}
    loud = {"name": "loud", "agent": "command", "command": [PYTHON, str(folder / "shout.py")], "env": env}
    calm = scripted({}, name="leak-calm", stage=world.stage("leak"))
    world.service["chains"]["leak"] = {"tiers": [loud, calm]}
    world.configure(world.service)
    world.start()
    try:
        assert world.do("leak")["state"] == "done"
        yield world
    finally:
        world.stop()


@pytest.mark.parametrize(
    "path", ["/status", "/usage", "/explain?chain=leak", "/events", "/notices?limit=1000", "/tasks", "/audit"]
)
def test_no_answer_tells_a_secret(shouted: World, path: str) -> None:
    """What the agent printed is evidence, but its secrets are masked in every answer."""
    told = json.dumps(shouted.client.get(path), ensure_ascii=False)
    assert FILED not in told
    assert LITERAL not in told


def test_the_output_that_is_shown_is_masked(shouted: World) -> None:
    """Somebody who follows the task reads what was said, without the secrets."""
    (task,) = shouted.client.get("/tasks?chain=leak")["tasks"]
    told = [each.get("text", "") for each in shouted.client.follow(task["id"])]
    assert "working with •••" in told
    assert not any(FILED in text or LITERAL in text for text in told)
    (run, _) = shouted.task(task["id"])["runs"]
    assert run["reason"] == "Invalid key ••• or •••"


def test_the_next_account_never_sees_the_first_ones_key(shouted: World) -> None:
    """The hand-over note carries what was said to another vendor: without secrets."""
    (note,) = shouted.prompts("leak", "calm")
    assert "hand-over note" in note
    assert "•••" in note
    assert FILED not in note
    assert LITERAL not in note


def test_neither_log_nor_ledger_keeps_a_secret(shouted: World) -> None:
    """What is on disk for years holds no key; only the run's own output, which the agent wrote, does."""
    files = [shouted.log, *shouted.state.glob("locum.db*"), *shouted.state.glob("runs/*/meta.json")]
    assert len(files) >= 4
    for file in files:
        kept = file.read_bytes()
        assert FILED.encode() not in kept, file
        assert LITERAL.encode() not in kept, file
    for prompt in shouted.state.glob("runs/*/prompt.md"):
        assert FILED not in Path(prompt).read_text()
