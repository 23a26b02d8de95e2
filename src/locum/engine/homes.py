"""The homes whose transcripts are watched: those of the tiers, and those that service.json names besides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from locum.agents.base import Agent, Seat
from locum.agents.registry import agent as known_agent
from locum.config.plan import account_at
from locum.engine.seats import Seats
from locum.engine.tree import parse
from locum.errors import NotFoundError

Levels = tuple[re.Pattern[str] | None, ...]


@dataclass
class Home:
    """A folder (by its real path) in which an agent keeps transcripts, and whose login is used there.

    `tiers` are those that people's own sessions there may be of, `accounts` theirs, else the one that a tier with this
    home would have. `guessed`: nobody said that this agent keeps transcripts there, so it counts only if it does.
    """

    agent: Agent
    folder: str
    levels: list[Levels] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)
    guessed: bool = False

    @property
    def account(self) -> str | None:
        """Whose login pays for what is spent there; None when that differs from tier to tier."""
        return next(iter(self.accounts)) if len(self.accounts) == 1 else None


def homes(seats: Seats) -> dict[tuple[str, str], Home]:
    """Every home to be watched, by agent and folder; none when `usage_sources` is false."""
    return {} if seats.loaded.service.usage_sources is False else _known(seats)


def histories(seats: Seats, agent: str | None, home: Path | None) -> list[Home]:
    """The homes whose history is to be read: those of the configuration, watched or not, else the one at `home`.

    Raises:
        UsageError: there is no such agent.
        NotFoundError: there is nothing that it keeps transcripts in.

    """
    if agent is not None:
        known_agent(agent)
    keeping = [name for name, each in seats.agents.items() if each.histories(Seat(""), {"HOME": "/"})]
    if agent is not None and agent not in keeping:
        whose = f"{agent} keeps no transcripts that can be read"
        raise NotFoundError(whose, remedy=f"The agents that do are {', '.join(keeping)}.")
    known = _known(seats).values()
    if home is None:
        found = [each for each in known if agent in (None, each.agent.name)]
        if not found:
            whose = f"{agent} has no tier" if agent else "no tier's agent keeps transcripts"
            raise NotFoundError(f"{whose}, so it is not known where its sessions lie", remedy="Name one with --home.")
        return found
    if not home.is_dir():
        raise NotFoundError(f"{home} is no folder", remedy="Name an agent's own folder, such as ~/.claude.")
    agents = [each for name, each in seats.agents.items() if agent in (None, name)]
    named = _homes(seats, ((each, Seat("", home=home), "", None) for each in agents))  # whose login it is nobody said
    theirs = {(each.agent.name, each.folder): each for each in known}
    for each in named.values():
        each.guessed = agent is None
    there = [theirs.get(key, each) for key, each in named.items() if Path(each.folder).is_dir()]
    if agent is None:  # what a variable of the environment names lies elsewhere
        there = [each for each in there if Path(each.folder).is_relative_to(home.resolve())]
    if not there:
        whose = f"of {agent} " if agent else ""
        raise NotFoundError(
            f"there are no transcripts {whose}in {home}", remedy="Name the agent's own folder, such as ~/.claude."
        )
    return there


def owners(folder: str) -> frozenset[int]:
    """The users whose files are read in a home: the daemon's own, and the one whose home it is."""
    return frozenset({os.geteuid(), os.stat(folder).st_uid})  # noqa: PTH116 - a text that may hold anything


def _known(seats: Seats) -> dict[tuple[str, str], Home]:
    """The homes of the configuration, each with the tiers that bring no key of their own, if there are some."""
    found = _homes(seats, _seats(seats))
    for home in found.values():
        home.tiers = seats.of_people(home.tiers)
        if home.tiers:  # a home that is named besides, and is a tier's, is that tier's
            home.accounts = {seats.loaded.plan.tiers[name].account for name in home.tiers}
    return found


def _homes(seats: Seats, those: Iterable[tuple[Agent, Seat, str, str | None]]) -> dict[tuple[str, str], Home]:
    found: dict[tuple[str, str], Home] = {}
    for agent, seat, tier, account in those:
        for pattern in agent.histories(seat, seats.environment(seat)):
            parsed = parse(pattern)
            folder = os.path.realpath(parsed.top)
            home = found.setdefault((agent.name, folder), Home(agent, folder))
            if parsed.levels not in home.levels:
                home.levels.append(parsed.levels)
            if tier:
                home.tiers.append(tier)
            elif account:
                home.accounts.add(account)
    return found


def _seats(seats: Seats) -> Iterator[tuple[Agent, Seat, str, str | None]]:
    """Whoever has a home: the agent, where it runs, the tier ("" for none), and the account that is not a tier's."""
    service, plan = seats.loaded.service, seats.loaded.plan
    for name, tier in plan.tiers.items():
        yield seats.agents[tier.agent], seats.plain(name), name, None
    for more in service.usage_sources if isinstance(service.usage_sources, tuple) else ():
        place = seats.loaded.place
        yield seats.agents[more.agent], Seat("", home=place.path(more.home)), "", account_at(more, place)
