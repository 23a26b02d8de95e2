"""Values of policy as rows and JSON, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from locum.policy.board import Board, ChainState, Event, EventKind, Hold
from locum.policy.chain import Next
from locum.policy.failure import FailureKind
from locum.policy.notice import Notice, NoticeKind, Severity
from locum.policy.plan import Plan, Target, Tier
from locum.policy.task import Run, RunState, Task, TaskState
from locum.policy.usage import TOKEN_TYPES, Tokens
from locum.store.sqlite import Row, Tx

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Memory:
    """What the ledger keeps in memory beside the database: the board, the plan it is read with, and which it is.

    `told` is the row of the newest notice, 0 without one.
    """

    board: Board
    plan: Plan
    mark: str = ""
    told: int = 0


Write = Tx[Memory]
"""A write transaction of the ledger."""


def dump(value: object) -> str:
    """JSON, compact and always the same for the same value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def task_values(task: Task) -> Values:
    """The columns of a task."""
    return {name: getattr(task, name) for name in Task.__slots__} | {"state": str(task.state)}


def task_of(row: Row) -> Task:
    """A task from its columns, in the order of its fields."""
    values = dict(zip(Task.__slots__, row, strict=True))
    flags = {name: bool(values[name]) for name in ("no_wait", "shared_cwd", "cancel_asked")}
    return Task(**(values | flags | {"state": TaskState(values["state"])}))


def run_values(run: Run) -> Values:
    """The columns of a run, without the agent's own total."""
    plain = ("id", "task", "number", "chain", "cwd", "started_ms", "ended_ms", "exit", "reason", "rule", "session")
    return {
        **{name: getattr(run, name) for name in (*plain, "said", "wait_ms", "lost_session", "usage_known")},
        **{name: getattr(run.tier, name) for name in ("agent", "account", "model", "guard")},
        "tier": run.tier.name,
        "state": str(run.state),
        "failure": _text(run.failure),
        "next": _text(run.next),
        **token_values(run.tokens),
    }


def run_of(row: Row) -> Run:
    """A run from its columns, in the order of the table (without `seq` and the agent's own total)."""
    id_, task, number, chain, tier, agent, account, model, guard, cwd, state, started_ms, ended_ms, exit_ = row[:14]
    failure, reason, rule, session, said, next_, wait_ms, lost_session, *tokens, usage_known = row[14:]
    return Run(
        id=id_,
        task=task,
        number=number,
        chain=chain,
        tier=Tier(tier, agent, account, model, guard),
        cwd=cwd,
        state=RunState(state),
        started_ms=started_ms,
        ended_ms=ended_ms,
        exit=exit_,
        failure=FailureKind(failure) if failure else None,
        reason=reason,
        rule=rule,
        session=session,
        said=said,
        next=Next(next_) if next_ else None,
        wait_ms=wait_ms,
        lost_session=bool(lost_session),
        tokens=Tokens(*tokens),
        usage_known=bool(usage_known),
    )


def token_values(tokens: Tokens) -> Values:
    """The four columns of token counts."""
    return dict(zip(TOKEN_TYPES, tokens, strict=True))


def event_values(event: Event) -> Values:
    """The columns of an event."""
    return {
        **{name: getattr(event, name) for name in ("chain", "at_ms", "tier", "task", "reason", "active")},
        "kind": str(event.kind),
        "failure": _text(event.failure),
        "hold": dump(_hold_values(event.hold)) if event.hold else None,
        "targets": dump(event.targets),
    }


def event_of(row: Row) -> Event:
    """An event from its columns, in the order of the table (without `seq` and `quiet`)."""
    chain, kind, at_ms, tier, task, failure, reason, hold, targets, active = row
    return Event(
        kind=EventKind(kind),
        chain=chain,
        at_ms=at_ms,
        tier=tier,
        task=task,
        failure=FailureKind(failure) if failure else None,
        reason=reason,
        hold=_hold_of(json.loads(hold)) if hold else None,
        targets=tuple(Target(each) for each in json.loads(targets)),
        active=active,
    )


def board_text(board: Board) -> str:
    """A board as JSON."""
    return dump(
        {
            "holds": [_hold_values(hold) for hold in board.holds.values()],
            "chains": {name: _chain_values(state) for name, state in board.chains.items()},
            "strikes": [[target, str(kind), count] for (target, kind), count in board.strikes.items()],
            "doubtful": sorted(board.doubtful),
            "soft": dict(board.soft),
        }
    )


def board_of(text: str) -> Board:
    """A board from its JSON; raises `ValueError`, `KeyError` or `TypeError` when it is none."""
    found = json.loads(text)
    holds = [_hold_of(each) for each in found["holds"]]
    return Board(
        holds={hold.key: hold for hold in holds},
        chains={name: _chain_of(each) for name, each in found["chains"].items()},
        strikes={(Target(target), FailureKind(kind)): count for target, kind, count in found["strikes"]},
        doubtful=frozenset(Target(each) for each in found["doubtful"]),
        soft=found["soft"],
    )


def notice_values(notice: Notice) -> Values:
    """The columns of a notice."""
    return {
        **{name: getattr(notice, name) for name in ("at_ms", "chain", "title", "message", "link")},
        "kind": str(notice.kind),
        "severity": str(notice.severity),
        "data": dump(dict(notice.data)),
    }


def notice_of_row(row: Row) -> Notice:
    """A notice from its columns, in the order of the table (without `seq` and `event`)."""
    kind, severity, at_ms, chain, title, message, data, link, id_ = row
    return Notice(NoticeKind(kind), Severity(severity), at_ms, chain, title, message, json.loads(data), link, id_)


def _hold_values(hold: Hold) -> Values:
    return {name: getattr(hold, name) for name in Hold.__slots__}


def _hold_of(values: Values) -> Hold:
    return Hold(**(values | {"target": Target(values["target"]), "kind": FailureKind(values["kind"])}))


def _chain_values(state: ChainState) -> Values:
    return {name: getattr(state, name) for name in ChainState.__slots__}


def _chain_of(values: Values) -> ChainState:
    kind = values["last_failure_kind"]
    return ChainState(**(values | {"last_failure_kind": FailureKind(kind) if kind else None}))


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)
