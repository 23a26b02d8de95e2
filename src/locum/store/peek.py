"""The ledger read by somebody who is not the daemon: what is committed, at most a few rows, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import apsw

from locum.policy.task import Run
from locum.store.codec import run_of
from locum.store.sqlite import BUSY_MS, Sql, explain

MOST = 200


def unknown_runs(ledger: Path) -> tuple[Run, ...]:
    """The newest runs whose failure no rule knew, newest first. Raises StateError when the file cannot be read."""
    return _runs(ledger, "unexplained_runs", limit=MOST)


def run_named(ledger: Path, run: str) -> Run | None:
    """The run of that id, if there is one. Raises StateError when the file cannot be read."""
    return next(iter(_runs(ledger, "run", id=run)), None)


def _runs(ledger: Path, query: str, **values: object) -> tuple[Run, ...]:
    if not ledger.exists():
        return ()
    try:
        connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_MS)
            return tuple(map(run_of, Sql(connection).all(query, **values)))
        finally:
            connection.close()
    except apsw.Error as error:
        raise explain(error, ledger) from error
