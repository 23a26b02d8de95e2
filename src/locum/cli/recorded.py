"""One recorded run, from the files that somebody names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from locum.agents.base import End, Source
from locum.agents.own import own_rules
from locum.agents.registry import agents
from locum.agents.replay import TAIL, Reading
from locum.cli import plain
from locum.cli.client import Json
from locum.config.load import Loaded
from locum.config.zone import host_timezone, is_zone
from locum.engine.kept import lines_in
from locum.engine.spool import tail_bytes
from locum.errors import NotFoundError, UsageError
from locum.files import read_regular
from locum.policy.failure import Failure, hold_until_ms
from locum.words import iso

_SOURCES = {"stdout": Source.OUT, "stderr": Source.ERR, "transcript": Source.TRANSCRIPT}


def judged(
    agent: str,
    code: int | None,
    files: Mapping[str, Path],
    loaded: Loaded | None,
    environ: Mapping[str, str],
    *,
    at: str | None,
    timezone: str | None,
) -> Json:
    """What the end of a run of `agent` meant; `files` by the option that named them, `at` when it ended.

    Raises:
        NotFoundError: a file is not there, or no file.
        UsageError: `at` is no moment, `timezone` no zone.

    """
    now_ms, zone = _moment(at), timezone or host_timezone(environ)
    if not is_zone(zone):
        raise UsageError(f"there is no time zone {zone!r}", remedy="Name one such as Europe/Madrid.")
    reading = Reading(agents(own_rules(loaded) if loaded else ())[agent])
    for name, path in files.items():
        _there(name, path)
        session = reading.session
        if name == "transcript":
            session = session or reading.agent.session_of(path)
        for line in lines_in(path, _SOURCES[name], session):
            reading.take(line)
    out, err = (
        tail_bytes(files[name], TAIL).decode("utf-8", "replace") if name in files else ""
        for name in ("stdout", "stderr")
    )
    told = reading.verdict(End(code, now_ms, out, err, timezone=zone))
    failure = told if isinstance(told, Failure) else None
    return {
        "kind": failure.kind if failure else None,
        "reset": written(failure.reset_ms) if failure else None,
        "usage": msgspec.structs.asdict(reading.spent),
        "rule": failure.rule if failure else None,
        "evidence": failure.evidence if failure else None,
        "window": failure.window if failure else None,
        "model": failure.model if failure else None,
        "lost_session": failure.lost_session if failure else False,
        "until": written(hold_until_ms(failure, 1, now_ms)) if failure else None,
        "said": told.said or None,
        "session": reading.session or None,
        "usage_known": reading.usage_known,
        "schema": 1,
    }


def _there(name: str, path: Path) -> None:
    """Raise NotFoundError when `path` is no regular file that can be read."""
    try:
        read_regular(path, 1, follow=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise NotFoundError(f"--{name} {path} cannot be read: {why}", remedy="Name a regular file.") from error


def _moment(at: str | None) -> int:
    """The moment, in epoch milliseconds; now without one. Raises UsageError."""
    if at is None:
        return plain.now_ms()
    try:
        found = datetime.fromisoformat(at)
    except ValueError as error:
        raise UsageError(f"--at {at!r} is no moment", remedy="Write it as 2026-01-31T05:00:00Z.") from error
    if found.tzinfo is None:
        raise UsageError(f"--at {at!r} has no zone", remedy=f"Write {at}Z for UTC, or {at}+02:00.")
    return round(found.timestamp() * 1000)


def written(moment_ms: int | None) -> str | None:
    """A moment (epoch milliseconds) as ISO 8601; one beyond the years that can be written is none."""
    try:
        return iso(moment_ms)
    except (ValueError, OverflowError, OSError):
        return None
