"""What one look at the page shows, in the shapes that the API answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from locum.config.problem import Problem
from locum.page.say import Json
from locum.page.work import Where, Working

AT_WORK, LISTED, HAPPENED, LINES = 6, 20, 30, 40
"""How many running tasks, tasks of the list, happenings and lines of an agent the page shows."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be seen now. `days` are the tokens of the last 24 h by meter, weighed as its budget weighs them."""

    now_ms: int
    where: Where
    chain: Json
    chains: Sequence[Json]
    measure: Json
    usage: Mapping[str, Json]
    days: Mapping[str, float]
    running: Mapping[str, int]
    match: str | None
    working: Sequence[Working]
    opened: Working | None
    tasks: Sequence[Json]
    older: str | None
    counts: Mapping[str, int]
    events: Sequence[Json]
    notices: Sequence[Json]
    accounts: Mapping[str, Json]
    problems: Sequence[Problem]
    warnings: Sequence[Problem]
    low_disk: bool
    config: str
    started_ms: int
