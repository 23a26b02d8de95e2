"""Recorded cases of one's own: made of a run in the spool (what tells something, and its ends), and read again."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locum.agents.base import Agent, Line, Signal, Source
from locum.agents.registry import agents
from locum.agents.replay import TAIL, TRANSCRIPT, Case, cases
from locum.config.added import folder_of
from locum.config.zone import is_zone
from locum.engine.launch import remembered
from locum.engine.redact import Redactor
from locum.engine.runner import Bounds
from locum.engine.spool import Spool, expand, tail_bytes
from locum.engine.spool import Tail as File
from locum.errors import ConfigError
from locum.policy.task import Run
from locum.policy.usage import TOKEN_TYPES

CASES = "cases"
"""The folder of kept runs, in that of the added rules."""
LINES_KEPT = 500
LONGEST_KEPT = 64 << 10
"""Bytes of a line that is kept: the longest failure that any agent has told is a few KB."""
_NO_BOUNDS = Bounds(stall_after=1, time_limit=None, spool=1 << 30, stop_grace=1)


def lines_in(path: Path, source: Source, session: str = "") -> Iterator[Line]:
    """The lines of a file that has come to its end, however long it is; none when it is no regular file."""
    for line in File(path, source, "run-1", session).read(last=True):
        if line is not None:
            yield line


def recorded(run: Run, agent: Agent, spool: Spool, redact: Redactor) -> dict[str, bytes]:
    """The files of a case: both streams, and of the transcript what tells signals. Without the secrets now known."""
    watched = remembered(run, agent, spool, _NO_BOUNDS, 0.0)
    found = {
        name: _stream(agent, path, source, redact)
        for name, path, source in (("stdout", spool.out, Source.OUT), ("stderr", spool.err, Source.ERR))
    }
    patterns = agent.sources(watched.seat, Path(run.cwd), run.session or "", watched.environ)
    rows = (line for path in expand(patterns) for line in lines_in(path, Source.TRANSCRIPT, run.session or ""))
    kept = deque((redact.line(line).data for line in rows if _tells(agent, line, run.started_ms)), maxlen=LINES_KEPT)
    return found | ({TRANSCRIPT: b"".join(line + b"\n" for line in kept)} if kept else {})


def meta_of(run: Run, spool: Spool, name: str) -> dict[str, Any]:
    """What the case says of itself; its transcript is read whatever its agent's `sources` say of it."""
    code, ended_ms = spool.exit() or (run.exit, run.ended_ms)
    zone = spool.meta().get("timezone", "UTC")
    return {
        "agent": run.tier.agent,
        "case": name,
        "exit": code,
        "kept": True,
        "chosen": run.session or "",
        "ended_ms": ended_ms,
        "timezone": zone if isinstance(zone, str) else "UTC",
    }


def _stream(agent: Agent, path: Path, source: Source, redact: Redactor) -> bytes:
    """The lines that told something, then the end of the stream: what rules are tried on."""
    end = tail_bytes(path, TAIL + redact.longest)
    with contextlib.suppress(OSError):
        if path.lstat().st_size <= TAIL:
            return redact.end(end, TAIL).encode()
    telling = (line for line in lines_in(path, source) if _tells(agent, line, 0))
    kept = deque((redact.line(line).data for line in telling), maxlen=LINES_KEPT)
    return b"".join(line + b"\n" for line in kept) + redact.end(end, TAIL).encode()


def _tells(agent: Agent, line: Line, since_ms: int) -> bool:
    if len(line.data) > LONGEST_KEPT:
        return False
    items = agent.read(Line(line.source, line.data, session=line.session, run_started_ms=since_ms))
    return any(isinstance(item, Signal) for item in items)


def cases_of(config: Path | None) -> tuple[Case, ...]:
    """The recorded runs that come with locum, and those kept beside `config`. Raises ConfigError for a broken one."""
    if config is None:
        return cases()
    folder = folder_of(config) / CASES
    try:
        kept = cases(folder)
        for each in kept:
            _must_be_sound(each)
        return (*cases(), *kept)
    except (OSError, ValueError, RecursionError) as error:
        remedy = f"Take its rule out with `locum signals remove`, or remove the case from {folder}."
        raise ConfigError(f"a kept case in {folder} cannot be read ({error})", remedy=remedy) from error


def _must_be_sound(case: Case) -> None:
    """Raise ValueError when somebody has edited a kept case into what was never a run."""
    meta, expected = case.meta, case.expected
    if not (isinstance(meta, dict) and isinstance(expected, dict) and meta.get("agent") in agents()):
        raise ValueError(f"{case.folder} is of no agent")
    sound = (
        isinstance(meta.get("case"), str),
        isinstance(meta.get("exit", ""), int | None),
        isinstance(meta.get("ended_ms"), int),
        is_zone(str(meta.get("timezone"))),
        {"kind", "rule", "window", "reset", "lost_session", "usage"} <= set(expected),
        set(expected.get("usage", ())) == set(TOKEN_TYPES),
    )
    if not all(sound):
        raise ValueError(f"{case.folder} lacks something")
