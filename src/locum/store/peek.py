"""The ledger read by somebody who is not the daemon: what is committed, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import apsw

from locum.policy.task import Run
from locum.policy.usage import Tokens
from locum.store.codec import run_of
from locum.store.sqlite import BUSY_MS, Row, Sql, explain

MOST = 200


def unknown_runs(ledger: Path) -> tuple[Run, ...]:
    """The newest runs whose failure no rule knew, newest first. Raises StateError when the file cannot be read."""
    return _runs(ledger, "unexplained_runs", limit=MOST)


def run_named(ledger: Path, run: str) -> Run | None:
    """The run of that id, if there is one. Raises StateError when the file cannot be read."""
    return next(iter(_runs(ledger, "run", id=run)), None)


def spent_by_runs(ledger: Path) -> tuple[tuple[str, int, Tokens], ...]:
    """Every entry of a run, in the order of the ledger: the run, the moment it counts at (epoch milliseconds) and what
    it adds. For ledgers of a short life.

    Raises StateError when the file cannot be read.
    """
    return tuple((run, at_ms, Tokens(*tokens)) for run, at_ms, *tokens in _rows(ledger, "spent_by_runs"))


def _runs(ledger: Path, query: str, **values: object) -> tuple[Run, ...]:
    return tuple(map(run_of, _rows(ledger, query, **values)))


def _rows(ledger: Path, query: str, **values: object) -> list[Row]:
    if not ledger.exists():
        return []
    try:
        connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_MS)
            return Sql(connection).all(query, **values)
        finally:
            connection.close()
    except apsw.Error as error:
        raise explain(error, ledger) from error
