"""Tasks and their runs: what the history of a task says about its next attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from locum.policy.chain import Next
from locum.policy.failure import ANSWERS, FailureKind
from locum.policy.plan import Tier
from locum.policy.usage import NO_TOKENS, Payer, Tokens


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"  # waits for a free place, a free work tree or a tier
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED)


class RunState(StrEnum):
    """Where one attempt stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  # by a clean stop of the daemon or a cancel: nobody's fault
    LOST = "lost"  # the daemon died before the process was started: it never ran


class PostTaskState(StrEnum):
    """Where the operator's command after a task stands."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"  # it exited with 0
    FAILED = "failed"
    DROPPED = "dropped"  # `post_task` was taken out of service.json before it was run


@dataclass(frozen=True, slots=True)
class PostTask:
    """The operator's command after one task. `starts` counts how often it was begun, whatever became of that."""

    task: str
    state: PostTaskState
    starts: int
    due_ms: int
    ended_ms: int | None = None
    exit: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work. `cwd` is the real path of its working directory; times are epoch milliseconds.

    `no_wait`: it ends failed (`no_tier` in `reason_code`) instead of waiting when every tier is held.
    `shared_cwd`: it may run beside another task in the same directory.
    `not_before_ms`: a retry in place waits until then.
    """

    id: str
    chain: str
    cwd: str
    state: TaskState
    created_ms: int
    title: str = ""
    ended_ms: int | None = None
    reason: str = ""
    reason_code: str = ""
    said: str = ""
    no_wait: bool = False
    shared_cwd: bool = False
    not_before_ms: int = 0
    cancel_asked: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a task on one tier. `number` counts from 1 within the task; `next` is what followed."""

    id: str
    task: str
    number: int
    chain: str
    tier: Tier
    cwd: str
    state: RunState
    started_ms: int
    ended_ms: int | None = None
    exit: int | None = None
    failure: FailureKind | None = None
    reason: str = ""
    rule: str = ""
    session: str | None = None
    said: str = ""
    next: Next | None = None
    wait_ms: int = 0
    lost_session: bool = False
    tokens: Tokens = NO_TOKENS
    usage_known: bool = True

    @property
    def payer(self) -> Payer:
        """Whose usage it is what this run spends."""
        tier = self.tier
        return Payer(
            tier.agent,
            self.chain,
            tier.name,
            tier.account,
            tier.model,
            self.session,
            run=self.id,
            task=self.task,
            since_ms=self.started_ms,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: filled in by whoever watched it. `failure` None with state SUCCEEDED, STOPPED or LOST."""

    state: RunState
    exit: int | None = None
    said: str = ""
    session: str | None = None
    total: Tokens | None = None
    """The agent's own total for this run: the ledger is reconciled to it."""
    usage_known: bool = True
    note: str = ""
    """What else people should know of the run, whether it failed or not."""


def attempts(runs: Sequence[Run]) -> int:
    """How many attempts count against `limits.attempts`: those that ran and were not stopped from outside.

    Finding a session of an earlier run gone is free, once a session: else a task could start for ever.
    """
    count = 0
    known: set[str] = set()
    for run in runs:
        if run.lost_session and run.session in known:
            known.remove(run.session)
            continue
        count += run.state in (RunState.SUCCEEDED, RunState.FAILED)
        if run.session and not run.lost_session:
            known.add(run.session)
    return count


def retries_in_place(runs: Sequence[Run], tier: str) -> int:
    """How many of the last runs, in a row, were retried in place on `tier`."""
    count = 0
    for run in reversed(runs):
        if run.state in (RunState.STOPPED, RunState.LOST) or run.lost_session:
            continue
        if run.tier.name != tier or run.next is not Next.RETRY:
            break
        count += 1
    return count


def avoided(runs: Sequence[Run]) -> frozenset[str]:
    """The tiers on which this task has failed in a way that may be its own fault: it tries each once."""
    return frozenset(run.tier.name for run in runs if run.failure is not None and ANSWERS[run.failure].soft)


def session_to_resume(runs: Sequence[Run], tier: Tier, cwd: str) -> str | None:
    """The session that `tier` can go on with: same agent, account and directory, and not known to be gone.

    One in which the model has never answered holds nothing but the prompt, and some agents forget that with it.
    """
    lost = {run.session for run in runs if run.lost_session}
    for run in reversed(runs):
        same = (run.tier.agent, run.tier.account, run.cwd) == (tier.agent, tier.account, cwd)
        if same and run.session and run.session not in lost and _answered(runs, run.session):
            return run.session
    return None


def _answered(runs: Sequence[Run], session: str) -> bool:
    """Whether any run of a session was given a token's worth by the model, as far as is known."""
    return any(run.session == session and (run.tokens or not run.usage_known) for run in runs)


CONTINUE = "Continue; do not redo finished work."
"""What a resumed session is told."""

SAID_LIMIT = 2_000
REASON_LIMIT = 500


def handover(runs: Sequence[Run]) -> str:
    """The note that goes ahead of the prompt when a task moves to another tier; empty for a first attempt."""
    ran = [run for run in runs if run.state in (RunState.FAILED, RunState.STOPPED) and not run.lost_session]
    if not ran:
        return ""
    last = ran[-1]
    why = f"{last.failure}: {last.reason[:REASON_LIMIT]}" if last.failure else "it was stopped from outside"
    lines = [
        "[hand-over note from locum, which runs you]",
        f"An earlier attempt at the task below ended before it was finished ({why}).",
        "The working directory may hold its partial work: look at that first and build on it.",
    ]
    said = next((run.said for run in reversed(ran) if run.said), "")
    if said:
        lines.append(f"The last thing it said was:\n{said[-SAID_LIMIT:]}")
    return "\n".join([*lines, "[end of note; the task follows]", "", ""])
