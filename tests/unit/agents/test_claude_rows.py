"""Claude Code's transcript rows are read in a quick way that tells what the careful one would."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.agents import claude_code, lines
from locum.agents.base import Line, Source
from locum.agents.claude_code import ClaudeCode
from locum.policy.usage import Tokens, Usage

AGENT = ClaudeCode()
COUNT = st.one_of(
    st.integers(-3, 3000), st.integers(2**53 - 1, 2**70), st.floats(), st.text(max_size=3), st.none(), st.booleans()
)
COUNTS = st.dictionaries(
    st.sampled_from(
        ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "service_tier"]
    ),
    COUNT,
)
ANYTHING = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2), COUNTS)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.text(max_size=9), ANYTHING),
        "model": st.one_of(st.just("claude-x"), st.just("<synthetic>"), ANYTHING),
        "usage": st.one_of(COUNTS, COUNTS, ANYTHING),
        "content": st.one_of(ANYTHING, st.lists(st.fixed_dictionaries({"text": st.text()}), max_size=2)),
    },
)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.just("assistant"), st.just("assistant"), ANYTHING),
        "sessionId": st.one_of(st.uuids().map(str), ANYTHING),
        "timestamp": st.one_of(st.just("2026-11-22T06:50:13.735Z"), st.just("2026-11-22T06:50:13+02:00"), ANYTHING),
        "message": st.one_of(MESSAGE, MESSAGE, ANYTHING),
        "toolUseResult": ANYTHING,
    },
)


def careful(data: bytes) -> tuple[Usage, ...]:
    """What the reader of whole objects finds."""
    event = lines.parse(data) or {}
    return tuple(claude_code._usage(event, event.get("sessionId"))) if event.get("type") == "assistant" else ()


def quick(data: bytes) -> tuple[object, ...]:
    """What the adapter tells of a transcript's row."""
    return AGENT.read(Line(Source.TRANSCRIPT, data))


@given(ROW, st.booleans())
def test_a_row_tells_the_same_however_it_is_read(row: dict[str, object], ascii_only: bool) -> None:
    """No value of any type in any place makes the quick way count what the careful one does not, or the reverse."""
    data = json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert quick(data) == (careful(data) if b'"assistant"' in data else ())


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}}}x',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}}',
        b'[{"type":"assistant"}]',
        b'"assistant"',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}},"x":' + b"[" * 100_000,
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}},"x":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"type":"assistant","message":{"id":"a"},"message":{"id":"b","usage":{"input_tokens":7}}}',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}},"message":{"id":"b"}}',
        b'{"type":"assistant","message":{"\\u0069d":"a","usage":{"input_tokens":7}}}',
        b'{"type":"assistant","message":{"id":"\xff\xfe","usage":{"input_tokens":7}}}',
        b'{"type":"assistant","message":{"id":"\\ud800","usage":{"input_tokens":7}}}',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":NaN,"output_tokens":1}}}',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":1e400,"output_tokens":1}}}',
        b'{"type":"assistant","message":{"id":"a","usage":{"input_tokens":9' + b"9" * 5000 + b',"output_tokens":1}}}',
        b' \t{"type":"assistant","message":{"id":"a","usage":{"input_tokens":7}}} \r',
        b'{"type":"assistant","message":{"id":"a\\u0000b","usage":{"input_tokens":7}}}',
    ],
)
def test_a_strange_row_tells_the_same_however_it_is_read(data: bytes) -> None:
    """Broken, deep, doubled, escaped and absurd rows neither raise nor differ."""
    assert quick(data) == careful(data)


def test_what_stands_beside_the_usage_may_be_anything() -> None:
    """Bytes that are no text, in a part that nobody reads, cost a row nothing."""
    data = b'{"type":"assistant","x":"\xff","message":{"id":"a","content":[{"\xfe":1}],"usage":{"input_tokens":7}}}'
    assert quick(data) == (Usage("a", Tokens(7)),)
