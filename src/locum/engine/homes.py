"""The homes whose transcripts are watched: those of the tiers, and those that service.json names besides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from locum.agents.base import Agent, Seat
from locum.config.plan import account_at
from locum.engine.seats import Seats
from locum.engine.tree import parse

Levels = tuple[re.Pattern[str] | None, ...]


@dataclass
class Home:
    """A folder (by its real path) in which an agent keeps transcripts, and whose login is used there.

    `accounts` are those of the `tiers` that have it, else the one that a tier with this home would have.
    """

    agent: Agent
    folder: str
    levels: list[Levels] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)

    @property
    def account(self) -> str | None:
        """Whose login pays for what is spent there; None when that differs from tier to tier."""
        return next(iter(self.accounts)) if len(self.accounts) == 1 else None


def homes(seats: Seats) -> dict[tuple[str, str], Home]:
    """Every home to be watched, by agent and folder; none when `usage_sources` is false."""
    found: dict[tuple[str, str], Home] = {}
    for agent, seat, tier, account in _seats(seats):
        for pattern in agent.histories(seat, seats.environment(seat)):
            parsed = parse(pattern)
            folder = os.path.realpath(parsed.top)
            home = found.setdefault((agent.name, folder), Home(agent, folder))
            if parsed.levels not in home.levels:
                home.levels.append(parsed.levels)
            if tier:
                home.tiers.append(tier)
            if tier or not home.tiers:  # a home that is named besides, and is a tier's, is that tier's
                home.accounts.add(account)
    return found


def _seats(seats: Seats) -> Iterator[tuple[Agent, Seat, str, str]]:
    """Whoever has a home: the agent, where it runs, the tier ("" for none) and the account."""
    service, plan = seats.loaded.service, seats.loaded.plan
    if service.usage_sources is False:
        return
    for name, tier in plan.tiers.items():
        yield seats.agents[tier.agent], seats.plain(name), name, tier.account
    for more in service.usage_sources if isinstance(service.usage_sources, tuple) else ():
        place = seats.loaded.place
        yield seats.agents[more.agent], Seat("", home=place.path(more.home)), "", account_at(more, place)
