"""The first thing that keeps a text from being JSON, in a plain sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEEPEST = 64
# No possessive quantifiers: the first releases of Python 3.11 get them wrong around a lazy one.
_SPACE = r"(?:[ \t\r\n]|//[^\n]*|/\*[^*]*(?:\*(?!/)[^*]*)*\*/)*"
_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.+-])"
_TOKEN = re.compile(
    rf"{_SPACE}(?:(?P<string>{_STRING})|(?P<number>{_NUMBER})|(?P<word>(?:true|false|null)(?!\w))|(?P<mark>[\[\]{{}},:])|(?P<end>\Z)|)",
    re.DOTALL,
)
_STRING_START = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """Where (offset in characters) and why a text is not JSON, and what to do."""

    offset: int
    what: str
    why: str
    remedy: str


# What may come next, and how a person would call it.
_VALUE, _FIRST_VALUE, _NEXT_VALUE, _KEY, _NEXT_KEY, _COLON, _AFTER, _DONE = range(8)
_WANTED = {
    _VALUE: ("a value is missing", "write one here: text in double quotes, a number, true, false, null, {…} or […]"),
    _FIRST_VALUE: ("a value is missing", "write one here, or close the list with `]`"),
    _NEXT_VALUE: ("a value is missing", "write one here, or close the list with `]`"),
    _KEY: ("a key is missing", "write a key in double quotes, or close the object with `}`"),
    _NEXT_KEY: ("a key is missing", "write a key in double quotes, or close the object with `}`"),
    _COLON: ("a `:` is missing", "write `:` and a value after the key"),
    _AFTER: ("a `,` is missing", "write `,` before this, or close what is open"),
    _DONE: ("there is more after the end", "remove what follows the last `}`"),
}
_STARTERS = {
    "'": ("single quotes", "JSON writes text in double quotes", 'write `"` instead'),
    "/": ("a comment that does not end", "`/*` needs its `*/`", "write `*/`, or `//` for a comment of one line"),
    "#": ("a `#`", "comments begin with `//` here", "write `//` instead"),
}
_VALUES = (_VALUE, _FIRST_VALUE, _NEXT_VALUE)
_KEYS = (_KEY, _NEXT_KEY)
_CLOSES = {"]": ("[", (_FIRST_VALUE, _NEXT_VALUE, _AFTER)), "}": ("{", (_KEY, _NEXT_KEY, _AFTER))}


def first_problem(text: str) -> SyntaxProblem | None:
    """The first thing in `text` that is not JSON (comments and trailing commas are fine); None when all is well."""
    state, opened, offset = _VALUE, "", 0
    while True:
        token = _TOKEN.match(text, offset)
        assert token is not None, "the pattern also matches nothing"
        kind, offset = token.lastgroup, token.end()
        start = token.start(kind) if kind else offset
        if kind is None:
            return _bad_token(text, start)
        if kind == "end":
            return None if state == _DONE else _cut_off(start, state, opened)
        step = _step(state, opened, kind, token.group(kind))
        if step is None:
            what, remedy = _WANTED[state]
            return SyntaxProblem(start, what, f"`{token.group(kind)[:1]}` stands in its place", remedy)
        state, opened = step
        if len(opened) > DEEPEST:
            return SyntaxProblem(start, f"more than {DEEPEST} levels", "no configuration is that deep", "remove some")


def _step(state: int, opened: str, kind: str, found: str) -> tuple[int, str] | None:
    """The state after a token and what is open then, or None when the token cannot stand there."""
    if kind == "mark":
        if found in "[{" and state in _VALUES:
            return (_FIRST_VALUE if found == "[" else _KEY), opened + found
        if found in _CLOSES:
            opener, states = _CLOSES[found]
            if opened.endswith(opener) and state in states:
                return (_AFTER if len(opened) > 1 else _DONE), opened[:-1]
        if found == "," and state == _AFTER:
            return (_NEXT_VALUE if opened.endswith("[") else _NEXT_KEY), opened
        return (_VALUE, opened) if found == ":" and state == _COLON else None
    if state in _VALUES:
        return (_AFTER if opened else _DONE), opened
    return (_COLON, opened) if state in _KEYS and kind == "string" else None


def _cut_off(offset: int, state: int, opened: str) -> SyntaxProblem:
    if not opened:
        return SyntaxProblem(
            offset, "the file is empty", "a configuration is needed", "write one, or let `locum init` do it"
        )
    missing = "]" if opened[-1] == "[" else "}"
    told = "the file ends too early" if state == _AFTER else f"the file ends too early: {_WANTED[state][0]}"
    return SyntaxProblem(offset, told, f"a `{opened[-1]}` is still open", f"write `{missing}` to close it")


def _bad_token(text: str, start: int) -> SyntaxProblem:
    char = text[start]
    if char == '"':
        return _bad_string(text, start)
    if char in _STARTERS:
        return SyntaxProblem(start, *_STARTERS[char])
    if char.isdigit() or char in "+-.":
        return SyntaxProblem(
            start, "this is not a number", "JSON writes numbers in plain decimals", "write it such as 5000000 or 0.5"
        )
    if char.isalpha() or char in "_$":
        return SyntaxProblem(
            start,
            "a word without quotes",
            "only true, false and null stand without",
            "put text and keys in double quotes",
        )
    return SyntaxProblem(start, f"the character {char!a}", "it has no meaning here", "remove it")


def _bad_string(text: str, start: int) -> SyntaxProblem:
    found = _STRING_START.match(text, start)
    assert found is not None, "it begins with a quote"
    end = found.end()
    if end < len(text) and text[end] == "\\":
        return SyntaxProblem(
            end,
            "an unknown escape",
            'JSON knows \\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX',
            "write `\\\\` for a backslash",
        )
    if end < len(text) and text[end] not in "\r\n":
        return SyntaxProblem(end, "a control character in text", "JSON wants it escaped", "write `\\t` for a tab")
    return SyntaxProblem(
        start, "text that does not end", 'its closing `"` is missing on this line', 'write `"` at its end'
    )
