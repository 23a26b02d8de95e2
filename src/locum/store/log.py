"""The log of the chains, and the board that is its fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from locum.errors import StateError
from locum.policy.board import Board, Event, EventKind, apply
from locum.policy.chain import free_at_ms
from locum.policy.notice import Cost, notice_of
from locum.policy.plan import Meter, Plan
from locum.policy.usage import Tokens
from locum.store import notices, tally
from locum.store.codec import Write, board_of, board_text, event_of, event_values
from locum.store.sqlite import Sql

_TOLD = frozenset({EventKind.BUMPED, EventKind.RETURNED, EventKind.RELEASED, EventKind.EXHAUSTED})


def emit(tx: Write, events: Sequence[Event]) -> tuple[Event, ...]:
    """Write events, the board they make and the notices they are worth; returns the events."""
    before = board = tx.memory.board
    costs: dict[str, Cost] = {}
    for event in events:
        board = apply(board, event)
        quiet = _still_held(board, tx.memory.plan, event)
        seq = tx.added("add_event", quiet=quiet, **event_values(event))
        if not quiet and event.kind in _TOLD:
            notice = notice_of(event, _cost(tx, event, costs), _back_ms(tx.memory.plan, board, event))
            assert notice is not None, "these kinds are told"
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


def latest(sql: Sql, chain: str, limit: int) -> list[tuple[int, Event]]:
    """The newest `limit` events of a chain, newest first, each with its row."""
    return [(seq, event_of(tuple(row))) for seq, *row in sql.rows("latest_events", limit=limit, chain=chain)]


def _cost(tx: Write, event: Event, known: dict[str, Cost]) -> Cost | None:
    """What the tier of an event has cost; `known` keeps what was added up, for the same hold is felt in many chains."""
    if event.tier is None or event.kind is EventKind.EXHAUSTED:
        return None
    if event.tier not in known:
        scope = f"tier:{event.tier}"
        meter = tx.memory.plan.meters.get(scope, Meter())
        used = tally.totals(tx, scope, tally.window_of(tx, scope, meter.window, event.at_ms))
        known[event.tier] = Cost(None, meter.weights.whole(used), meter.window)
    hold = event.hold
    began_here = hold is not None and (event.chain, event.tier) == (hold.chain, hold.tier)
    row = tx.one("last_run_tokens", task=event.task, tier=event.tier) if event.task and began_here else None
    attempt = None if row is None or not (any(row[:4]) or row[4]) else Tokens(*row[:4]).total
    return replace(known[event.tier], attempt=attempt)


def _back_ms(plan: Plan, board: Board, event: Event) -> int | None:
    """When an exhausted chain has a tier again by itself."""
    chain = plan.chains.get(event.chain) if event.kind is EventKind.EXHAUSTED else None
    return None if chain is None else free_at_ms(board, chain, event.at_ms)


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
