"""Whatever text is given, the HTML says that text and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.page.markup import joined, plain, tag
from tests.unit.page.scenes import Read

EVIL = "<script>alert(1)</script>\" onload='x' & </p><!-- ]]> \u202egnp.exe\u2066 \x1b[2J \x00 \ud800 \u2028"


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_text_stays_text(inside: str, attribute: str) -> None:
    """No text, as content or as an attribute, makes an element, an attribute or an end of one."""
    page = tag("p", inside, [tag("b", inside), None, 7], title=attribute, lang="x")
    found = Read(page)
    assert [name for name, _ in found.elements] == ["p", "b"]
    assert set(found.elements[0][1]) == {"title", "lang"}
    page.encode()


def test_hostile_text_is_shown() -> None:
    """What would run, turn direction, move a cursor or cannot be encoded is shown as harmless text."""
    found = Read(tag("p", EVIL, title=EVIL))
    shown = found.text
    assert "<script>alert(1)</script>" in shown
    assert [name for name, _ in found.elements] == ["p"]
    for text in (shown, found.elements[0][1]["title"] or ""):
        assert not {"\u202e", "\u2066", "\x1b", "\x00", "\ud800"} & set(text)
        assert "\u241b[2J" in text


def test_lines_and_tabs_stay() -> None:
    """What an agent writes keeps its lines."""
    assert plain("a\tb\nc") == "a\tb\nc"


@pytest.mark.parametrize("attributes", [{"style": "x"}, {"onclick": "x"}, {"a b": "x"}])
def test_nothing_that_the_policy_refuses(attributes: dict[str, str]) -> None:
    """Styles, scripts and odd names as attributes are a mistake of ours, and are noticed."""
    with pytest.raises(AssertionError):
        tag("p", **attributes)  # type: ignore[arg-type]


def test_an_attribute_may_be_left_out() -> None:
    """None and False leave it out, True is a bare name, classes stand first."""
    assert tag("a.one.two", href=None, hidden=False, data_keep=True) == '<a class="one two" data-keep></a>'
    assert joined("<", tag("br"), 3) == "&lt;<br>3"
