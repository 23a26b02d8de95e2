"""Transcripts of sessions that are not ours: whose they are, and how what is new in them is read."""

from __future__ import annotations

import os
import pwd
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from locum.agents.base import Mark, Signal, Source
from locum.agents.hooks import Hooks, Told
from locum.engine.bell import Bell
from locum.engine.spool import Tail, expand
from locum.errors import UsageError
from locum.files import open_regular
from locum.policy.failure import FailureKind
from locum.policy.gate import Place

FAILURES_KEPT = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called a hook: `uid` by the kernel's word, `environ` as its own process has it.

    `run` is the run in progress that the caller descends from, None when it is nobody's; `marked`: it carries the mark
    of a run all the same, which is anybody's word, but no reason to let it steer.
    """

    uid: int
    environ: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    marked: bool = False


@dataclass
class Reading:
    """One session's transcript and those of its subagents, read once and then followed.

    `told` is the first hook that told of it, with the transcript's real path, `owner` the user whose file that is.
    `since_ms`: a failure from before is old.
    """

    hooks: Hooks
    told: Told
    owner: int
    since_ms: int
    place: Place | None = None
    tails: dict[Path, Tail] = field(default_factory=dict)
    failures: deque[Signal] = field(default_factory=lambda: deque(maxlen=FAILURES_KEPT))
    limits: dict[tuple[str | None, str | None], Signal] = field(default_factory=dict)
    """The last reading of each of the vendor's windows, by window and model."""
    limits_told: list[Signal] = field(default_factory=list)
    """Those of them that are not on record yet."""
    failed_at: int = 0
    """Where in the transcript its last failure stands: its id, so that it counts once however often it is read."""
    told_failure: tuple[FailureKind, int] | None = None
    """The last failure that a hook told of, and when: the transcript tells of it once more."""
    called: Bell = field(default_factory=Bell)
    read: Bell = field(default_factory=Bell)
    read_up_to: int = -1
    """The last call after which everything was read."""
    followed: bool = False
    trouble: str = ""
    """Why not everything is counted, for people."""

    @property
    def path(self) -> Path:
        """Where the session's own transcript lies, really."""
        return Path(self.told.transcript)

    @property
    def session(self) -> str:
        """The agent's id of the session."""
        return self.told.session

    @property
    def position(self) -> str:
        """How far the transcript was read: another whenever a turn was added to it."""
        return str(self.tails[self.path].position) if self.path in self.tails else "unread"

    def look(self) -> Iterable[Tail]:
        """Every file of the session that is there now."""
        for path in (self.path, *self._beside()):
            if path not in self.tails:
                self.tails[path] = Tail(path, Source.TRANSCRIPT, "", self.session, self.since_ms)
        return tuple(self.tails.values())

    def _beside(self) -> Iterable[Path]:
        """The transcripts of its subagents: no others' files, and none that lie elsewhere behind a link."""
        pattern, folder = self.hooks.subagents(self.told), self.path.parent
        for path in expand((pattern,), links=False) if pattern else ():
            with suppress(OSError):
                if path.stat().st_uid == self.owner and folder in Path(os.path.realpath(path)).parents:
                    yield path

    def heed(self, tail: Tail, told: Signal, offset: int) -> None:
        """Keep what matters of a signal: of failures those since the last thing that went well."""
        match told.mark:
            case Mark.MESSAGE:
                tail.message, tail.model = told.text, told.model
            case Mark.FAILED:
                self.failures.append(told)
                self.failed_at = offset
            case Mark.LIMIT:
                if told != self.limits.get((told.window, told.model)):
                    self.limits_told.append(told)
                self.limits[told.window, told.model] = told
            case Mark.DONE:
                self.failures.clear()

    def rewind(self) -> None:
        """Read everything again: what was counted already counts once."""
        self.failures.clear()
        for tail in self.tails.values():
            tail.rewind()


@dataclass(frozen=True, slots=True)
class Found:
    """A transcript's real path, and whether it has been written yet."""

    path: Path
    there: bool


def find(text: str, hooks: Hooks, caller: Caller, homes: Iterable[Path]) -> Found:
    """The transcript that a caller names.

    Raises:
        UsageError: it is no transcript: not a regular file, not the caller's own, or not in a home of that agent.

    """
    path = Path(text)
    if not path.is_absolute():
        raise _refused(text, "its path is not absolute")
    try:
        real, there = _opened(path, caller), True
    except FileNotFoundError:
        real, there = Path(os.path.realpath(path)), False
    except OSError as error:
        raise _refused(text, (error.strerror or "it cannot be opened").lower()) from error
    for home in (*homes, *_homes_of(caller, hooks)):
        if keeps(home, hooks, real):
            return Found(real, there)
    raise _refused(text, f"it does not lie in the user's own {hooks.folder}/{hooks.below}")


def keeps(home: Path, hooks: Hooks, path: Path) -> bool:
    """Whether `path`, a transcript's real one, lies where an agent with that home keeps its sessions, really."""
    return Path(os.path.realpath(home / hooks.below)) in path.parents


def _opened(path: Path, caller: Caller) -> Path:
    """Where the file really lies that opens under this name; asked of the open file, so that nobody can swap it."""
    descriptor = open_regular(path)
    try:
        owner = os.fstat(descriptor).st_uid
        if owner != caller.uid:
            raise _refused(str(path), f"it belongs to another user (uid {owner}, not {caller.uid})")
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a text that may hold anything
    finally:
        os.close(descriptor)


def _homes_of(caller: Caller, hooks: Hooks) -> Iterable[Path]:
    """Where this user's agent keeps its sessions: where its environment says, or at home."""
    if named := caller.environ.get(hooks.variable):
        yield Path(named)
    for variable in (hooks.home_variable, "HOME"):
        if home := caller.environ.get(variable):
            yield Path(home, hooks.folder)
    try:
        yield Path(pwd.getpwuid(caller.uid).pw_dir, hooks.folder)
    except KeyError:
        return


def _refused(path: str, why: str) -> UsageError:
    return UsageError(f"the transcript {path} is not read: {why}", remedy="Nothing of it was counted.")
