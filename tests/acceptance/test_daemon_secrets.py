"""An agent that shouts its secrets: nobody else hears them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PYTHON, World, running, scripted

FILED, LITERAL = "TOP-SECRET-from-a-file-1", "TOP-SECRET-in-the-config-2"
LONG = "eyJ" + "abcdefghij" * 150
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
    with running(world):
        assert world.do("leak")["state"] == "done"
        yield world


CASES = {
    "a token longer than any evidence": "print('401 for token', os.environ['JWT'], file=sys.stderr); sys.exit(1)",
    "one in the middle of a protocol line": (
        "print(json.dumps({'type': 'failure', 'kind': 'auth_error', 'message': 'no: ' + os.environ['JWT']})); sys.exit(1)"
    ),
    "one that a cut goes through": "print(os.environ['TOK'] + 'x' * 1977); sys.exit(1)",
    "one at the edge of what is kept of a stream": (
        "print('x' * 500 + os.environ['TOK'] + 'y' * (16384 - 12)); sys.exit(1)"
    ),
    "one that JSON spells otherwise": (
        "t = os.environ['TOK']; u = ''.join(f'\\\\u{ord(c):04x}' for c in t);"
        'print(\'{"type": "usage", "id": "\' + u + \'", "model": "\' + u + \'", "input": 1}\');'
        'print(\'{"type": "failure", "kind": "crash", "message": "bad \' + u + \'"}\'); sys.exit(1)'
    ),
    "one with a colour in its middle": (
        "t = os.environ['TOK']; print('bad \\x1b[1m' + t[:9] + '\\x1b[0m' + t[9:], file=sys.stderr); sys.exit(1)"
    ),
    "one in the place of a kind, a session, an id and a model": (
        "t = os.environ['TOK']; print(json.dumps({'type': 'usage', 'id': t, 'model': t, 'input': 1}));"
        "print(json.dumps({'type': 'result', 'status': 'error', 'session': t}));"
        "print(json.dumps({'type': 'failure', 'kind': t, 'message': 'x'})); sys.exit(1)"
    ),
}


def places(world: World) -> dict[str, str]:
    """Everything that is answered, and everything that is kept."""
    paths = ("/status", "/explain", "/events?limit=1000", "/notices?limit=1000", "/tasks?limit=500")
    told = {path: json.dumps(world.client.get(path), ensure_ascii=False) for path in paths}
    for task in world.client.get("/tasks?limit=500")["tasks"]:
        told[task["id"]] = json.dumps(world.task(task["id"]), ensure_ascii=False)
        told[f"logs {task['id']}"] = json.dumps(list(world.client.follow(task["id"])), ensure_ascii=False)
    files = [world.log, *world.state.glob("locum.db*"), *world.state.glob("runs/*/*")]
    # The agent's own streams are what it wrote: only a key that stands there in one piece is masked in them.
    files = [file for file in files if file.is_file() and file.name not in ("out", "err")]
    kept = {str(file): file.read_bytes().decode("utf-8", "replace") for file in files}
    return told | kept


@pytest.mark.parametrize("case", CASES)
def test_no_way_of_shouting_gets_a_piece_of_a_secret_out(shouted: World, case: str) -> None:
    """However long it is and wherever it stands: no answer, no file and no prompt holds ten characters of it in a row."""
    world, name = shouted, f"case{list(CASES).index(case)}"
    script = world.folder / f"{name}.py"
    script.write_text(f"import json, os, sys\n{CASES[case]}\n")
    (world.folder / "jwt").write_text(LONG)
    (world.folder / "jwt").chmod(0o600)
    env = {"TOK": {"file": str(world.folder / "key")}, "JWT": {"file": str(world.folder / "jwt")}}
    loud = {"name": f"{name}-loud", "agent": "command", "command": [PYTHON, str(script)], "env": env}
    world.chain_of(name, [loud, scripted({}, name=f"{name}-calm", stage=world.stage(name))])
    assert world.do(name)["state"] == "done"
    pieces = {secret[at : at + 10] for secret in (FILED, LONG[:30]) for at in range(len(secret) - 9)}
    for place, text in places(world).items():
        assert not {piece for piece in pieces if piece in text}, place


def test_a_key_that_is_changed_later_stays_masked(shouted: World) -> None:
    """Keys are changed because they were refused: the old one is not shown by yesterday's output."""
    (task,) = shouted.client.get("/tasks?chain=leak")["tasks"]
    (shouted.folder / "key").write_text("ANOTHER-SECRET-by-now\n")
    try:
        told = json.dumps(list(shouted.client.follow(task["id"])))
    finally:
        (shouted.folder / "key").write_text(f"{FILED}\n")
    assert "working with" in told
    assert FILED not in told
    for stream in (*shouted.state.glob("runs/*/out"), *shouted.state.glob("runs/*/err")):
        assert FILED.encode() not in stream.read_bytes()


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
    assert any(text.startswith("working with ") for text in told)
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
