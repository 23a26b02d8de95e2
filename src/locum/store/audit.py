"""The audit: everything is added up again from the entries and the log, and compared with what is kept."""

from __future__ import annotations

import json

from locum.errors import StateError
from locum.policy.board import Board, fold
from locum.policy.plan import Unit
from locum.policy.usage import Tokens, Weights
from locum.store import log
from locum.store.codec import event_of
from locum.store.sqlite import Row, Sql
from locum.store.views import AuditReport

_SHOWN = 20  # of each kind of problem: a broken disk makes thousands

_CHECKS = (
    ("dangling", "a row of {0} names a row of {1} that is not there"),
    ("wrong_buckets", "the hour {1} of {0} is not the sum of its entries"),
    ("wrong_counts", "the count of {1} ({0}) is not the sum of its entries"),
    ("wrong_spent", "what was summed up for chain {1}, tier {2} and model {3} in the hour {0} is not its entries"),
    ("wrong_runs", "the tokens of run {0} are not the sum of its entries"),
    ("unreconciled", "the tokens of run {0} are not the total its agent told"),
    ("misplaced", "entry {0} names another task, chain, tier or account than its run"),
    ("unnoticed", "event {0} ({1}) does not have exactly one notice"),
    ("wrong_crossings", "crossing {0} ({1}) is not the sum of the entries that there were"),
    ("misquoted_crossings", "notice {0} tells of a threshold that is not on record so"),
    ("wrong_tasks", "task {0} is {1}, but its runs say otherwise"),
    ("wrong_endings", "run {0} has a state that does not go with its end"),
    ("wrong_post_tasks", "the post_task of task {0} has a state that does not go with its end, or its task's"),
    ("parallel_runs", "task {0} has more than one run at a time"),
)


def audit(sql: Sql) -> AuditReport:
    """Read the whole ledger again; no problems means that everything adds up."""
    problems = [f"the file is damaged: {row[0]}" for row in sql.all("integrity") if row[0] != "ok"]
    for name, text in _CHECKS:
        rows = sql.all(name)
        problems += [text.format(*row) for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            problems.append(f"... and {len(rows) - _SHOWN:,} more of that kind ({name})")
    problems += _early_crossings(sql)
    problems += _board_problems(sql)
    count, *tokens = sql.one("ledger_sum") or (0, 0, 0, 0, 0)
    length: Row = sql.one("log_length") or (0,)
    return AuditReport(count, length[0], Tokens(*tokens), tuple(problems))


def _early_crossings(sql: Sql) -> list[str]:
    """Thresholds that were told before they were reached; here, because the database has no whole numbers so large."""
    found = []
    for seq, budget, limit, unit, at, weights, *tokens in sql.rows("told_crossings"):
        needed = at * 1000 if unit == Unit.TOKENS else limit * at * 10
        if Weights(*json.loads(weights)).thousandths(Tokens(*tokens)) < needed:
            found.append(f"crossing {seq} ({budget}) was told before it was reached")
    return found[:_SHOWN]


def _board_problems(sql: Sql) -> list[str]:
    try:
        folded = fold(Board(), (event_of(row) for row in sql.rows("log")))
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        return [f"the log of the chains cannot be read ({error})"]
    try:
        kept = log.load(sql)
    except StateError as error:
        return [error.detail]
    return [] if kept == folded else ["the board is not what its log says"]
