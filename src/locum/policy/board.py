"""What is held and what was last heard of each chain: the fold of the event log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from locum.policy.failure import ANSWERS, FailureKind
from locum.policy.plan import Target


class EventKind(StrEnum):
    """Everything that can happen to a chain."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # a failure that holds nothing
    BUMPED = "bumped"  # a failure that placed a hold
    EXTENDED = "extended"  # a hold that was there already now ends at another time
    RETURNED = "returned"  # a hold ran out
    RELEASED = "released"  # a hold was lifted: by the operator, a new login, a raised budget
    PAUSED = "paused"
    RESUMED = "resumed"
    EXHAUSTED = "exhausted"  # the last tier that could be picked is held


@dataclass(frozen=True, slots=True)
class Hold:
    """Why, and until when (epoch milliseconds, None: until released), a target is not picked.

    `chain` and `tier` say where it began; `strikes` how many such failures in a row led to it; `guard` is the
    tier's guard at that time; `budget` the id of the budget that placed it.
    """

    target: Target
    kind: FailureKind
    since_ms: int
    until_ms: int | None
    reason: str
    chain: str
    tier: str
    strikes: int = 1
    guard: str = ""
    budget: str | None = None

    @property
    def key(self) -> HoldKey:
        """One target holds at most one hold of each kind."""
        return (self.target, self.kind)

    def active(self, now_ms: int) -> bool:
        """Whether it still keeps its target from being picked."""
        return self.until_ms is None or self.until_ms > now_ms


HoldKey = tuple[Target, FailureKind]


class Event(NamedTuple):
    """One line of a chain's log. Folding it needs nothing but itself: configuration may have changed since.

    `hold` is the hold placed, changed or ended; `targets` (of `succeeded`) what the success vouches for;
    `active` the tier that would be picked from then on; `failure` the failure kind of a failed attempt.
    """

    kind: EventKind
    chain: str
    at_ms: int
    tier: str | None = None
    task: str | None = None
    failure: FailureKind | None = None
    reason: str = ""
    hold: Hold | None = None
    targets: tuple[Target, ...] = ()
    active: str | None = None


@dataclass(frozen=True, slots=True)
class ChainState:
    """What is remembered of one chain besides the holds."""

    last_failure_kind: FailureKind | None = None
    last_failure_at_ms: int | None = None
    last_failure_reason: str = ""
    last_failure_tier: str | None = None
    paused: bool = False
    exhausted: bool = False


NEW_CHAIN = ChainState()


@dataclass(frozen=True)
class Board:
    """The state of all chains. Holds are shared: one account's hold shows in every chain that uses it.

    `strikes` counts failures in a row, `doubtful` are targets on probation, `soft` remembers by tier which
    task was the last to fail there in a way that may be the task's own fault.
    """

    holds: Mapping[HoldKey, Hold] = field(default_factory=dict)
    chains: Mapping[str, ChainState] = field(default_factory=dict)
    strikes: Mapping[HoldKey, int] = field(default_factory=dict)
    doubtful: frozenset[Target] = frozenset()
    soft: Mapping[str, str] = field(default_factory=dict)

    def chain(self, name: str) -> ChainState:
        """The state of that chain; a chain nothing has happened to is new."""
        return self.chains.get(name, NEW_CHAIN)

    @cached_property
    def holds_by_target(self) -> Mapping[Target, tuple[Hold, ...]]:
        """The same holds, to be found by what they are placed on."""
        found: dict[Target, tuple[Hold, ...]] = {}
        for hold in self.holds.values():
            found[hold.target] = (*found.get(hold.target, ()), hold)
        return found


def fold(board: Board, events: Iterable[Event]) -> Board:
    """The board after these events."""
    for event in events:
        board = apply(board, event)
    return board


def apply(board: Board, event: Event) -> Board:
    """The board after one event."""
    match event.kind:
        case EventKind.SUCCEEDED:
            return _vouched(board, event)
        case EventKind.FAILED:
            return _blamed(_noted(board, event), event)
        case EventKind.BUMPED | EventKind.EXTENDED:
            return _held(_blamed(_noted(board, event), event), event)
        case EventKind.RETURNED | EventKind.RELEASED:
            return _freed(board, event)
        case EventKind.PAUSED | EventKind.RESUMED:
            return _with_chain(board, event.chain, paused=event.kind is EventKind.PAUSED)
        case EventKind.EXHAUSTED:
            return _with_chain(board, event.chain, exhausted=True)
        case EventKind.STARTED:
            return board


def _with_chain(board: Board, name: str, **changes: object) -> Board:
    state = replace(board.chain(name), **changes)  # type: ignore[arg-type]
    return replace(board, chains={**board.chains, name: state})


def _noted(board: Board, event: Event) -> Board:
    """`last_failure_*` of the chain. A hold merely recomputed carries no failure and notes nothing."""
    if event.failure is None:
        return board
    return _with_chain(
        board,
        event.chain,
        last_failure_kind=event.failure,
        last_failure_at_ms=event.at_ms,
        last_failure_reason=event.reason,
        last_failure_tier=event.tier,
    )


def _blamed(board: Board, event: Event) -> Board:
    """Remembers who was the last to fail softly on the tier."""
    if event.failure is None or event.tier is None or event.task is None or not ANSWERS[event.failure].soft:
        return board
    return replace(board, soft={**board.soft, event.tier: event.task})


def _held(board: Board, event: Event) -> Board:
    hold = event.hold
    assert hold is not None, "a bump always says what it holds"
    return replace(
        board,
        holds={**board.holds, hold.key: hold},
        strikes={**board.strikes, hold.key: hold.strikes} if event.failure else board.strikes,
    )


def _freed(board: Board, event: Event) -> Board:
    hold = event.hold
    assert hold is not None, "a return always says what ended"
    doubtful = board.doubtful | {hold.target} if ANSWERS[hold.kind].probation else board.doubtful
    holds = {key: other for key, other in board.holds.items() if key != hold.key}
    freed = replace(board, holds=holds, doubtful=doubtful)
    # A tier may be held by several holds: the end of one of them need not give the chain a tier back.
    return _with_chain(freed, event.chain, exhausted=board.chain(event.chain).exhausted and event.active is None)


def _vouched(board: Board, event: Event) -> Board:
    """A success ends doubling, probation and suspicion for all that took part in it."""
    targets = frozenset(event.targets)
    return replace(
        board,
        strikes={key: count for key, count in board.strikes.items() if key[0] not in targets},
        doubtful=board.doubtful - targets,
        soft={tier: task for tier, task in board.soft.items() if tier != event.tier},
    )
