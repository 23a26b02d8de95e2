"""From bytes to values that know their place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.config.problem import InvalidConfigError
from locum.config.source import LARGEST_BYTES, parse, read_bytes
from locum.config.syntax import DEEPEST, first_problem

PATH = Path("service.json")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_reads_every_json_value_as_json_does(value, indent, ascii_only):
    """Any JSON text gives the very values that the standard library reads."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert parse(PATH, text.encode()).value == json.loads(text)


@given(st.text(alphabet="{}[]:,\"\\/*1-0.eEtruefalsn \n#x'", max_size=30))
def test_two_readers_agree_on_what_json_is(text):
    """The sentence-teller and the syntax tree never disagree on text without escapes beyond them."""
    import tree_sitter_hujson
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_hujson.language())).parse(text.encode()).root_node
    named = [node for node in tree.named_children if node.type != "comment"]
    well_formed = not tree.has_error and len(named) == 1
    assert (first_problem(text) is None) == well_formed


def test_comments_and_trailing_commas_are_fine():
    """People may comment and end lists with a comma."""
    text = b'// top\n{"a": [1, /* two */ 2,], "b": {"c": null,}, // end\n}\n/* done */'
    assert parse(PATH, text).value == {"a": [1, 2], "b": {"c": None}}


def test_places_count_from_one_in_characters():
    """Lines and columns are what an editor shows, also behind accents, a BOM and CRLF."""
    document = parse(PATH, b'\xef\xbb\xbf{\r\n  "\xc3\xa9": 1, "k": [true,\r\n "x"]}')
    assert document.place(()) == (1, 1)
    assert document.place(("é",)) == (2, 8)
    assert document.place(("k",), key=True) == (2, 11)
    assert document.place(("k",)) == (2, 16)
    assert document.place(("k", 1)) == (3, 2)
    assert document.place(("k", 7, "none"), key=True) == (2, 16)


SYNTAX = {
    "": (1, 1, "the file is empty"),
    "\n// only a comment": (2, 18, "the file is empty"),
    '{"a" 1}': (1, 6, "a `:` is missing"),
    '{"a": tru}': (1, 7, "a word without quotes"),
    '{"a": [1 2]}': (1, 10, "a `,` is missing"),
    "{} {}": (1, 4, "there is more after the end"),
    '{"a":1}}': (1, 8, "there is more after the end"),
    '{"a": 01}': (1, 7, "this is not a number"),
    '{"a": .5}': (1, 7, "this is not a number"),
    '{"a": 0x1F}': (1, 7, "this is not a number"),
    '{"a": NaN}': (1, 7, "a word without quotes"),
    '{"a": -Infinity}': (1, 7, "this is not a number"),
    "{a: 1}": (1, 2, "a word without quotes"),
    "{'a': 1}": (1, 2, "single quotes"),
    '{"a":\n "x\ty"}': (2, 4, "a control character in text"),
    '{"a": "C:\\qux"}': (1, 10, "an unknown escape"),
    '{"a": "x\n"}': (1, 7, "text that does not end"),
    '{"a": 1,, }': (1, 9, "a key is missing"),
    "[1,,2]": (1, 4, "a value is missing"),
    '{"a": 1': (1, 8, "the file ends too early"),
    "/* x": (1, 1, "a comment that does not end"),
    "# x": (1, 1, "a `#`"),
    "{1: 2}": (1, 2, "a key is missing"),
    '{"é": 1, b}': (1, 10, "a word without quotes"),
    "\0": (1, 1, "the character '\\x00'"),
    "[" * 100 + "]" * 100: (1, DEEPEST + 1, "more than 64 levels"),
    '{"a": 1, "a": 2}': (1, 10, "`a` is given twice"),
    '{"a": 1e999}': (1, 7, "a number without bounds"),
    '{"a": 1' + "0" * 5000 + "}": (1, 7, "a very long number"),
    '{"a": "\\ud800"}': (1, 7, "text with \\u0000 or half a character"),
    '{"a": "\\u0000"}': (1, 7, "text with \\u0000 or half a character"),
}


@pytest.mark.parametrize("text", SYNTAX, ids=range(len(SYNTAX)))
def test_broken_text_is_told_where_and_why(text):
    """Every way to break JSON gives one plain sentence at the exact character."""
    with pytest.raises(InvalidConfigError) as caught:
        parse(PATH, text.encode())
    problem = caught.value.problems[0]
    assert (problem.line, problem.column, problem.what) == SYNTAX[text]
    assert problem.why
    assert problem.remedy


@pytest.mark.parametrize("data", [b'{"a": "\xc3("}', b"\xff\xfe{\x00}\x00"])
def test_other_encodings_are_told(data):
    """A file that is not UTF-8 says so instead of showing garbage."""
    with pytest.raises(InvalidConfigError, match="not UTF-8"):
        parse(PATH, data)


@pytest.mark.parametrize(
    "text", [b"[" * LARGEST_BYTES, b"/*" * (LARGEST_BYTES // 2), b'"' * LARGEST_BYTES, b"{" * LARGEST_BYTES]
)
def test_hostile_megabytes_end_quickly(text):
    """A megabyte of nonsense is refused, not chewed on."""
    with pytest.raises(InvalidConfigError):
        parse(PATH, text)


def test_unreadable_files_say_why(tmp_path):
    """A missing file, a folder, a pipe and a name that is none are told apart and never block."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        "none": "cannot be read, no such file",
        "": "this is a folder",
        "pipe": "not a file",
        "loop": "too many levels",
        "a\0b": "its name is not one",
    }
    for name, told in cases.items():
        with pytest.raises(InvalidConfigError, match=told) as caught:
            read_bytes(tmp_path / name)
        assert caught.value.problems[0].line == 0
        assert ":0:" not in str(caught.value)


def test_permission_is_told(tmp_path, monkeypatch):
    """A file that the daemon may not read names the permission."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InvalidConfigError, match="permission denied"):
        read_bytes(tmp_path / "service.json")


def test_a_huge_file_is_refused_unread(tmp_path):
    """Fifty megabytes are the wrong file, and are not read to the end."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(InvalidConfigError, match="larger than 1 MiB"):
        read_bytes(tmp_path / "big")
    (tmp_path / "big").write_bytes(b" " * LARGEST_BYTES)
    assert len(read_bytes(tmp_path / "big")) == LARGEST_BYTES
