"""The log of the chains, and the board that is its fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from locum.errors import StateError
from locum.policy.board import Board, Event, EventKind, apply
from locum.policy.notice import notice_of
from locum.policy.plan import Plan
from locum.store import notices
from locum.store.codec import Write, board_of, board_text, event_of, event_values
from locum.store.sqlite import Sql


def emit(tx: Write, events: Sequence[Event]) -> tuple[Event, ...]:
    """Write events, the board they make and the notices they are worth; returns the events."""
    before = board = tx.memory.board
    for event in events:
        board = apply(board, event)
        quiet = _still_held(board, tx.memory.plan, event)
        seq = tx.added("add_event", quiet=quiet, **event_values(event))
        notice = None if quiet else notice_of(event)
        if notice is not None:
            notices.add(tx, notice, seq)
    if board != before:
        tx.run("save_board", body=board_text(board))
        tx.memory = replace(tx.memory, board=board)
    return tuple(events)


def load(sql: Sql) -> Board:
    """The board as it was last committed. Raises `StateError` when it cannot be read."""
    row = sql.one("board")
    if row is None:
        return Board()
    try:
        return board_of(row[0])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"the board in the ledger cannot be read ({error})", remedy="Restore a copy of it") from error


def events_after(sql: Sql, after: int, limit: int, chain: str | None) -> list[tuple[int, Event]]:
    """At most `limit` events behind log row `after`, oldest first, each with its row."""
    rows = sql.rows("events", after=after, limit=limit, chain=chain)
    return [(seq, event_of(tuple(row))) for seq, *row in rows]


def _still_held(board: Board, plan: Plan, event: Event) -> bool:
    """Whether what came back is still kept from being picked: then its return changes nothing for anybody."""
    if event.kind not in (EventKind.RETURNED, EventKind.RELEASED):
        return False
    chain = plan.chains.get(event.chain)
    tier = chain.tier(event.tier) if chain and event.tier else None
    if chain is None or tier is None:
        return False
    targets = chain.targets(tier)
    return any(target in targets for target, _ in board.holds)
