"""The moments at which the daemon is killed on purpose: each lies between two effects of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from signal import SIGKILL, SIGTERM
from typing import Any

KILLS = 300
"""How often `make crash` kills the daemon, at named points and at random moments together."""
SHARES = 6
"""Into how many tests, each with a daemon folder of its own, the kills are dealt."""
TIMES = 2
"""How often each point is tried."""


class When(StrEnum):
    """Which side of the real call the kill lies on."""

    BEFORE = "before"
    AFTER = "after"
    SET = "set"  # just before an attribute of that name is given a value


class Lead(StrEnum):
    """What the daemon before must have left behind, so that the point is passed at all."""

    NOTHING = "nothing"
    RUNNING = "running"  # two agents at work
    ENDED = "ended"  # an agent that has ended since, unseen
    UNSTARTED = "unstarted"  # a run that is on record and has no process


@dataclass(frozen=True, slots=True)
class Point:
    """One named moment: before or after a pass through the function at `path`, a dotted path into the real daemon.

    `stir` is what makes the daemon pass (see `tests/crash/field.py`); it is killed at one of the passes `first` to
    `most`, chosen at random. `fruitful`: only passes that return something count; `given`: only those that are given
    that number.
    """

    name: str
    path: str
    when: When
    stir: str = "work"
    most: int = 3
    first: int = 1
    lead: Lead = Lead.NOTHING
    fruitful: bool = False
    given: int | None = None


def _both(name: str, path: str, stir: str = "work", most: int = 3, first: int = 1, **more: Any) -> tuple[Point, Point]:
    """The moments before and after one call, which are often the two sides of one commit."""
    return (
        Point(f"{name}-before", path, When.BEFORE, stir, most, first, **more),
        Point(f"{name}-after", path, When.AFTER, stir, most, first, **more),
    )


def _after(name: str, path: str, stir: str = "work", most: int = 3, first: int = 1, **more: Any) -> Point:
    return Point(name, path, When.AFTER, stir, most, first, **more)


_STARTING = (
    _after("state-locked", "locum.daemon._take_state", "idle", 1),
    *_both("ledger-opened", "locum.store.ledger.Ledger.open", "idle", 1),
    _after("board-loaded", "locum.store.ledger._load", "idle", 1),
    _after("old-socket-removed", "locum.web.listener._clear", "idle", 1),
    _after("socket-bound", "locum.web.listener.os.umask", "idle", 2, 2),
    _after("listening", "locum.daemon.bind", "idle", 1),
    *_both("boot-kept", "locum.store.ledger.Ledger.booted", "idle", 1),
    _after("run-found", "locum.engine.process.SystemProcesses.find", "idle", 2, lead=Lead.RUNNING),
    _after("between-two-adoptions", "locum.engine.attempts.remembered", "idle", 2, lead=Lead.RUNNING),
    _after("all-adopted", "locum.engine.attempts.Attempts.adopt", "idle", 1, lead=Lead.RUNNING),
    _after("leftovers-swept", "locum.engine.process.SystemProcesses.sweep", "idle", 1, lead=Lead.ENDED),
    *_both("run-forgotten", "locum.store.ledger.Ledger.forget_run", "idle", 1, lead=Lead.UNSTARTED),
    *_both("prompts-pruned", "locum.store.ledger.Ledger.prune", "idle", 1),
    _after("folder-removed", "locum.engine.retire.shutil.rmtree", "work", 2),
    _after("retired", "locum.engine.retire.once", "idle", 1),
    _after("ready-told", "locum.daemon.notify", "idle", 1),
)
_TAKING_TASKS = (
    _after("order-read", "locum.web.orders.read"),
    *_both("task-committed", "locum.store.ledger.Ledger.submit"),
    _after("task-answer-made", "locum.web.orders.Orders.submit"),
    *_both("answer-sent", "locum.web.endpoint.Response.__call__", most=8),
)
_COMMITTING = (
    Point("transaction-begun", "locum.store.sqlite.Database._attempt", When.BEFORE, most=30),
    _after("between-statements", "locum.store.sqlite.Sql.run", most=300),
    _after("entries-written", "locum.store.tally.add", most=20),
    _after("crossing-written", "locum.store.brakes._fire", "budget", 2, fruitful=True),
    _after("all-but-commit", "locum.store.sqlite.Database._attempt", most=30),
    *_both("log-written", "tests.crash.disk.LogFile.xWrite", most=200),
    *_both("log-synced", "tests.crash.disk.LogFile.xSync", most=30),
    Point("checkpoint-written", "tests.crash.disk.BaseFile.xWrite", When.AFTER, most=40),
    Point("committed-not-in-memory", "locum.store.sqlite.Database.memory", When.SET, most=30, first=2),
    _after("committed-nobody-woken", "locum.store.sqlite.Database._write", most=30),
    _after("caller-woken", "locum.store.worker._wake", most=30),
)
_STARTING_RUNS = (
    Point("run-decided", "locum.engine.attempts.Attempts.begin", When.AFTER),
    *_both("folder-made", "locum.engine.spool.Spool.create"),
    _after("command-made", "locum.agents.command.ProgramAgent.command"),
    *_both("meta-renamed", "locum.engine.spool.Path.rename"),
    _after("run-prepared", "locum.engine.attempts.prepare"),
    *_both("run-row", "locum.store.ledger.Ledger.start_run"),
    _after("run-locked", "locum.engine.process.try_lock"),
    _after("process-started", "locum.engine.process.SystemProcesses.start"),
)
_READING = (
    *_both("usage-recorded", "locum.store.ledger.Ledger.record", most=30),
    *_both("session-seen", "locum.store.ledger.Ledger.saw_session", most=2),
)
_ENDING_RUNS = (
    _after("process-gone", "locum.engine.process.SystemProcess.wait", most=2),
    _after("group-swept", "locum.engine.process.SystemProcess.sweep", most=2),
    _after("judged", "locum.engine.runner.Runner._judge", most=2),
    _after("half-masked", "locum.engine.redact.Redactor.mask_file", most=3),
    _after("put-away", "locum.engine.attempts._put_away", most=2),
    _after("logins-compared", "locum.engine.attempts.Attempts.look_at_logins", "fall", 3, 2),
    *_both("run-ended", "locum.store.ledger.Ledger.end_run", most=2),
    *_both("failure-answered", "locum.store.endings._failed", "fall", 2),
    _after("bump-committed", "locum.store.ledger.Ledger.end_run", "fall", 2, fruitful=True),
    _after("retry-committed", "locum.store.ledger.Ledger.end_run", "patient", 2, fruitful=True),
)
_STOPPING_RUNS = (
    *_both("cancel-committed", "locum.store.ledger.Ledger.cancel", "cancel", 2),
    *_both("agent-stopped", "locum.engine.process.SystemProcess.stop", "cancel", 1),
    _after("between-term-and-kill", "locum.engine.process.SystemProcess._signal", "cancel", 1, given=SIGTERM),
    _after("kill-sent", "locum.engine.process.SystemProcess._signal", "cancel", 2, given=SIGKILL),
)
_STOPPING_THE_DAEMON = (
    _after("stop-heard", "locum.engine.supervisor.Supervisor.stop", "stop", 1),
    _after("agents-told-to-stop", "locum.engine.attempts.Attempts.stop_all", "stop", 1),
    *_both("stop-on-record", "locum.store.ledger.Ledger.ask_stop", "stop", 2),
    _after("shutdown-term-sent", "locum.engine.process.SystemProcess._signal", "stop", 2, given=SIGTERM),
    *_both("shutdown-run-ended", "locum.store.ledger.Ledger.end_run", "stop", 2),
    *_both("ledger-closed", "locum.store.ledger.Ledger.close", "stop", 1),
    _after("socket-removed", "locum.web.listener.remove", "stop", 1),
)
_STEERING = (
    *_both("bumped", "locum.store.ledger.Ledger.bump", "steer", 2),
    *_both("released", "locum.store.ledger.Ledger.release", "steer", 2),
    *_both("paused", "locum.store.ledger.Ledger.pause", "steer", 2),
    *_both("resumed", "locum.store.ledger.Ledger.resume", "steer", 2),
    Point("hold-due", "locum.store.brakes._overdue", When.BEFORE, "settle", 1),
    _after("settled", "locum.store.ledger.Ledger.settle", "settle", 1, fruitful=True),
    _after("episode-settled", "locum.store.ledger.Ledger.settle", "rolling", 2, fruitful=True),
    *_both("given-up", "locum.store.ledger.Ledger.give_up", "give_up", 1),
)
_RECONFIGURING = (
    _after("file-judged", "locum.config.reload.Reloader.refresh", "reload", 3, 2),
    _after("applied-in-memory", "locum.engine.supervisor.Supervisor._seats", "reload", 3, 2),
    *_both("replanned", "locum.store.ledger.Ledger.replan", "reload", 3, 2),
    *_both("rejection-told", "locum.store.ledger.Ledger.reject_config", "reject", 2),
    _after("reloaded", "locum.engine.supervisor.Supervisor.reload", "reload", 3, 2),
)

_WATCHING = (
    *_both("home-begun", "locum.store.transcripts.Transcripts.begin", "idle", 1),
    _after("transcript-read", "locum.engine.sources.Sources._understood", "session"),
    *_both("transcripts-counted", "locum.store.transcripts.Transcripts.record", "session"),
    *_both("places-kept", "locum.store.transcripts.Transcripts.save", "session"),
    *_both("places-forgotten", "locum.store.transcripts.Transcripts.forget", "session"),
)
_IMPORTING = (
    _after("history-found", "locum.engine.history.History._find", "import", 2),
    *_both("history-counted", "locum.store.ledger.Ledger.record_history", "import", 2),
    Point("history-half-written", "locum.store.bulk._Batch.write", When.BEFORE, "import", 2),
    *_both("reached-back", "locum.store.transcripts.Transcripts.reach_back", "import", 2),
    _after("looked-back", "locum.store.ledger.Ledger.look_back", "import", 2),
)
_TELLING = (
    Point("message-due", "locum.store.outbox.Outbox.next", When.BEFORE, "tell", 3),
    Point("message-claimed", "locum.engine.channels.Sender.send", When.BEFORE, "tell", 2),
    _after("message-sent", "locum.engine.channels.Sender.send", "tell", 2),
    _after("message-marked", "locum.store.outbox.Outbox.end", "tell", 2),
    *_both("replayed", "locum.store.outbox.Outbox.replay", "tell", 2),
)

POINTS: tuple[Point, ...] = (
    *_STARTING,
    *_TAKING_TASKS,
    *_COMMITTING,
    *_STARTING_RUNS,
    *_READING,
    *_WATCHING,
    *_IMPORTING,
    *_ENDING_RUNS,
    *_STOPPING_RUNS,
    *_STOPPING_THE_DAEMON,
    *_STEERING,
    *_RECONFIGURING,
    *_TELLING,
)
"""The points that a daemon with a past is killed at."""

FIRST_STARTS: tuple[Point, ...] = (
    _after("first-lock", "locum.daemon._take_state", "idle", 1),
    _after("file-made", "locum.store.sqlite._connect", "idle", 1),
    _after("first-base-write", "tests.crash.disk.BaseFile.xWrite", "idle", 1),
    _after("log-mode-set", "locum.store.sqlite.migrations", "idle", 2, 2),
    _after("first-log-write", "tests.crash.disk.LogFile.xWrite", "idle", 20),
    _after("first-log-sync", "tests.crash.disk.LogFile.xSync", "idle", 2),
    _after("schema-made", "locum.store.sqlite._migrate", "idle", 1),
)
"""The points of the very first start, in the order in which they are passed in a folder where nothing is yet."""

BY_NAME = {point.name: point for point in (*POINTS, *FIRST_STARTS)}
UNSTARTED = BY_NAME["run-row-after"]
"""The point that leaves a run on record without a process."""
assert len(BY_NAME) == len(POINTS) + len(FIRST_STARTS), "a point's name is its identity"
