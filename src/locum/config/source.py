"""From the bytes of service.json to plain values that know their place."""

from __future__ import annotations

import bisect
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tree_sitter_hujson
from tree_sitter import Language, Node, Parser

from locum.config.problem import At, InvalidConfigError, Issue, Problem, plain
from locum.config.syntax import first_problem

LARGEST_BYTES = 1 << 20
LONGEST_NUMBER = 30
_BOM = b"\xef\xbb\xbf"
_LANGUAGE = Language(tree_sitter_hujson.language())


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: `value` in plain Python, and the byte offset of every value and key by its path."""

    path: Path
    value: Any
    data: bytes
    line_starts: tuple[int, ...]
    values: dict[At, int]
    keys: dict[At, int]

    def place(self, at: At, *, key: bool = False) -> tuple[int, int]:
        """Line and column (from 1, in characters) of the value at `at`, or of its key; else of what is around."""
        while at and at not in self.values:
            at, key = at[:-1], False
        offset = self.keys.get(at, self.values.get(at, 0)) if key else self.values.get(at, 0)
        return _place(self.data, self.line_starts, offset)

    def problem(self, issue: Issue) -> Problem:
        """The issue with its place in this file."""
        line, column = self.place(issue.at, key=issue.key)
        return Problem(self.path, line, column, issue.what, issue.why, issue.remedy, issue.severity)


def read_bytes(path: Path, instead: str = "") -> bytes:
    """The whole file, at most 1 MiB. Raises InvalidConfigError when it cannot be had; never blocks on a pipe.

    `instead`: what to do about a folder, pipe or device in its place; left out: to name the file that is meant.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - by descriptor
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unreadable(path, "this is not a file", "a pipe or device stands there", instead or "name a file")
            data = file.read(LARGEST_BYTES + 1)
    except IsADirectoryError as error:
        remedy = instead or "name the service.json in it"
        raise _unreadable(path, "this is a folder", "a file is needed", remedy) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not one"
        raise _unreadable(
            path, "the file cannot be read", reason.lower(), "check the path and its permissions"
        ) from error
    if len(data) > LARGEST_BYTES:
        raise _unreadable(
            path, "the file is larger than 1 MiB", "no configuration needs that", "check that it is the right one"
        )
    return data


def parse(path: Path, data: bytes) -> Document:
    """The document in `data`; `path` is for messages. Raises InvalidConfigError with every problem that can be told."""
    data = data.removeprefix(_BOM)
    line_starts = tuple(_line_starts(data))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column = _place(data, line_starts, error.start)
        remedy = "save the file as UTF-8"
        raise InvalidConfigError([Problem(path, line, column, "this is not UTF-8", "JSON is", remedy)]) from error
    wrong = first_problem(text)
    root = Parser(_LANGUAGE).parse(b"" if wrong else data).root_node
    if wrong is not None or root.has_error:
        offset = len(text[: wrong.offset].encode()) if wrong else 0
        line, column = _place(data, line_starts, offset)
        told = (wrong.what, wrong.why, wrong.remedy) if wrong else ("this cannot be read", "it is not JSON", "mend it")
        raise InvalidConfigError([Problem(path, line, column, *told)])
    builder = _Builder(data)
    value = builder.build(next(node for node in root.named_children if node.type != "comment"), ())
    document = Document(path, value, data, line_starts, builder.values, builder.keys)
    if builder.issues:
        raise InvalidConfigError(map(document.problem, builder.issues))
    return document


class _Builder:
    """Walks the syntax tree once, collecting values, places and what is wrong with them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.values: dict[At, int] = {}
        self.keys: dict[At, int] = {}
        self.issues: list[Issue] = []

    def build(self, node: Node, at: At) -> Any:
        """The value of `node`, which stands at `at`."""
        self.values[at] = node.start_byte
        if node.type == "object":
            return self._object(node, at)
        if node.type == "array":
            items = [child for child in node.named_children if child.type != "comment"]
            return [self.build(child, (*at, index)) for index, child in enumerate(items)]
        return self._scalar(node, at)

    def _object(self, node: Node, at: At) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pair in node.named_children:
            if pair.type != "pair":
                continue
            key_node, value_node = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            assert key_node is not None, "a tree without errors has whole pairs"
            assert value_node is not None, "a tree without errors has whole pairs"
            key = str(self._scalar(key_node, at))
            here = (*at, key)
            twice = key in found
            self.keys[here] = key_node.start_byte
            found[key] = self.build(value_node, here)
            if twice:
                self.issues.append(
                    Issue(here, f"`{plain(key)}` is given twice", "only one can count", "remove one", key=True)
                )
        return found

    def _scalar(self, node: Node, at: At) -> Any:
        text = self._data[node.start_byte : node.end_byte].decode()
        if node.type == "number":
            return self._number(text, at)
        value = json.loads(text)
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
            return self._refuse(at, "text with \\u0000 or half a character", "programs cannot take it", "remove it")
        return value

    def _number(self, text: str, at: At) -> int | float | None:
        if len(text) > LONGEST_NUMBER:
            self._refuse(at, "a very long number", f"more than {LONGEST_NUMBER} digits mean nothing here", "shorten it")
            return None
        value: int | float = json.loads(text)
        if math.isinf(value):
            self._refuse(at, "a number without bounds", "it is too large for a computer", "write a smaller one")
        return value

    def _refuse(self, at: At, what: str, why: str, remedy: str) -> None:
        self.issues.append(Issue(at, what, why, remedy))


def _unreadable(path: Path, what: str, why: str, remedy: str) -> InvalidConfigError:
    return InvalidConfigError([Problem(path, 0, 0, what, why, remedy)])


def _line_starts(data: bytes) -> Iterator[int]:
    start = 0
    while True:
        yield start
        start = data.find(b"\n", start) + 1
        if not start:
            return


def _place(data: bytes, line_starts: tuple[int, ...], offset: int) -> tuple[int, int]:
    line = bisect.bisect_right(line_starts, offset)
    return line, len(data[line_starts[line - 1] : offset].decode(errors="replace")) + 1
