"""Promises of the redactor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from locum.engine.redact import MASK, SHORTEST, Redactor

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=SHORTEST, max_size=30)


@given(st.lists(st.tuples(st.text(max_size=20), SECRETS), max_size=6), st.text(max_size=20))
def test_no_secret_is_left_wherever_it_stands(parts: list[tuple[str, str]], end: str) -> None:
    """Whatever stands around them, and however they contain each other, no secret comes out."""
    hide = Redactor(frozenset(secret for _, secret in parts))
    told = hide("".join(text + secret for text, secret in parts) + end)
    assert not any(secret in told for _, secret in parts if secret not in MASK)


def test_what_is_no_secret_stays_as_it_is() -> None:
    """Without secrets, and for values too short to be one, text is not touched."""
    assert Redactor()("a text") == "a text"
    assert Redactor(frozenset({"1", "on", ""}))("1 on 1") == "1 on 1"


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    """A private key that is printed in pieces is masked in each of them."""
    hide = Redactor(frozenset({"-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"}))
    assert hide("it says MIIEvQIBADANBgkq here") == f"it says {MASK} here"
