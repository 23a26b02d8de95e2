"""One recorded run, from the files that somebody names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from locum.agents.base import End, Source
from locum.agents.own import own_rules
from locum.agents.registry import agents
from locum.agents.replay import Reading
from locum.cli import plain
from locum.cli.client import Json
from locum.cli.given import Given
from locum.config.load import Loaded
from locum.config.zone import host_timezone, is_zone
from locum.errors import UsageError
from locum.policy.failure import Failure, hold_until_ms
from locum.words import iso

_SOURCES = {"stdout": Source.OUT, "stderr": Source.ERR, "transcript": Source.TRANSCRIPT}


def judged(
    agent: str,
    code: int | None,
    files: Sequence[Given],
    loaded: Loaded | None,
    environ: Mapping[str, str],
    *,
    at: str | None,
    timezone: str | None,
) -> Json:
    """What the end of a run of `agent` meant; `files` as they were named (at most one a source), `at` when it ended.

    Raises:
        NotFoundError: a file is not there, or cannot be read.
        ConflictError: a pipe is silent, or does not end.
        UsageError: `at` is no moment, `timezone` no zone.

    """
    now_ms, zone = _moment(at), host_timezone(environ) if timezone is None else timezone
    if not is_zone(zone):
        raise UsageError(f"there is no time zone {zone!r}", remedy="Name one such as Europe/Madrid.")
    reading = Reading(agents(own_rules(loaded) if loaded else ())[agent])
    tails: dict[Source, str] = {}
    for file in files:
        source, session = _SOURCES[file.name], reading.session
        if source is Source.TRANSCRIPT and file.path is not None:
            session = session or reading.agent.session_of(file.path)
        for line in file.lines(source, session):
            reading.take(line)
        tails[source] = file.tail.decode("utf-8", "replace")
    told = reading.verdict(End(code, now_ms, tails.get(Source.OUT, ""), tails.get(Source.ERR, ""), timezone=zone))
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
        "usage_known": reading.usage_known(told),
        "schema": 1,
    }


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
