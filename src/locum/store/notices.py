"""Notices as rows: written in the transaction that caused them, never changed."""

from __future__ import annotations

from locum.policy.notice import Notice
from locum.store.codec import Write, notice_of_row, notice_values
from locum.store.sqlite import Sql


def add(tx: Write, notice: Notice, event: int | None = None) -> None:
    """Write a notice; `event` is the row of the log that caused it."""
    tx.run("add_notice", event=event, **notice_values(notice))


def notices_after(sql: Sql, after: int, limit: int) -> list[tuple[int, Notice]]:
    """At most `limit` notices behind row `after`, oldest first, each with its row."""
    return [(seq, notice_of_row(tuple(row))) for seq, *row in sql.rows("notices", after=after, limit=limit)]
