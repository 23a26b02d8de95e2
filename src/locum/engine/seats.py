"""Tiers as agents need them: secrets resolved, homes found, logins watched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from locum.agents.base import Agent, Seat, home_of
from locum.config.load import Loaded
from locum.config.model import TierEntry
from locum.config.secrets import resolve
from locum.engine.process import clean_environment
from locum.errors import NotFoundError
from locum.files import read_regular
from locum.policy.plan import Plan

LARGEST_LOGIN = 1 << 20


@dataclass(frozen=True)
class Seats:
    """One valid configuration, ready to start agents with."""

    loaded: Loaded
    agents: Mapping[str, Agent]
    environ: Mapping[str, str]

    def entry(self, tier: str) -> TierEntry:
        """What service.json says of a tier.

        Raises:
            NotFoundError: it names no such tier.

        """
        entry = self.loaded.service.tier_entries.get(tier)
        if entry is None:
            raise NotFoundError(f"tier {tier} is not in {self.loaded.path}")
        return entry

    def seat(self, tier: str) -> Seat:
        """The tier with its secrets resolved.

        Raises:
            NotFoundError: there is no such tier.
            ConfigError: a secret cannot be read.

        """
        entry = self.entry(tier)
        base = self.loaded.path.parent
        return Seat(
            tier=entry.name,
            model=entry.model,
            program=self._program(entry),
            args=entry.args,
            env={name: resolve(value, self.environ, base) for name, value in entry.env.items()},
            home=self._home(entry),
            command=self._command(entry),
        )

    def plain(self, tier: str) -> Seat:
        """The tier as far as it is known without reading a secret. Raises NotFoundError when there is no such tier."""
        entry = self.entry(tier)
        seat = self._plain_seat(tier, entry)
        return replace(seat, program=self._program(entry), args=entry.args, command=self._command(entry))

    def environment(self, seat: Seat) -> dict[str, str]:
        """The environment a tier's processes start from: the daemon's, cleaned, under the tier's own."""
        return {**clean_environment(self.environ), **seat.env}

    def homes(self, agent: str, variable: str, folder: str) -> dict[str, Path]:
        """Where each tier of an agent keeps its login and its sessions, by tier; see `home_of`."""
        entries = self.loaded.service.tier_entries.items()
        seats = {name: self._plain_seat(name, entry) for name, entry in entries if entry.agent == agent}
        return {name: home_of(seat, self.environment(seat), variable, folder) for name, seat in seats.items()}

    def of_people(self, tiers: Iterable[str]) -> list[str]:
        """Of tiers with one home, those whose login is used by the sessions that people run there themselves.

        A tier that brings a key of its own is not used so, unless every one does.
        """
        every = list(tiers)
        lent = [name for name in every if self.entry(name).env.keys().isdisjoint(self._keys(name))]
        return lent or every

    def _keys(self, tier: str) -> tuple[str, ...]:
        return self.agents[self.entry(tier).agent].keys

    def guarded(self, plan: Plan) -> Plan:
        """`plan` with each tier's guard covering the content of its login files as they are now."""
        guards = {name: self._guard(name, tier.guard) for name, tier in plan.tiers.items()}
        chains = {
            name: replace(chain, tiers=tuple(replace(tier, guard=guards[tier.name]) for tier in chain.tiers))
            for name, chain in plan.chains.items()
        }
        return replace(plan, chains=chains)

    def _guard(self, tier: str, config: str) -> str:
        entry = self.entry(tier)
        seat = self._plain_seat(tier, entry)
        digest = hashlib.sha256(config.encode())
        for path in self.agents[entry.agent].credentials(seat, self.environment(seat)):
            digest.update(str(path).encode() + _content(path))
        return digest.hexdigest()[:16]

    def _plain_seat(self, tier: str, entry: TierEntry) -> Seat:
        """Secrets are not needed to know where a login lies, and may be missing: that is no reason to fail here."""
        plain = {name: value for name, value in entry.env.items() if isinstance(value, str)}
        return Seat(tier, env=plain, home=self._home(entry))

    def _home(self, entry: TierEntry) -> Path | None:
        return self._path(entry.home) if entry.home else None

    def _program(self, entry: TierEntry) -> str | None:
        """A program given as a path starts at the folder of service.json; a bare name is looked up on PATH."""
        return str(self._path(entry.program)) if entry.program and "/" in entry.program else entry.program

    def _command(self, entry: TierEntry) -> tuple[str, ...]:
        if not entry.command or "/" not in entry.command[0]:
            return entry.command or ()
        return (str(self._path(entry.command[0])), *entry.command[1:])

    def _path(self, text: str) -> Path:
        return self.loaded.path.parent.absolute() / Path(text).expanduser()


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_regular(path, LARGEST_LOGIN, follow=True)).digest()
    except OSError:
        return b"missing"
