"""What is written to a person's terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.cli.terminal import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]52;c;ZXZpbA==\x07b", "ab"),
        ("a\x1b]0;owned\x1b\\b", "ab"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b[2J\x1b[Hx", "x"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[38:5:9mx\x1b[m", "\x1b[38:5:9mx\x1b[m"),
        ("over\rwritten\b", "overwritten"),
        ("\x9b2Jx", "2Jx"),
        ("one\n\ttwo \u2713\n", "one\n\ttwo \u2713\n"),
        ("\x1bc", ""),
        ("x\x1b", "x"),
    ],
)
def test_an_agent_does_not_steer_the_terminal(text: str, shown: str) -> None:
    """Lines and colours come through; a title, a clipboard, a cleared screen and a hidden line do not."""
    assert harmless(text) == shown


@given(st.text(st.sampled_from("\x1b[]P;m01Hc\x07\\\r\n a\x9b"), max_size=30))
def test_nothing_but_colours_is_left_of_any_sequence(text: str) -> None:
    """However sequences are nested or cut off, each that is left is a colour's."""
    left = harmless(text)
    for part in left.split("\x1b")[1:]:
        assert part.startswith("[")
        assert part[1:].lstrip("0123456789;:").startswith("m")
    assert not set(left) & set("\x07\r\x9b")
