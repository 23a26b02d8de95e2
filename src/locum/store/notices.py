"""Notices as rows: written in the transaction that caused them, named, never changed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from locum.errors import NotFoundError
from locum.policy.notice import Notice
from locum.store.codec import Write, notice_of_row, notice_values
from locum.store.sqlite import Sql

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LATEST_MS = (1 << 48) - 1


def add(tx: Write, notice: Notice, event: int | None = None) -> int:
    """Write a notice and name it; `event` is the row of the log that caused it. Returns its row."""
    seq = tx.added("add_notice", event=event, **notice_values(notice))
    _name(tx, seq, notice.at_ms)
    tx.memory = replace(tx.memory, told=seq)
    return seq


def notices_after(sql: Sql, after: int, limit: int) -> list[tuple[int, Notice]]:
    """At most `limit` notices behind row `after`, oldest first, each with its row."""
    return [(seq, notice_of_row(tuple(row))) for seq, *row in sql.rows("notices", after=after, limit=limit)]


def latest(sql: Sql, chain: str, limit: int) -> list[tuple[int, Notice]]:
    """The newest `limit` notices about a chain or about none in particular, newest first, each with its row."""
    return [(seq, notice_of_row(tuple(row))) for seq, *row in sql.rows("latest_notices", chain=chain, limit=limit)]


def find(sql: Sql, name: str) -> tuple[int, Notice]:
    """The notice of that name (`msg_...`), with its row. Raises `NotFoundError`."""
    row = sql.one("notice", id=name)
    if row is None:
        raise NotFoundError(f"no notice {name!r}", remedy="See `GET /notices`")
    return row[0], notice_of_row(row[1:])


def identify(tx: Write, mark: str) -> None:
    """Know which ledger this is: `mark` if it never had one. What an older locum wrote without a name gets one."""
    row = tx.one("identity")
    if row is None:
        tx.run("save_identity", mark=mark)
    tx.memory = replace(tx.memory, mark=mark if row is None else row[0])
    for seq, at_ms in tx.all("nameless_notices"):
        _name(tx, seq, at_ms)


def name_of(mark: str, seq: int, at_ms: int) -> str:
    """The name of a ledger's notice outside: the same for ever, and no other ledger's; it sorts by time (a ULID).

    The time is in it so that a ledger restored from a copy does not name new notices as lost ones were.
    """
    digest = hashlib.sha256(f"{mark} {seq}".encode()).digest()[:10]
    number = (min(max(at_ms, 0), _LATEST_MS) << 80) | int.from_bytes(digest)
    return "msg_" + "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


def _name(tx: Write, seq: int, at_ms: int) -> None:
    tx.run("name_notice", seq=seq, id=name_of(tx.memory.mark, seq, at_ms))
