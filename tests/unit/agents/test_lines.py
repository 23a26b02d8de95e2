"""Reading hostile JSON never raises and never lets anything unsafe through."""

from __future__ import annotations

import pytest

from locum.agents import lines


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"[1]",
        b'{"a":',
        b"{" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_object_is_none(data: bytes) -> None:
    """Plain text, arrays, cut, deeply nested and absurd JSON are all just not an event."""
    assert lines.parse(data) is None


def test_text_holds_nothing_a_store_refuses() -> None:
    """NULs and lone surrogates are gone, other types are no text."""
    told = lines.parse(b'{"a": "x\\u0000y\\ud800z", "b": 5}')
    assert told is not None
    assert lines.text(told["a"]) == "xy?z"
    assert lines.text(told["b"]) == ""


@pytest.mark.parametrize("value", [True, -1, 1.5, "7", None, 2**60, [], {}])
def test_what_is_no_count_counts_as_nothing(value: object) -> None:
    """Only a sane whole number is a number of tokens."""
    assert lines.count(value) == 0


@pytest.mark.parametrize("value", ["", "-rf", "../x", "a/b", "a*", "a b", "x" * 200, 5, None, "a\n"])
def test_an_unsafe_session_id_is_none(value: object) -> None:
    """A session id goes into an argv and a glob: it can be neither an option nor a path nor a pattern."""
    assert lines.session(value) == ""


def test_moments_are_read_or_refused() -> None:
    """ISO 8601 with and without a zone; epoch seconds only within this age."""
    assert lines.moment_ms("2026-11-22T06:50:11.217Z") == 1795330211217
    assert lines.moment_ms("2026-11-22T06:50:11") == 1795330211000
    assert lines.moment_ms("yesterday") is None
    assert lines.moment_ms(5) is None
    assert lines.epoch_ms(1795340351) == 1795340351000
    assert [lines.epoch_ms(bad) for bad in (0, -1, True, "1795340351", 1e12, float("nan"), float("inf"))] == [None] * 7


def test_a_status_is_three_digits() -> None:
    """Whatever else stands there is no HTTP status."""
    assert lines.status(529) == 529
    assert [lines.status(bad) for bad in (None, "529", True, 7, 1000)] == [None] * 5


def test_a_share_may_be_overdrawn_and_no_more() -> None:
    """What a vendor counted afterwards may be twice the whole; beyond that, or as no number, it is no share."""
    assert [lines.percent(each) for each in (0, 91.25, 100, 200)] == [0.0, 91.2, 100.0, 200.0]
    assert [lines.percent(each, whole=1) for each in (0.91, 1, 1.04, 2)] == [91.0, 100.0, 104.0, 200.0]
    assert [lines.percent(bad, whole=1) for bad in (2.01, 7, -0.1, True, "0.9", None, float("nan"))] == [None] * 7
    assert lines.percent(201) is None
