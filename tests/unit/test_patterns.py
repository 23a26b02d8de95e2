"""Patterns: bounded whatever is written, clear about what cannot be used."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.patterns import LARGEST, PatternError, pattern

CATASTROPHIC = (
    r"(a+)+$",
    r"(a|a)*b",
    r"(?:\w+\s?)+!",
    r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
    r"(?:a?){150}a{150}b",
    r"(?:[^b]+[^c]+)+d",
    r"(?:\w?\s?){120}!",
)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", CATASTROPHIC)
@pytest.mark.parametrize("searched", ["a" * 32_000, "a\n" * 16_000, "a " * 16_000, " " * 32_000])
def test_a_catastrophic_pattern_answers_at_once(text: str, searched: str) -> None:
    """Patterns on which a backtracking engine would work for years end, on as much text as is ever searched."""
    found = pattern(text).find(searched.encode())
    assert found is None or text == CATASTROPHIC[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "missing )"),
        ("a)|(b", "unexpected )"),
        (r"(a)\1", "invalid escape"),
        ("(?=a)b", "invalid perl operator"),
        ("a{1001}", "repetition"),
        ("(?:a?){900}a{900}", "too large"),
        (r"(\w+\s?){1,300}!", "too large"),
        ("x*", "empty line"),
        ("a|", "empty line"),
        ("^", "empty line"),
        ("\ud800", "half a character"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_reason(text: str, why: str) -> None:
    """A pattern that is wrong, too large or fits everything is refused when it is read, never when it is tried."""
    with pytest.raises(PatternError, match=re.escape(why)):
        pattern(text)


def test_a_pattern_is_tried_at_the_start_of_each_line() -> None:
    """Every alternative is anchored, lines end as files end them, and what is not UTF-8 harms nobody."""
    found = pattern("b|You.ve (?P<model>\\w+) limit").find("a b\r\nYou’ve Opus limit, so\r\nb".encode())
    assert found is not None
    assert (found.line, found.named) == ("You’ve Opus limit, so", {"model": "Opus"})
    assert pattern("b|c").find(b"ab\nac\n b") is None
    broken = pattern("You.*").find(b"\xff\nYou \xff\xfe")
    assert broken is not None
    assert broken.line == "You \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_text_is_a_pattern_or_refused(text: str, searched: str) -> None:
    """No text that somebody writes raises anything else, or fits where nothing stands."""
    try:
        known = pattern(text)
    except PatternError:
        return
    assert known.find(b"") is None
    found = known.find(searched.encode())
    assert found is None or found.line in searched


def test_the_bound_leaves_room_for_real_sentences() -> None:
    """A pattern with a bounded gap of 80 letters is within it, so that people need not count."""
    assert pattern(r".{0,80}?You have reached your specified API usage limits(?: \w+){0,5}").find(b"x") is None
    assert LARGEST <= 1_000
