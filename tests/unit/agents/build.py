"""Small builders the adapters' tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from locum.agents.base import Agent, End, Launch, Line, Seat, Signal, Source, Verdict
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Usage

ENDED_MS = 1_795_329_551_000  # 2026-11-22T06:39:11Z


def launch(seat: Seat, prompt: str = "say done", resume: str | None = None) -> Launch:
    """An attempt about to start."""
    return Launch(seat, "run-1", prompt, Path("/runs/1/prompt.md"), Path("/srv/project"), "fresh-id", resume)


def line(event: dict[str, Any] | bytes, source: Source = Source.OUT, **more: Any) -> Line:
    """One line holding `event`."""
    return Line(source, event if isinstance(event, bytes) else json.dumps(event).encode(), **more)


def read(
    agent: Agent, *events: dict[str, Any] | bytes, source: Source = Source.OUT, **more: Any
) -> list[Usage | Signal]:
    """All that `events` tell, in order."""
    return [item for event in events for item in agent.read(line(event, source, **more))]


def judged(agent: Agent, *events: dict[str, Any], code: int | None = 1, out: str = "", err: str = "") -> Verdict:
    """The verdict on a run that wrote `events` and ended with `code`."""
    signals = [item for item in read(agent, *events) if isinstance(item, Signal)]
    return agent.verdict(End(code, ENDED_MS, out, err), signals)


def kind(verdict: Verdict) -> FailureKind | None:
    """The kind of a failure, None for a success."""
    return verdict.kind if isinstance(verdict, Failure) else None
