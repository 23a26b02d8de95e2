"""What locum asks of an agent program: how to start it, how to read it, and what its end meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import NO_TOKENS, Tokens, Usage


class Source(StrEnum):
    """Where a line was read."""

    OUT = "out"  # the agent's standard output, in the spool
    ERR = "err"  # its standard error
    TRANSCRIPT = "transcript"  # the agent's own record of the session


@dataclass(frozen=True, slots=True)
class Seat:
    """A tier as an adapter needs it: secrets resolved, paths absolute.

    `program` overrides the executable's name on PATH; `args` go to it as they are; `env` is added to its
    environment; `home` is its isolated login folder; `command` is the argv of a `command` agent.
    """

    tier: str
    model: str | None = None
    program: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = None
    command: tuple[str, ...] = ()


def home_of(seat: Seat, env: Mapping[str, str], variable: str, folder: str) -> Path:
    """Where an agent keeps its login and its sessions: where `variable` says, or `folder` below its user's home."""
    named = seat.env.get(variable) or seat.home or env.get(variable)
    return Path(named) if named else Path(seat.env.get("HOME") or env.get("HOME") or "/", folder)


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt about to start. `resume` is the session to go on with; `fresh` a new UUID for agents whose
    session id can be chosen; `prompt` is complete (hand-over note included) and also lies in `prompt_file`.
    `environ` is the environment that `Command.env` will be laid over, the tier's own included.
    """

    seat: Seat
    run: str
    prompt: str
    prompt_file: Path
    cwd: Path
    fresh: str
    resume: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where `Command.files` will lie: a folder of this run alone, which goes with the run's other files."""
        return self.prompt_file.parent / "given"


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. `env` is laid over the daemon's own cleaned environment; `stdin` is the whole input.

    `files` are written into `Launch.folder` before the start, by their plain names: settings that this agent
    takes from a file only. They hold no secret.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line an agent wrote, without its newline. `offset` is its first byte in the file, `run` the run it is
    read for, `session` the run's session as far as it is known, `message` (by `model`) the one this file told
    last to be beginning. `cut`: it was too long and lost its end.
    `run_started_ms` is when the run began: rows of a transcript from before it tell usage but no signals, for
    the file of a resumed session still holds its old failures.
    """

    source: Source
    data: bytes
    offset: int = 0
    run: str = ""
    cut: bool = False
    session: str = ""
    run_started_ms: int = 0
    message: str = ""
    model: str | None = None


class Mark(StrEnum):
    """What a signal tells."""

    SESSION = "session"  # `text` is the session id
    MESSAGE = "message"  # `text` is the message (by `model`) that begins: what follows in this file may not name it
    SAID = "said"  # `text` is something the agent said to its user
    PIECE = "piece"  # `text` is a piece of it, which goes on where the piece before it ended
    DONE = "done"  # the agent's terminal event, with success; `tokens` what it says was spent, not to be counted
    FAILED = "failed"  # a failure: `kind` when its type is known, else `text` and `status` are what there is
    LIMIT = "limit"  # a vendor window's reading: `window`, `reset_ms`, `used`, `text` its status
    RETRY = "retry"  # the agent is retrying by itself: `text` why
    CUT = "cut"  # an answer of the model ended before it was whole, and the agent asks again by itself
    TOOL = "tool"  # a tool call began (`text` its id) and may stay silent while it works
    TOOL_DONE = "tool_done"  # that tool call ended
    TOTAL = "total"  # `tokens` is the agent's own total for this run


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Something other than usage that a line told. Signals are kept in the order they were read.

    `used` is how much of a vendor's window is used, in percent (None: not told); `at_ms` the agent's own time of it.
    """

    mark: Mark
    text: str = ""
    kind: FailureKind | None = None
    status: int | None = None
    reset_ms: int | None = None
    window: str | None = None
    model: str | None = None
    tokens: Tokens | None = None
    rule: str = ""
    used: float | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended. `exit` is the exit code (128 + n or -n for signal n; None when nobody wrote one);
    `ended_ms` the moment (for reset times told as a time of day, in `timezone`); the tails are the last
    16 KiB of each stream; `tokens` what the ledger holds for this run.
    """

    exit: int | None
    ended_ms: int
    out_tail: str = ""
    err_tail: str = ""
    tokens: Tokens = NO_TOKENS
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Success:
    """The agent's terminal event said so, and so did its status."""

    said: str = ""


Verdict = Success | Failure


class Agent(Protocol):
    """An adapter for one agent program. Every method is pure: no clock, no files, no processes."""

    name: str
    program: str
    """The executable's name on PATH."""
    reports_usage: bool
    """Whether usage can be known; False shows it as unknown, never as zero."""
    can_resume: bool
    speaks_json: bool
    """Whether its standard output is JSON lines: those that tell nothing are not for people then."""
    variables: tuple[str, ...]
    """The environment variables, besides HOME, that say where its sessions lie; none of them is secret."""
    keys: tuple[str, ...]
    """The environment variables that hold a login: with one of them set it needs no login file."""
    tells: tuple[bytes, ...]
    """Every line of a transcript that tells anything holds one of these; (): any line may."""

    def command(self, launch: Launch) -> Command:
        """The argv, environment and input of one attempt."""
        ...

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line tells; an unreadable line tells nothing and never raises."""
        ...

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:
        """Glob patterns (absolute) of the transcripts of `session` ("" as long as it is not known).

        `env` is the environment the agent runs in.
        """
        ...

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Glob patterns (absolute) of the transcripts of every session in the seat's home; () when it keeps none."""
        ...

    def session_of(self, path: Path) -> str:
        """The session that a transcript with this path belongs to; "" when its rows must tell."""
        ...

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant: typed event > typed status > exit code > anchored text rule > unknown."""
        ...

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The files whose change may mean a new login."""
        ...
