"""From a task and a tier to a run that can be started, or found again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from locum.agents.base import Agent, Launch, Seat
from locum.config.model import Limits, TierEntry
from locum.config.zone import is_zone
from locum.engine.process import Spawn
from locum.engine.runner import Bounds, Watched
from locum.engine.spool import Spool
from locum.policy.task import CONTINUE, Run, handover, session_to_resume

_HOMES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
MOST = 1e9
"""Seconds: about thirty years."""
MOST_BYTES = 1 << 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run whose folder is written: what to start, and how to watch it."""

    spawn: Spawn
    watched: Watched


def bounds_of(entry: TierEntry | None, limits: Limits) -> Bounds:
    """A tier's own bounds where it has them, else those of `limits`."""
    stall_ms = (entry and entry.stall_after_ms) or limits.stall_after_ms
    limit_ms = (entry and entry.time_limit_ms) or limits.time_limit_ms
    return Bounds(
        stall_after=stall_ms / 1000,
        time_limit=limit_ms / 1000 if limit_ms else None,
        spool=limits.spool_bytes,
        stop_grace=limits.stop_grace_ms / 1000,
    )


def resumed(run: Run, agent: Agent, runs: Sequence[Run]) -> str | None:
    """The session this run goes on with, if there is one and the agent can."""
    return session_to_resume(runs, run.tier, run.cwd) if agent.can_resume else None


def prepare(
    run: Run,
    agent: Agent,
    seat: Seat,
    *,
    prompt: bytes,
    runs: Sequence[Run],
    fresh: str,
    spool: Spool,
    bounds: Bounds,
    environ: Mapping[str, str],
    timezone: str,
    began: float,
) -> Prepared:
    """Write the run's folder and work out what to start.

    Raises:
        OSError: the folder cannot be written (a full disk).

    """
    resume = run.session
    text = CONTINUE if resume else handover(runs) + prompt.decode("utf-8", "replace")
    spool.create(text)
    launch = Launch(seat, run.id, text, spool.prompt, Path(run.cwd), fresh, resume, environ)
    command = agent.command(launch)
    spool.stdin.write_bytes(command.stdin)
    spool.give(command.files)
    marks = {"LOCUM_TASK": run.task, "LOCUM_CHAIN": run.chain, "LOCUM_TIER": run.tier.name}
    env = {**environ, **command.env, **marks, "TMPDIR": str(spool.tmp)}
    spool.write_meta(
        {
            "home": str(seat.home) if seat.home else None,
            "environ": {name: env[name] for name in (*_HOMES, *agent.variables) if name in env},
            "bounds": [bounds.stall_after, bounds.time_limit, bounds.spool, bounds.stop_grace],
            "timezone": timezone,
            "began": began,
        }
    )
    spawn = Spawn(run.id, command.argv, env, Path(run.cwd), spool.folder)
    return Prepared(spawn, Watched(run, agent, seat, spool, bounds, env, timezone, began))


def remembered(run: Run, agent: Agent, spool: Spool, fallback: Bounds, now: float) -> Watched:
    """How to watch a run that was started by a daemon that is gone; its own snapshot, not today's config.

    The snapshot lies where the run's agent can write: what cannot be is as if it were missing.
    `now` is the host's monotonic clock: what lives has begun since the host did, so that the two compare.
    """
    meta = spool.meta()
    home, environ, zone, began = (meta.get(name) for name in ("home", "environ", "timezone", "began"))
    known = environ.items() if isinstance(environ, dict) else ()
    return Watched(
        run,
        agent,
        Seat(run.tier.name, run.tier.model, home=Path(home) if _is_text(home) and home.startswith("/") else None),
        spool,
        _bounds(meta.get("bounds"), fallback),
        {name: value for name, value in known if name in (*_HOMES, *agent.variables) and _is_text(value)},
        zone if _is_text(zone) and is_zone(zone) else "UTC",
        began if _is_number(began, 0, now) else now,
    )


def _bounds(told: object, fallback: Bounds) -> Bounds:
    """The bounds that a run's own file tells, when they are some; who waits for its end waits by today's patience."""
    match told:
        case [stall_after, time_limit, int(spool), stop_grace] if (
            _is_number(stall_after, 0.001, MOST)
            and (time_limit is None or _is_number(time_limit, 0.001, MOST))
            and _is_number(spool, 1, MOST_BYTES)
            and _is_number(stop_grace, 0, MOST)
        ):
            return Bounds(stall_after, time_limit, int(spool), min(stop_grace, fallback.stop_grace))
    return fallback


def _is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Whether `value` is a number within; NaN is within nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: object) -> TypeGuard[str]:
    """Whether the system's calls take `value`: no NUL in it, no half of a character."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def free_bytes(folder: Path) -> int:
    """Free space on the disk of `folder`."""
    return shutil.disk_usage(folder).free
