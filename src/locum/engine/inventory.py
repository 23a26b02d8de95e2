"""What is installed on this host of the agents that locum knows: where, which version, and whether a login is there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from locum.agents.base import Agent, Launch, Seat
from locum.agents.known import MEASURED
from locum.engine.process import clean_environment
from locum.engine.seats import LARGEST_LOGIN, Seats
from locum.engine.shell import Finished, Program, run_several
from locum.files import read_regular
from locum.words import size

PATIENCE_S = 20.0
"""Seconds that a program may take to say its version: some need three, and ten on a host that is busy."""
MOST = 64 << 10
"""Bytes that a program may say when it is asked for its version."""
_VERSION = re.compile(r"(?<![\w.-])v?(\d{1,9}(?:\.\d{1,9}){1,3}(?:[-+][0-9A-Za-z][0-9A-Za-z.-]{0,30})?)(?!\w)")
_SETTINGS = re.compile(r"(?i)settings|config|conf\b|models|hosts|\.env$")
"""Names of files in which a login may stand among much else."""
_KEY = re.compile(
    rb"""(?ix) (?: api[_-]?keys? | (?<!max) (?<!max_) tokens? | secret | password ) ["']?
    \s* [:=] \s* (?! null\b | none\b | ["']{2} | \{\s*\} | \[ ) \S"""
)
_EMPTY: tuple[object, ...] = (None, {}, [], "")


@dataclass(frozen=True, slots=True)
class Login:
    """Whether a login is there, as far as it can be told here (None: it cannot), and what tells so."""

    there: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Install:
    """An agent's program as a tier runs it, or as PATH has it (`tier` None).

    `path` is None when there is nothing that could be run; `version` is None when it was not told; `problem` says why
    either is so.
    """

    agent: str
    tier: str | None
    program: str
    path: Path | None
    login: Login
    version: str | None = None
    problem: str | None = None

    @property
    def as_measured(self) -> bool | None:
        """Whether its version is the one that the adapter was measured with; None when there is none to compare."""
        measured = MEASURED.get(self.agent)
        return None if self.version is None or measured is None else self.version == measured


def installs(agents: Mapping[str, Agent], seats: Seats | None, environ: Mapping[str, str]) -> list[Install]:
    """Each of `agents` as the tiers in `seats` run it, or as PATH has it where none does; programs say their version.

    A `command` is only looked for: what it would do when it is asked for its version is not known.
    """
    found: list[tuple[Install, Path | None]] = []
    asked: dict[Path, Program] = {}
    for agent, tier, seat in _seats(agents, seats):
        env = {**clean_environment(environ), **seat.env}
        install = _install(agent, tier, seat, env, seats)
        ask = None if seat.command else install.path
        found.append((install, ask))
        if ask is not None:
            asked.setdefault(ask, Program((str(ask), "--version"), env | _settings(agent, seat)))
    told = dict(zip(asked, run_several(list(asked.values()), PATIENCE_S, MOST), strict=True))
    return [install if ask is None else _versioned(install, told[ask]) for install, ask in found]


def login_of(tier: str, seats: Seats, environ: Mapping[str, str]) -> Login:
    """Whether a login is there for a tier. Nobody is asked. Raises NotFoundError when there is no such tier."""
    entry, seat = seats.entry(tier), seats.plain(tier)
    return _login(seats.agents[entry.agent], seat, {**clean_environment(environ), **seat.env}, frozenset(entry.env))


def _seats(agents: Mapping[str, Agent], seats: Seats | None) -> Iterator[tuple[Agent, str | None, Seat]]:
    """Every agent with a seat for each of its tiers, or with the one that anybody's shell has."""
    entries = seats.loaded.service.tier_entries if seats else {}
    for agent in agents.values():
        tiers = [name for name, entry in entries.items() if entry.agent == agent.name]
        for tier in tiers:
            assert seats is not None, "tiers come from there"
            yield agent, tier, seats.plain(tier)
        if not tiers and agent.name in MEASURED:  # a `command` is nothing without a tier
            yield agent, None, Seat(agent.name)


def _install(agent: Agent, tier: str | None, seat: Seat, env: Mapping[str, str], seats: Seats | None) -> Install:
    program = seat.command[0] if seat.command else seat.program or agent.program
    path, problem = _place(program, env.get("PATH", os.defpath))
    set_by_tier = frozenset(seats.entry(tier).env) if seats and tier else frozenset[str]()
    login = _login(agent, seat, env, set_by_tier)
    return Install(agent.name, tier, program, path, login, problem=problem)


def _place(program: str, path: str) -> tuple[Path | None, str | None]:
    """Where a program is; else why it cannot be run."""
    if found := shutil.which(program, path=path):
        return Path(found), None
    if "/" in program:
        return None, f"{program} {'is not executable' if Path(program).exists() else 'is not there'}"
    other = shutil.which(program, os.F_OK, path)
    return None, f"{other} is not executable" if other else f"{program} is not on PATH"


def _settings(agent: Agent, seat: Seat) -> dict[str, str]:
    """The environment that the adapter starts the program in, as far as it names none of a run's own files."""
    launch = Launch(seat, "", "", Path(os.devnull), Path("/"), fresh="")
    return {name: value for name, value in agent.command(launch).env.items() if str(launch.folder) not in value}


def _versioned(install: Install, told: Finished | OSError) -> Install:
    """The install with what its program said."""
    match told:
        case TimeoutError():
            return replace(install, problem=f"--version was not answered within {PATIENCE_S:.0f} s")
        case OSError(errno=errno.EFBIG):
            return replace(install, problem=f"--version was answered with more than {size(MOST)}")
        case OSError():
            return replace(install, problem=f"it cannot be started: {told.strerror}")
        case Finished(code=0):
            if version := _VERSION.search(told.out) or _VERSION.search(told.err):
                return replace(install, version=version[1])
            return replace(install, problem="--version was answered with no version")
        case _:
            return replace(install, problem=f"--version ended with exit code {told.code}")


def _login(agent: Agent, seat: Seat, env: Mapping[str, str], set_by_tier: frozenset[str]) -> Login:
    """Whether a login is there. Nobody is asked, so whether the vendor still takes it is not known."""
    if key := next((name for name in agent.keys if name in set_by_tier and seat.env.get(name) != ""), None):
        return Login(there=True, why=f"{key} of the tier")
    if key := next((name for name in agent.keys if env.get(name)), None):
        return Login(there=True, why=f"{key} is set")
    files = agent.credentials(seat, env)
    seen = [(path, _holds_login(path)) for path in files]
    if path := next((path for path, there in seen if there), None):
        return Login(there=True, why=str(path))
    if path := next((path for path, there in seen if there is None), None):
        return Login(there=None, why=f"{path} cannot be read")
    if not files and not agent.keys:
        return Login(there=None, why="its login is its own affair")
    if set_by_tier or seat.args:
        return Login(there=None, why="its tier has env or args of its own, which may hold one")
    looked = [
        *([f"no {' or '.join(map(str, files))}"] if files else ()),
        *([f"none of {', '.join(agent.keys)} is set"] if agent.keys else ()),
    ]
    return Login(there=False, why=", and ".join(looked))


def _holds_login(path: Path) -> bool | None:
    """Whether a file is there and holds a login; None when it cannot be read.

    What is made for logins holds one as soon as it holds anything; settings do when they name a key or a token.
    """
    try:
        data = read_regular(path, LARGEST_LOGIN, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    if _SETTINGS.search(path.name):
        return _KEY.search(data) is not None
    try:
        return json.loads(data) not in _EMPTY
    except (ValueError, RecursionError):  # not JSON: then all that counts is whether there is anything
        return bool(data.strip())
