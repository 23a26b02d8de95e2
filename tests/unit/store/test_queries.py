"""The files of SQL."""

from __future__ import annotations

import apsw
import pytest

from locum.store.queries import migrations, parse, queries


def test_every_query_compiles_against_the_schema():
    """No statement in the files names a table or column that the migrations do not make."""
    connection = apsw.Connection(":memory:")
    for script in migrations():
        connection.execute(script)
    for text in queries().values():
        values = (None,) * text.count("?") or apsw_bindings()
        assert connection.execute(f"EXPLAIN {text}", values).fetchall()


def apsw_bindings():
    """A value for whatever name a statement asks for."""

    class Anything(dict):
        def __missing__(self, name):
            return None

    return Anything()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;",
        "-- name: a\n-- one\nSELECT 1;\n-- name: a\n-- again\nSELECT 2;",
        "-- name: a\nSELECT 1;",
        "-- name: a\n-- nothing follows\n",
    ],
)
def test_a_careless_query_file_is_refused(text):
    """A statement without name, description or text, or with a name taken, is an error."""
    with pytest.raises(ValueError):
        parse(text)


def test_a_query_file_is_read_by_name():
    """Statements come out by name, without their comment and semicolon."""
    assert parse("-- name: a\n-- one\nSELECT 1;\n\n-- name: b\n-- two\nSELECT\n 2;\n") == {
        "a": "SELECT 1",
        "b": "SELECT\n 2",
    }


def test_every_file_says_what_it_is_for():
    """Each migration begins with a comment that describes it."""
    assert all(script.startswith("-- ") for script in migrations())


def test_two_migrations_of_one_number_are_refused(tmp_path, monkeypatch):
    """Two branches that each add the next one meet in one folder: neither may be left out without a word."""
    for name in ("0001_start.sql", "0002_this.sql", "0002_that.sql"):
        (tmp_path / name).write_text("-- x\nSELECT 1;\n")
    monkeypatch.setattr("locum.store.queries._folder", lambda: tmp_path)
    with pytest.raises(AssertionError, match="numbered"):
        migrations.__wrapped__()
