"""Every SQL statement of the store, read from the files beside it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)
_MIGRATION = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


def _folder() -> Traversable:
    return files("locum.store").joinpath("sql")


def parse(text: str) -> dict[str, str]:
    """The statements of a query file by name.

    Each begins with `-- name: x`, then a line of comment saying what it is for, then one statement.
    Raises `ValueError` for a name given twice, a statement without description, or text ahead of the first.
    """
    head, *parts = _NAME.split(text)
    if head.strip():
        raise ValueError(f"text ahead of the first query: {head.strip()[:60]!r}")
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        described, _, statement = body.strip().partition("\n")
        if name in queries or not described.startswith("-- ") or not statement.strip():
            raise ValueError(f"query {name!r} is there twice, or lacks its description or its statement")
        queries[name] = statement.strip().removesuffix(";")
    return queries


@cache
def queries() -> dict[str, str]:
    """All named queries of all files."""
    found: dict[str, str] = {}
    for file in _folder().iterdir():
        if file.name.endswith(".sql") and not _MIGRATION.match(file.name):
            added = parse(file.read_text(encoding="utf-8"))
            assert not found.keys() & added.keys(), "a query name is unique across files"
            found |= added
    return found


@cache
def migrations() -> tuple[str, ...]:
    """The schema's steps in order: step n takes a database from version n to n + 1."""
    files = ((_MIGRATION.match(file.name), file) for file in _folder().iterdir())
    found = sorted(((int(match[1]), file) for match, file in files if match), key=lambda pair: pair[0])
    assert [number for number, _ in found] == list(range(1, len(found) + 1)), "migrations are numbered 1, 2, 3, ..."
    return tuple(file.read_text(encoding="utf-8") for _, file in found)
