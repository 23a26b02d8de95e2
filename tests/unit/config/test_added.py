"""Rules in files of their own beside service.json: read with it, refused with it, and told with their place."""

from __future__ import annotations

import json
import os

import pytest

from locum.config.added import MOST, read_files
from locum.config.load import load
from locum.config.problem import InvalidConfigError
from locum.config.reload import Applied, Rejected, Reloader, Unchanged
from locum.policy.failure import FailureKind
from tests.unit.config.helpers import service

RULE = """id = "mine.quota"
agent = "codex"
kind = "usage_limit"
pattern = 'The team allowance is used up'
reset = true
said = ["The team allowance is used up until tomorrow."]
twins = ["The team allowance is nearly used up"]
"""


@pytest.fixture
def config(tmp_path):
    """A good service.json with a folder for rules beside it."""
    path = tmp_path / "service.json"
    path.write_text(json.dumps(service(signals=[{"id": "old", "agent": "codex", "kind": "network", "pattern": "x"}])))
    (tmp_path / "signals").mkdir()
    return path


def told(config):
    """What is wrong, with the paths made short."""
    with pytest.raises(InvalidConfigError) as caught:
        load(config, {})
    assert caught.value.exit_code == 78
    return [str(problem).replace(f"{config.parent}/", "") for problem in caught.value.problems]


def test_a_rule_is_added_by_its_file(config):
    """Files are read in the order of their names; what is not a rule's file is left alone."""
    folder = config.parent / "signals"
    (folder / "mine.quota.toml").write_text(RULE)
    (folder / "a.toml").write_text(RULE.replace("mine.quota", "a"))
    (folder / ".mine.toml.swp").write_text("no")
    (folder / ".hidden.toml").write_text("no")
    (folder / "README").write_text("no")
    (folder / "cases").mkdir()
    added = load(config, {}).added
    assert [rule.id for rule in added] == ["a", "mine.quota"]
    assert (added[1].kind, added[1].reset, added[1].twins) == (
        FailureKind.USAGE_LIMIT,
        True,
        ("The team allowance is nearly used up",),
    )


def test_without_a_folder_nothing_is_added(config):
    """Most people have none, and a link to one elsewhere is as good."""
    folder = config.parent / "signals"
    folder.rmdir()
    assert load(config, {}).added == ()
    (config.parent / "elsewhere").mkdir()
    (config.parent / "elsewhere" / "mine.quota.toml").write_text(RULE)
    folder.symlink_to("elsewhere")
    assert len(load(config, {}).added) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RULE.replace("usage_limit", "usage_limt"), 'mine.quota.toml:3:1: `kind` is "usage_limt", it must be a failure kind that an agent can tell, did you mean `usage_limit`?'),
        (RULE.replace("The team", "(The team"), 'mine.quota.toml:4:1: `pattern` is "(The team allowance is used up", it must be a pattern that can be used (missing ): (The team allowance is used up), mend it'),
        (RULE.replace("'The team", r"'(\w+\s?){1,300}!"), "it is too large: repeat less in it"),
        (RULE.replace("codex", "gpt"), 'mine.quota.toml:2:1: `agent` is "gpt", it must be an agent that locum knows'),
        (RULE + "patern = 1\n", "mine.quota.toml:8:1: unknown key `patern`, nothing here is called that, did you mean `pattern`?"),
        (RULE + "when = 2026-11-22\n", "mine.quota.toml:8:1: unknown key `when`"),
        (RULE.replace("true", "1"), "mine.quota.toml:5:1: `reset` is 1, it must be true or false"),
        (RULE.replace('id = "mine.quota"\n', ""), "mine.quota.toml: `id` is missing"),
        (RULE.replace("mine.quota", "other"), "mine.quota.toml: the file is called `mine.quota.toml`, the rule in it is `other`, and a rule is found by its file, call it `other.toml`."),
        (RULE.replace('"mine.quota"', '"mine'), "mine.quota.toml:1:11: this cannot be read, it is not TOML"),
        ("", "mine.quota.toml: `id` is missing"),
        ("x = " + "[" * 5000, "mine.quota.toml"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_with_its_place(config, text, words):
    """Path, line, what, why and what to do: as for service.json itself."""
    (config.parent / "signals" / "mine.quota.toml").write_text(text)
    assert any(words in each for each in told(config)), told(config)


@pytest.mark.timeout(10)
def test_what_is_no_rule_file_is_told(config):
    """A pipe is not waited for, a huge file not read, a binary one not shown, and all of them are told at once."""
    folder = config.parent / "signals"
    os.mkfifo(folder / "pipe.toml")
    (folder / "folder.toml").mkdir()
    (folder / "gone.toml").symlink_to("nowhere")
    (folder / "huge.toml").touch()
    os.truncate(folder / "huge.toml", 2 << 30)
    assert [each.partition(",")[0] for each in told(config)] == [
        "signals/folder.toml: this is a folder",
        "signals/gone.toml: the file cannot be read",
        "signals/huge.toml: the file is larger than 1 MiB",
        "signals/pipe.toml: this is not a file",
    ]
    remedy = "take it out of signals/, or give it a name that does not end in .toml."
    assert [each.endswith(remedy) for each in told(config)] == [True, False, False, True]
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "binary.toml").write_bytes(b"\x00\xff\xfe" * 99)
    assert told(config)[0].startswith("signals/binary.toml: this is not UTF-8")


def test_a_folder_that_is_none_or_too_full_is_told(config):
    """A file in the folder's place, and more rules than anybody can have meant, are refused."""
    folder = config.parent / "signals"
    for number in range(MOST + 1):
        (folder / f"r{number}.toml").touch()
    assert told(config)[0].startswith(f"signals: there are more than {MOST} rules")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("")
    assert told(config)[0].startswith("signals: the folder of added rules cannot be read")


def test_an_id_of_service_json_is_taken(config):
    """Two rules of one name could not be told apart."""
    (config.parent / "signals" / "old.toml").write_text(RULE.replace("mine.quota", "old"))
    assert told(config) == [
        "signals/old.toml:1:1: a second rule `old`, service.json has one too, and rules are told apart by id, remove one of them."
    ]


def test_an_added_rule_is_one_reload(config):
    """Added, broken, mended and taken out: each is told once, and the last good rules stay in between."""
    reloader = Reloader(load(config, {}), {})
    path = config.parent / "signals" / "mine.quota.toml"
    path.write_text(RULE)
    applied = reloader.refresh()
    assert isinstance(applied, Applied)
    assert [rule.id for rule in applied.loaded.added] == ["mine.quota"]
    assert reloader.refresh() == Unchanged()
    path.write_text(RULE.replace("codex", "gpt"))
    rejected = reloader.refresh()
    assert isinstance(rejected, Rejected)
    assert rejected.problems[0].path == path
    assert reloader.refresh() == Unchanged()
    assert [rule.id for rule in reloader.loaded.added] == ["mine.quota"]
    path.unlink()
    path.mkdir()
    assert isinstance(reloader.refresh(), Rejected)
    assert reloader.refresh() == Unchanged()
    path.rmdir()
    path.write_text(RULE)
    assert reloader.refresh() == Unchanged(cleared=True)
    path.unlink()
    assert isinstance(reloader.refresh(), Applied)
    assert reloader.loaded.added == ()


def test_files_are_read_as_they_are(config):
    """What was read is what is judged: no file is read a second time between."""
    (config.parent / "signals" / "mine.quota.toml").write_text(RULE)
    (file,) = read_files(config)
    assert file.data == RULE.encode()
