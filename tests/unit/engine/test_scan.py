"""Transcripts read in large pieces tell what they tell line by line, from wherever they were left."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from locum.agents.base import Agent, Line, Source
from locum.agents.claude_code import ClaudeCode
from locum.agents.codex import Codex
from locum.engine import scan as module
from locum.engine.scan import Piece, scan
from locum.engine.stretch import opened
from locum.policy.transcript import Transcript
from locum.policy.usage import NO_TOKENS, Tokens, Usage

OWNERS = frozenset({os.geteuid()})
SESSION = "0b5c9a2e-0000-4000-8000-00000000000a"


def row(key: str, count: int, at: str = "2026-11-22T06:50:13.735Z", more: str = "") -> bytes:
    """An answer of Claude Code."""
    usage = {"input_tokens": 3, "output_tokens": count}
    message = {"id": key, "model": "opus", "usage": usage, "content": more}
    return json.dumps({"type": "assistant", "sessionId": SESSION, "timestamp": at, "message": message}).encode()


class AnyLine(ClaudeCode):
    """An agent of which any line may tell something."""

    tells: tuple[bytes, ...] = ()


class TwoWords(ClaudeCode):
    """An agent with several words that tell."""

    tells: tuple[bytes, ...] = (b'"opus"', b'"assistant"', b"nowhere")


AGENTS = (ClaudeCode(), AnyLine(), TwoWords())
LINES = st.one_of(
    st.builds(row, st.sampled_from("abcd"), st.integers(0, 99), more=st.text(max_size=40)),
    st.sampled_from([b"", b"\r", b"{}", b'{"type":"user","content":"assistant"}', b'"assistant"', b"\x00\xff" * 30]),
    st.binary(max_size=60).map(lambda each: each.replace(b"\n", b"")),
)
FILES = st.lists(LINES, max_size=12).map(b"\n".join)


def read(agent: Agent, path: Path, known: Transcript | None = None) -> list[Piece]:
    """Everything that is new in a file."""
    known = known or Transcript(str(path), agent.name, 0)
    return list(scan(agent, known, str(path.parent), OWNERS))


def largest(usages: list[Usage]) -> dict[str, Tokens]:
    """The largest counts by key: what comes of it in the ledger."""
    found: dict[str, Tokens] = {}
    for usage in usages:
        found[usage.key] = found.get(usage.key, NO_TOKENS).largest(usage.tokens)
    return found


def line_by_line(agent: Agent, data: bytes) -> dict[str, Tokens]:
    """The same by whole lines, each read by itself."""
    lines = data.split(b"\n")[:-1]
    told = [each for line in lines for each in agent.read(Line(Source.TRANSCRIPT, line.removesuffix(b"\r")))]
    return largest([each for each in told if isinstance(each, Usage)])


def usages_of(pieces: list[Piece]) -> list[Usage]:
    """All usages of all pieces."""
    return [usage for piece in pieces for usage in piece.usages]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, FILES, st.sampled_from(AGENTS), st.integers(7, 300), st.integers(1, 3))
def test_pieces_tell_what_lines_tell(
    tmp_path: Path, first: bytes, more: bytes, agent: Agent, chunk: int, rows: int
) -> None:
    """Whatever is in a file, wherever chunks end and reading was left: the same counts, and no byte is read twice."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "CHUNK", chunk)
        patched.setattr(module, "PIECE_ROWS", rows)
        path = tmp_path / "t.jsonl"
        path.unlink(missing_ok=True)
        path.write_bytes(first)
        before = read(agent, path)
        left = before[-1].found
        assert left.position == first.rfind(b"\n") + 1
        with path.open("ab") as file:
            file.write(more)
        after = read(agent, path, left)
        assert largest(usages_of(before) + usages_of(after)) == line_by_line(agent, first + more)
        assert sum(piece.size for piece in before + after) == (first + more).rfind(b"\n") + 1
        for piece in before[:1]:  # what is kept of any piece is a place to go on from
            rest = read(agent, path, piece.found)
            assert largest(piece.usages + usages_of(rest)) == line_by_line(agent, first + more)


def test_where_it_was_left_is_where_watching_goes_on(tmp_path: Path) -> None:
    """The place that an import keeps is taken for the same by what watches the file, and the reverse."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(row(str(each), each, more="x" * 100) + b"\n" for each in range(50)))
    left = read(ClaudeCode(), path)[-1].found
    stretch = opened(left, str(tmp_path), OWNERS)
    assert stretch.known == left
    assert stretch.read() is None
    assert replace(stretch.place(), session=left.session) == left
    stretch.close()


def test_another_file_is_read_from_its_start(tmp_path: Path) -> None:
    """A file that was replaced, shortened or written over is read anew, not from the middle."""
    path, agent = tmp_path / "t.jsonl", ClaudeCode()
    path.write_bytes(row("a", 1) + b"\n" + row("b", 2) + b"\n")
    left = read(agent, path)[-1].found
    other = tmp_path / "new"
    other.write_bytes(row("c", 3) + b"\n" + row("d", 4) + b"\n" + row("e", 5) + b"\n")
    other.rename(path)
    assert set(largest(usages_of(read(agent, path, left)))) == {"c", "d", "e"}
    left = read(agent, path)[-1].found
    path.write_bytes(row("f", 1) + b"\n")
    assert set(largest(usages_of(read(agent, path, left)))) == {"f"}
    left = read(agent, path)[-1].found
    path.write_bytes(row("g", 1) + b"\n" + row("h", 1) + b"\n")
    assert set(largest(usages_of(read(agent, path, left)))) == {"g", "h"}


def test_a_line_without_end_costs_no_memory_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than any line is passed over, also when it goes on the next time, and that is said; what follows it
    counts.
    """
    monkeypatch.setattr(module, "CHUNK", 64)
    monkeypatch.setattr(module, "LONGEST_LINE", 1_000)
    path, agent = tmp_path / "t.jsonl", ClaudeCode()
    path.write_bytes(row("a", 1) + b"\n" + b'"assistant"' * 10_000)
    piece = read(agent, path)[-1]
    left = piece.found
    assert piece.trouble == "a line of more than 16M was passed over"
    assert (left.skipping, left.position) == (True, path.stat().st_size)
    with path.open("ab") as file:
        file.write(b'"assistant"' * 10_000)
    left = read(agent, path, left)[-1].found
    assert (left.skipping, left.position) == (True, path.stat().st_size)
    with path.open("ab") as file:
        file.write(b"}\n" + row("b", 2) + b"\n")
    again = read(agent, path, left)
    assert set(largest(usages_of(again))) == {"b"}
    assert not again[-1].found.skipping
    assert again[-1].trouble
    with path.open("ab") as file:
        file.write(row("c", 3) + b"\n")
    assert not read(agent, path, again[-1].found)[-1].trouble


def test_rows_from_before_do_not_count(tmp_path: Path) -> None:
    """A row dated before the moment that was asked for tells nothing; one without a date was written with its file."""
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(b"\n".join([row("old", 1, "2026-01-01T00:00:00Z"), row("new", 1), row("undated", 1, "?"), b""]))
    os.utime(path, ns=(0, 1_800_000_000_000_000_000))
    known = Transcript(str(path), "claude-code", 1_780_000_000_000)
    found = {usage.key: usage.at_ms for usage in usages_of(read(ClaudeCode(), path, known))}
    assert found == {"new": 1_795_330_213_735, "undated": 1_800_000_000_000}
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    assert {usage.key for usage in usages_of(read(ClaudeCode(), path, known))} == {"new"}


def test_files_that_are_not_ours_are_not_read(tmp_path: Path) -> None:
    """A link, a pipe, another user's file and one outside of the home are refused, and nothing waits for them."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "elsewhere.jsonl").write_bytes(row("a", 1) + b"\n")
    (home / "link.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    (home / "folder").symlink_to(tmp_path)
    os.mkfifo(home / "pipe.jsonl")
    (home / "theirs.jsonl").write_bytes(row("a", 1) + b"\n")
    cases = [("link.jsonl", OWNERS), ("pipe.jsonl", OWNERS), ("folder/elsewhere.jsonl", OWNERS)]
    for name, owners in [*cases, ("theirs.jsonl", frozenset({12_345}))]:
        known = Transcript(f"{home}/{name}", "claude-code", 0)
        with pytest.raises(OSError, match=r".+"):
            list(scan(ClaudeCode(), known, str(home), owners))


def test_a_file_that_shrinks_while_it_is_read_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated between two pieces, a file is read as far as it goes; nothing is raised or invented."""
    monkeypatch.setattr(module, "CHUNK", 256)
    monkeypatch.setattr(module, "PIECE_ROWS", 1)
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(row(str(each), each) + b"\n" for each in range(20)))
    pieces = scan(ClaudeCode(), Transcript(str(path), "claude-code", 0), str(tmp_path), OWNERS)
    first = next(pieces)
    os.truncate(path, 0)
    rest = list(pieces)
    assert len(largest(first.usages + usages_of(rest))) < 20
    assert set(largest(usages_of(read(ClaudeCode(), path, rest[-1].found)))) == set()


def test_an_agent_that_knows_its_session_from_rows_is_followed(tmp_path: Path) -> None:
    """What earlier rows have told of the session is given to the adapter with the later ones, also the next time."""
    corpus = Path(module.__file__).parents[1] / "agents" / "corpus" / "codex"
    for case in sorted(corpus.glob("*/transcript.jsonl")):
        data, path = case.read_bytes(), tmp_path / "rollout.jsonl"
        path.write_bytes(data)
        agent = Codex()
        whole = read(agent, path)
        assert largest(usages_of(whole)) == line_by_line(agent, data)
