"""Promises of the redactor."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from locum.agents.base import Line, Source
from locum.agents.command import ProgramAgent
from locum.engine.redact import MASK, SHORTEST, Redactor
from locum.policy.usage import Tokens, Usage

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


@given(SECRETS, st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 80))
def test_a_cut_never_goes_through_a_secret(secret: str, before: bytes, after: bytes, most: int) -> None:
    """Whatever is kept of the end of a stream, no tail of a secret is left at its front."""
    hide = Redactor(frozenset({secret}))
    data = (before + secret.encode() + after)[-(most + hide.longest) :]
    kept = hide.end(data, most)
    clean = hide.end((before + after)[-(most + hide.longest) :], most)
    for length in range(4, len(secret)):
        piece = secret[-length:]
        assert not kept.startswith(piece) or clean.startswith(piece) or piece.encode() in before + after


def test_a_secret_is_found_as_json_writes_it() -> None:
    """Quotes and backslashes in a password do not hide it in a line of JSON."""
    secret = 'pa"ss\\wörd-1'
    line = Line(Source.OUT, json.dumps({"message": f"no {secret}!"}).encode())
    assert json.loads(Redactor(frozenset({secret})).line(line).data)["message"] == f"no {MASK}!"


def test_a_file_is_masked_in_place_and_only_ours(tmp_path: Path) -> None:
    """Nothing in the file moves, an empty or missing one is no trouble, and a second name of it is left alone."""
    hide = Redactor(frozenset({"verysecret1"}))
    file = tmp_path / "out"
    file.write_text("a verysecret1 b\n")
    hide.mask_file(file)
    assert file.read_text() == f"a {'*' * 11} b\n"
    (tmp_path / "empty").touch()
    hide.mask_file(tmp_path / "empty")
    hide.mask_file(tmp_path / "none")
    Redactor().mask_file(file)
    (tmp_path / "theirs").write_text("verysecret1")
    (tmp_path / "linked").hardlink_to(tmp_path / "theirs")
    hide.mask_file(tmp_path / "linked")
    assert (tmp_path / "theirs").read_text() == "verysecret1"


BESIDE = st.text("ab*•", max_size=9)


@given(st.text("#$%&()*+-./gxyz", min_size=SHORTEST, max_size=30), BESIDE, BESIDE)
def test_a_masked_file_tells_the_same_usage(secret: str, before: str, after: str) -> None:
    """A daemon that dies when it has masked a run's files counts nothing twice: not even under an id with a key in it."""
    hide = Redactor(frozenset({secret}))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "out"
        file.write_text(json.dumps({"type": "usage", "id": f"{before}{secret}{after}", "input": 7}, ensure_ascii=False))
        [first] = counted(hide, file)
        hide.mask_file(file)
        assert counted(hide, file) == [first]


def test_ids_without_a_key_in_them_stay_apart() -> None:
    """What merely looks like a few stars is an id like any other."""
    hide = Redactor(frozenset({"verysecret1"}))
    ids = ["m*", "m**", "*m*", "•", "m•"]
    assert [hide.told(Usage(each, Tokens(1))).key for each in ids] == ids


def counted(hide: Redactor, file: Path) -> list[Usage]:
    """The usage that the only line of a file tells, as it is counted."""
    told = ProgramAgent().read(hide.line(Line(Source.OUT, file.read_bytes(), 0, "r-1")))
    return [hide.told(each) for each in told if isinstance(each, Usage)]
