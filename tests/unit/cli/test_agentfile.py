"""The settings of an agent: hooks put in and taken out, and the rest left alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.cli.agentfile import AgentFile
from locum.cli.hookline import HookLine
from locum.errors import ConflictError

GOLDEN = Path(__file__).with_name("golden")
OURS = re.compile(r'"command": "curl (?:[^"\\]|\\.)*"')


def wanted(*events, tier=None):
    """Entries as an adapter makes them, one an event."""
    line = HookLine(Path("/run/locum.sock"), "claude-code", tier=tier)
    return [(event, {"hooks": [{"type": "command", "command": line.command(5), "timeout": 5}]}) for event in events]


WANTED = wanted("Prompt", "Stop")


@pytest.mark.parametrize("before", sorted(GOLDEN.glob("*.before.json")), ids=lambda path: path.name.partition(".")[0])
def test_everything_else_stays_as_it_was_written(tmp_path, before):
    """Order, indentation, line ends, numbers and other people's hooks stay byte for byte, there and back."""
    path = tmp_path / "settings.json"
    shutil.copy(before, path)
    file = AgentFile(path)
    file.write(file.with_hooks(WANTED))
    after = before.with_name(before.name.replace("before", "after"))
    assert OURS.sub('"command": "OURS"', path.read_bytes().decode()).encode() == after.read_bytes()
    file = AgentFile(path)
    assert file.with_hooks(WANTED) == file.text
    file.write(file.without_hooks())
    assert path.read_bytes() == before.read_bytes()


KEYS = st.sampled_from(["Stop", "hooks", "ü", ""]) | st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
HOOK = st.fixed_dictionaries({"command": st.sampled_from(["say hi", "curl http://locum/hooks/claude-code"])})
ENTRY = st.fixed_dictionaries({"hooks": st.lists(HOOK | VALUES, max_size=2)}, optional={"matcher": VALUES}) | VALUES
LISTS = st.lists(ENTRY, max_size=3)
HOOKS = st.fixed_dictionaries({}, optional={"Stop": LISTS, "Prompt": LISTS, "Other": LISTS | VALUES})
SETTINGS = st.tuples(
    st.dictionaries(KEYS.filter(lambda key: key != "hooks"), VALUES, max_size=2),
    st.just({}) | HOOKS.map(lambda found: {"hooks": found}),
    st.dictionaries(KEYS.filter(lambda key: key != "hooks"), VALUES, max_size=2),
).map(lambda parts: {**parts[0], **parts[1], **parts[2]})
LAYOUTS = st.sampled_from(
    [{}, {"indent": 1}, {"indent": "\t"}, {"indent": 4, "ensure_ascii": False}, {"separators": (",", ":")}]
)


def meant(settings):
    """Settings in their order, as an agent understands them: an empty list of hooks is none, and so are no hooks."""
    hooks = settings.get("hooks", {})
    left = {event: each for event, each in hooks.items() if each != [] or event not in dict(WANTED)}
    return [
        (key, list(left.items()) if key == "hooks" else value)
        for key, value in settings.items()
        if key != "hooks" or left
    ]


@given(SETTINGS, LAYOUTS)
def test_in_and_out_again_is_as_if_nothing_had_happened(tmp_path_factory, settings, layout):
    """Whatever stands in the settings stands there after an installation, another one, and their undoing."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    text = json.dumps(settings, **layout)
    path.write_text(text, newline="")
    for tier in (None, "a"):
        entries = wanted("Prompt", "Stop", tier=tier)
        file = AgentFile(path)
        file.write(file.with_hooks(entries))
        file = AgentFile(path)
        assert sorted((at[1], str(entry)) for at, entry, _ in file.ours()) == [(each, str(it)) for each, it in entries]
        assert file.with_hooks(entries) == file.text, "a second installation changes nothing"
    file.write(file.without_hooks())
    undone = AgentFile(path)
    assert meant(undone.value) == meant(settings)
    hooks = settings.get("hooks")
    if hooks is None or (hooks and all(hooks.get(event) != [] for event, _ in WANTED)):
        assert undone.text == text, "where nothing was empty, every byte is as before"


def test_a_change_at_the_same_moment_is_not_overwritten(tmp_path):
    """An agent that saves its settings between our look and our writing does not lose them."""
    path = tmp_path / "settings.json"
    path.write_text("{}")
    file = AgentFile(path)
    path.write_text('{"mine": 1}')
    with pytest.raises(ConflictError, match="at this moment"):
        file.write('{"hooks": {}}')
    assert path.read_text() == '{"mine": 1}'
    assert list(tmp_path.iterdir()) == [path]
