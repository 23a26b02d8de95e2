"""Watched or imported, a transcript tells the same: each row once, at its own moment, as far as lines are read."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from locum.agents.base import Source
from locum.agents.registry import AGENTS
from locum.agents.replay import TRANSCRIPT
from locum.clock import SystemClock
from locum.engine.homes import Home
from locum.engine.redact import Redactor
from locum.engine.scan import scan
from locum.engine.sources import Sources
from locum.engine.stretch import opened
from locum.policy.transcript import Transcript
from locum.policy.usage import NO_TOKENS, Tokens, Usage
from tests.corpus.replay import cases

OWNERS = frozenset({os.geteuid()})
LONGEST = 600
"""Bytes of a line that are read here: a few recorded rows are longer, most are not."""
WRITTEN_MS = 1_795_000_000_000
SINCE = [0, 1, WRITTEN_MS, WRITTEN_MS + 1]
DATES = [
    *("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.001Z", "1969-12-31T23:59:59Z", "1970-01-01T14:00:00+14:00"),
    *("2026-11-18T03:46:40Z", "2026-11-18", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "soon", ""),
]
_DATE = re.compile(rb'("timestamp": ?)(?:"[^"]*"|\d+)')
Facts = dict[tuple[str, int], Tokens]


def row(key: object, usage: object, at: object = DATES[4], **more: Any) -> bytes:
    """An answer of Claude Code."""
    message = {"id": key, "model": "opus", "usage": usage}
    return json.dumps({"type": "assistant", "sessionId": "s-1", "timestamp": at, "message": message} | more).encode()


COUNTS = st.one_of(st.integers(0, 9), st.sampled_from([-1, True, 1.5, "7", None, 2**53, 10**13, []]))
ROWS = st.builds(
    row,
    st.sampled_from(["a", "b", "", None, 7, "c" * 300]),
    st.fixed_dictionaries({}, optional={"input_tokens": COUNTS, "output_tokens": COUNTS}) | st.none(),
    st.sampled_from([*DATES, None, 0, 1_795_000_000]),
    sessionId=st.sampled_from(["s-1", "s-2", "../x", None, 3]),
)
ENDS = st.sampled_from([b"", b"\r", b" " * (LONGEST + 9), b"{" + b"x" * LONGEST, b"\x00", b"\xff"])


@cache
def recorded(agent: str) -> list[bytes]:
    """Rows that an agent has written."""
    rows = {line.data for case in cases() if case.agent == agent for line in case.lines(Source.TRANSCRIPT, TRANSCRIPT)}
    return sorted(each for each in rows if len(each) < 4 * LONGEST)


def padded(data: bytes, size: int) -> bytes:
    """A row that is longer by so many bytes, its usage at the beginning."""
    return data[:-1] + b',"more":"' + b"y" * size + b'"}' if size and data.endswith(b"}") else data


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """An agent, and what may stand in a transcript of it."""
    agent = draw(st.sampled_from(sorted(each for each in AGENTS if recorded(each))))
    strange = st.builds(
        lambda data, date: _DATE.sub(rb"\g<1>" + json.dumps(date).encode(), data),
        st.sampled_from(recorded(agent)),
        st.sampled_from([*DATES, 0, 1, WRITTEN_MS]),
    )
    rows = st.one_of(ROWS, strange, strange) if agent == "claude-code" else strange
    line = st.builds(lambda data, size, end: padded(data, size) + end, rows, st.sampled_from([0, 0, 0, LONGEST]), ENDS)
    lines = draw(st.lists(line, max_size=8))
    return agent, b"\n".join(lines) + draw(st.sampled_from([b"\n", b""]))


def counted(usages: list[Usage]) -> Facts:
    """What comes of it in the ledger when it is told at once: how much of each key at which moment."""
    largest: dict[str, Tokens] = {}
    found: Facts = {}
    for usage in sorted(usages, key=lambda each: each.at_ms or 0):
        assert usage.at_ms is not None, "who reads a file knows when it was written"
        before = largest.get(usage.key, NO_TOKENS)
        largest[usage.key] = before.largest(usage.tokens)
        if largest[usage.key] != before:
            name = f"{usage.key} of {usage.session}", usage.at_ms
            found[name] = found.get(name, NO_TOKENS) + (largest[usage.key] - before)
    return found


def watched(agent: str, path: Path, since_ms: int) -> tuple[list[Usage], Transcript, str]:
    """All that who watches a file reads in it, how far that is, and why not to its end."""
    home = Home(AGENTS[agent], str(path.parent))
    reader: Any = object.__new__(Sources)  # nothing else of it is asked here
    reader.clock, reader.redactor = SystemClock(), Redactor
    stretch = opened(Transcript(str(path), agent, since_ms), str(path.parent), OWNERS)
    usages: list[Usage] = []
    while (split := stretch.read()) is not None:
        told, _ = reader._understood(home, stretch, split)
        usages += told
    place, trouble = stretch.place(), stretch.trouble
    stretch.close()
    return usages, place, trouble


def imported(agent: str, path: Path, since_ms: int) -> tuple[list[Usage], Transcript, str]:
    """The same, read for an import; a usage without a session is of the one that its piece names."""
    usages: list[Usage] = []
    for piece in scan(AGENTS[agent], Transcript(str(path), agent, since_ms), str(path.parent), OWNERS):
        usages += [
            Usage(each.key, each.tokens, each.model, each.session or piece.found.session or None, each.at_ms)
            for each in piece.usages
        ]
    return usages, piece.found, piece.trouble


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files(), st.sampled_from(SINCE), st.integers(20, 900))
@example(("claude-code", row("a", {"output_tokens": 5}, DATES[0]) + b"\n"), 0, 900)
@example(
    ("claude-code", padded(row("a", {"output_tokens": 5}), LONGEST) + b"\n" + row("b", {"output_tokens": 7}) + b"\n"),
    0,
    900,
)
@example(("claude-code", row("a", {"output_tokens": 5}, sessionId=None) + b"\n"), 0, 900)
@example(("claude-code", row("a", {"output_tokens": 5}) + b" " * LONGEST + b"\n"), 0, 7)
@example(("claude-code", b"\n".join(row("a", {"output_tokens": 5}, at) for at in (DATES[4], DATES[0])) + b"\n"), 0, 900)
def test_watched_and_imported_alike(tmp_path: Path, file: tuple[str, bytes], since_ms: int, chunk: int) -> None:
    """Rows of any date, length, shape and order, wherever chunks end: the same tokens of the same keys and sessions at
    the same moments, as far into the file, and the same said of what was passed over.
    """
    agent, data = file
    path = tmp_path / "rollout-x-s-0.jsonl"
    path.write_bytes(data)
    os.utime(path, ns=(0, WRITTEN_MS * 1_000_000))
    with pytest.MonkeyPatch.context() as patched:
        for where in ("spool", "scan"):
            patched.setattr(f"locum.engine.{where}.LONGEST_LINE", LONGEST)
        for where in ("stretch", "scan"):
            patched.setattr(f"locum.engine.{where}.CHUNK", chunk)
        (one, place, why), (other, there, because) = watched(agent, path, since_ms), imported(agent, path, since_ms)
    assert counted(one) == counted(other)
    assert why == because
    assert replace(place, session=there.session) == there  # of a file that tells nothing it is not kept


def test_a_row_of_17_mib_tells_nothing_whoever_reads_it(tmp_path: Path) -> None:
    """Its usage stands at its beginning, and still it is no whole row: neither way counts it, and both say so."""
    path = tmp_path / "s-1.jsonl"
    path.write_bytes(padded(row("a", {"output_tokens": 5}), 17 << 20) + b"\n" + row("b", {"output_tokens": 7}) + b"\n")
    for usages, place, trouble in (watched("claude-code", path, 0), imported("claude-code", path, 0)):
        assert [(each.key, each.tokens.output) for each in usages] == [("b", 7)]
        assert place.position == path.stat().st_size
        assert trouble == "a line of more than 16M was passed over"


def test_a_session_that_changes_within_a_piece_keeps_what_it_has_spent(tmp_path: Path) -> None:
    """What was told before another session began in the same file is not that session's."""
    path = tmp_path / "chats" / "x.jsonl"
    path.parent.mkdir()
    rows = [
        told
        for name in ("s-1", "s-2")
        for told in (
            {"sessionId": name},
            {"type": "gemini", "id": f"m-{name}", "tokens": {"input": 5, "output": 2}, "timestamp": DATES[4]},
        )
    ]
    path.write_bytes(b"".join(json.dumps(each).encode() + b"\n" for each in rows))
    for usages, place, _ in (watched("gemini", path, 0), imported("gemini", path, 0)):
        assert [(each.key, each.session) for each in usages] == [("m-s-1", "s-1"), ("m-s-2", "s-2")]
        assert place.session == "s-2"
