"""What counts as a change of an agent's output, and what as another run of the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from locum.agents.replay import Case, cases
from locum.agents.rules import shipped
from tests.corpus import record, refresh
from tests.corpus.said import SAID
from tests.corpus.shapes import masked, shape_of

LIVE = {case.name: case for case in cases() if case.meta["case"].startswith("live.")}
FILES = ("stdout", "stderr", "transcript.jsonl")
UNNAMED = {f"claude-code/said.{name}" for name in ("no_subscription", "out_of_credits", "spend_limit")}
"""What the vendor's own window or type decides, whatever the sentence."""


def altered(case: Case, folder: Path, *changes: tuple[bytes, bytes], exit_code: int | None = None) -> Case:
    """The same run as if its agent had written something else, read anew by its adapter."""
    for name in FILES:
        data = case.text(name)
        for pattern, instead in changes:
            data = re.sub(pattern, instead, data)
        (folder / name).write_bytes(data)
    meta = {**case.meta, "exit": case.meta["exit"] if exit_code is None else exit_code}
    other = Case(folder, meta, {})
    return dataclasses.replace(other, expected=record.judged(other, stopped=False))


def test_every_agent_is_recorded_in_every_case():
    """No agent that can be run is without a recording to compare it with, in each of the cases."""
    assert set(LIVE) == {f"{agent}/live.{name}" for agent in record.recordable() for name in record.CASES}


def test_what_is_recorded_for_a_sentence_is_named_by_a_rule():
    """No recording of a sentence is missing or left over, and none was made for nothing."""
    recorded = {case.name for case in cases() if case.meta["case"].startswith("said.")}
    assert recorded == {f"{agent}/said.{name}" for agent, plays in SAID.items() for name in plays}
    named = {f"{agent}/{rule.case}" for agent in SAID for rule in shipped(agent)}
    assert recorded - named == UNNAMED


@pytest.mark.parametrize("case", LIVE.values(), ids=list(LIVE))
def test_a_run_is_like_itself(case, tmp_path):
    """Other ids, moments and counts of time make no difference: nothing of one run stands in a shape."""
    assert not refresh.change(case, case)
    other = altered(
        case,
        tmp_path,
        (rb"2026-11-22T\d\d:\d\d", b"2027-01-02T03:04"),
        (rb'("(?:duration\w*|\w+_ms|created_at|started_at|completed_at)": ?)\d+', rb"\g<1>987654321"),
    )
    found = refresh.change(case, other)
    assert (found.new, found.gone) == ((), ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("try again in 3.5s", "try again in 120s"),
        ("resets 9:39am (UTC)", "resets 12:05 pm (UTC)"),
        ("try again at Nov 25th, 2026 4:41 AM.", "try again at Dec 1st, 2026 11:00 PM."),
        ("at 2026-11-22T09:39:11Z", "at 2027-01-01 00:00:00.123+01:00"),
        (
            "No conversation found: 0192cb38-7bab-4dbb-a0ec-309574c80594",
            "No conversation found: 5952e4f1-6255-4763-8ae8-cadafa2c2bc3",
        ),
        ("see https://a.example/x", "see http://b.example/y?z=1"),
        ("request req_00000002 failed", "request req_0000000a1 failed"),
        ("in /srv/project/a.py", "in /home/dev/b/c.py"),
        ("\x1b[31mError\x1b[0m", "Error"),
    ],
)
def test_a_sentence_with_other_numbers_is_the_same(one, other):
    """Numbers, ids, moments, addresses, places and colours belong to one run."""
    assert masked(one) == masked(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You've hit your usage limit.", "You\u2019ve hit your usage limit."),
        ("Invalid API key", "API key not valid"),
        ("resets 9:39am (UTC)", "resets in 9:39 (UTC)"),
        ("retry in 30s", "retry after 30 s"),
    ],
)
def test_a_sentence_with_other_words_is_another(one, other):
    """What a rule of text could rest on is kept to the letter, the apostrophe too."""
    assert masked(one) != masked(other)


def test_shapes_hold_events_keys_words_and_sentences():
    """Lines of JSON and plain lines among each other are each taken for what they are, and no value is kept."""
    lines = [
        b'{"type": "result", "usage": {"input": 12, "by_model": {"gpt-5": 3}}, "is_error": true, "status": 401}',
        b'{"type": "error", "error": {"code": "invalid_api_key", "message": "no key 17 for you"}}',
        b"Retrying after 250 ms",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type": 5}',
        b"    at async Turn.run (file:///opt/agents/a/chunk-JDPZ4CE3.js:333001:24) {",
    ]
    found = shape_of("out", b"\n".join(lines))
    assert {
        "out result usage.input",
        "out result usage.by_model.*",
        "out result is_error = True",
        "out result status = 401",
        "out error error.code = invalid_api_key",
        "out error error.message says 'no key N for you'",
        "out says 'Retrying after N ms'",
        "out (no type)",
    } <= found
    assert not any(value in each for each in found for value in ("12", "250", "Turn"))
    assert shape_of("out", b"\n".join(lines * 2)) == found


def test_one_document_of_many_lines_is_read_whole():
    """JSON that is written over several lines is no prose."""
    assert shape_of("err", b'{\n "type": "error",\n "code": 41\n}\n') == {
        "err error",
        "err error type",
        "err error type = error",
        "err error code",
    }


def test_a_new_key_is_shown_and_breaks_nothing(tmp_path):
    """What looks different and means the same is told by name, and is no failure."""
    case = LIVE["codex/live.ok"]
    other = altered(case, tmp_path, (b'"type":"turn.started"', b'"type":"turn.started","mood":"fine"'))
    found = refresh.change(case, other)
    assert (found.verdicts, found.gone) == ((), ())
    assert found.new == ("out turn.started mood",)
    assert not refresh.breaks(found)


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("codex/live.quota", (b"usage_limit_exceeded|hit your usage limit", b"mystery"), "kind: usage_limit → "),
        ("codex/live.ok", (b'"type":"turn.completed"', b'"type":"turn.finished"'), "kind: success → no_result"),
        ("codex/live.ok", (b'"output_tokens":', b'"out_tokens":'), "usage: "),
        ("codex/live.ok", (b'"thread_id":', b'"thread":'), "session: told → not told"),
        ("claude-code/live.auth", (b"authentication_failed", b"unauthenticated"), None),
    ],
)
def test_what_a_verdict_rests_on_breaks(tmp_path, name, change, verdict):
    """A lost kind, count or session is a failure; a word that only one of two witnesses told is not."""
    case = LIVE[name]
    found = refresh.change(case, altered(case, tmp_path, change))
    assert refresh.breaks(found) is (verdict is not None)
    assert found.gone
    assert verdict is None or any(each.startswith(verdict) for each in found.verdicts)
    told = list(refresh.told(name, found))
    assert told[0].endswith("DIFFERS" if verdict else "looks different, means the same")
    assert len(told) <= 4 + 2 * (refresh.MOST_SHOWN + 1)


def test_another_exit_code_alone_is_told_and_breaks_nothing(tmp_path):
    """Verdicts see past exit codes, so a changed one is news and no failure."""
    case = LIVE["codex/live.auth"]
    found = refresh.change(case, altered(case, tmp_path, exit_code=7))
    assert found.verdicts == ("exit code: 1 → 7",)
    assert not refresh.breaks(found)


@pytest.mark.parametrize(("hangs", "whole"), [(0, True), (1, True), (2, False)])
def test_a_run_that_hung_once_is_run_again(monkeypatch, tmp_path, capsys, hangs, whole):
    """One hang of an agent that does not hang is told, and is no change of its output; two are one."""
    case = LIVE["codex/live.ok"]
    stuck = dataclasses.replace(case, expected={**case.expected, "kind": "crash", "stopped": "stalled"})
    runs = [stuck] * hangs + [case] * 2
    monkeypatch.setattr(refresh, "record", lambda *_: runs.pop(0))
    monkeypatch.setattr(refresh, "reported_version", lambda _: "0.0.1")
    monkeypatch.setattr(refresh.logins, "program", lambda _: "codex")
    assert refresh.refresh(["codex"], ["ok"], tmp_path) is whole
    told = capsys.readouterr().out
    assert ("it hung when it was run first" in told) is (hangs > 0)
    assert "codex '0.0.1', not 0.169.0" in told
    assert hangs + 2 - len(runs) == (2 if hangs else 1), "it is run once more, and never a third time"


def test_what_is_not_there_is_refused(monkeypatch, tmp_path, capsys):
    """An unknown agent, and one that is not installed, are named before anything is run."""
    monkeypatch.setenv("LOCUM_AGENT_CACHE", str(tmp_path))
    assert refresh.main(["cursor"]) == 2
    assert "there is no cursor" in capsys.readouterr().err
    assert refresh.main(["codex"]) == 2
    assert "not installed: codex" in capsys.readouterr().err
    assert refresh.main([]) == 2, "nothing is installed, so nothing was compared"
