"""The double of a service.json: its chains, tiers, budgets and bounds, and nothing that is anybody's."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locum.agents.registry import AGENTS
from locum.config.added import folder_of, read_files
from locum.config.load import Loaded
from locum.config.model import TierEntry
from locum.config.source import parse, read_bytes
from locum.drill import standin

_KEPT = (
    "usage_threshold_tokens", "usage_reset", "usage_halt_tokens", "count_tokens", "alerts", "failover", "chains",
    "signals", "limits",
)  # fmt: skip
"""What of the file is rehearsed. All else (hooks, commands, notices, doors) could reach out of the rehearsal."""
_TIER_KEPT = (
    "name", "agent", "model", "args", "usage_threshold_tokens", "usage_reset", "alerts", "stall_after", "time_limit",
)  # fmt: skip
_LITTLE_DISK = "1M"
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|AUTH|CREDENTIALS?)$")
_HOMES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a rehearsal keeps its things: everything lies below `top`, which is nobody else's."""

    top: Path

    @property
    def config(self) -> Path:
        """The double of service.json."""
        return self.top / "service.json"

    @property
    def state(self) -> Path:
        """The rehearsed daemon's state."""
        return self.top / "state"

    @property
    def ledger(self) -> Path:
        """Its ledger."""
        return self.state / "locum.db"

    @property
    def socket(self) -> Path:
        """Where the rehearsed daemon listens."""
        return self.top / "locum.sock"

    @property
    def director(self) -> Path:
        """Where the stand-ins hear what to do."""
        return self.top / "director.sock"

    @property
    def clock(self) -> Path:
        """How far ahead of the host's clock it is there."""
        return self.top / "clock"

    @property
    def home(self) -> Path:
        """The home of the daemon and of every agent that has no other."""
        return self.top / "home"


def write(loaded: Loaded, folders: Folders) -> None:
    """Write the double of a valid configuration, its programs, homes and dummy secrets.

    Nothing is read but service.json and the rules beside it: no secret, no login, no program of a tier.
    """
    top = folders.top
    for folder in ("home", "bin", "homes", "secrets", "work"):
        (top / folder).mkdir(mode=0o700)
    told = parse(loaded.path, read_bytes(loaded.path)).value
    double = {key: told[key] for key in _KEPT if key in told}
    entries, accounts = loaded.service.tier_entries, _accounts(loaded)
    for route in (double["failover"], *double.get("chains", {}).values()):
        route["tiers"] = [
            each if isinstance(each, str) else _tier(each, entries[each["name"]], accounts, folders)
            for each in route["tiers"]
        ]
    double["usage_sources"] = False  # nobody works by hand in a rehearsal
    double["limits"] = {**double.get("limits", {}), "min_free": _LITTLE_DISK}
    folders.config.write_text(json.dumps(double, indent=1))
    rules = folder_of(folders.config)
    rules.mkdir(mode=0o700)
    for each in read_files(loaded.path):
        (rules / each.path.name).write_bytes(each.data)


def _accounts(loaded: Loaded) -> Mapping[str, str]:
    """A name for the account of every tier: tiers that share one still do. The real ones may hold digests of keys."""
    names: dict[str, str] = {}
    for tier in loaded.plan.tiers.values():
        if tier.account not in names:
            plain = re.sub(r"[^A-Za-z0-9._-]+.*", "", tier.account) or "account"
            taken = plain in names.values() or plain != tier.account
            names[tier.account] = f"{plain[:50]}-{len(names) + 1}" if taken else plain[:60]
    return {name: names[tier.account] for name, tier in loaded.plan.tiers.items()}


def _tier(told: Mapping[str, Any], entry: TierEntry, accounts: Mapping[str, str], folders: Folders) -> dict[str, Any]:
    tier = {key: told[key] for key in _TIER_KEPT if key in told}
    program = folders.top / "bin" / entry.name
    program.write_text(
        "#!/bin/sh\n"
        f'exec {shlex.join([sys.executable, "-I", "-S", standin.__file__, str(folders.director), entry.name])} "$@"\n'
    )
    program.chmod(0o700)
    if entry.command:
        tier["command"] = [str(program), *entry.command[1:]]
    else:
        tier["program"] = str(program)
    if entry.home is not None:
        tier["home"] = str(_scratch(folders, entry.home))
    tier["env"] = _environment(entry, folders)
    tier["account"] = accounts[entry.name]
    return tier


def _environment(entry: TierEntry, folders: Folders) -> dict[str, Any]:
    """Where it says whose home or login it is, the same of the rehearsal's own; the rest is for the real program."""
    agent = AGENTS[entry.agent]
    found: dict[str, Any] = {}
    for name, value in entry.env.items():
        if isinstance(value, str) and name in (*_HOMES, *agent.variables):
            found[name] = str(_scratch(folders, value))
        elif not isinstance(value, str) or name in agent.keys or _SECRET.search(name):
            found[name] = {"file": str(_dummy(folders, entry.name, name))}
    return found


def _scratch(folders: Folders, home: str) -> Path:
    """The same folder for the same home."""
    place = folders.top / "homes" / re.sub(r"[^A-Za-z0-9]+", "-", home).strip("-")[-100:]
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def _dummy(folders: Folders, tier: str, name: str) -> Path:
    path = folders.top / "secrets" / f"{tier}.{name}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"rehearsed-{name}-of-{tier}")
    return path


def environment(environ: Mapping[str, str], folders: Folders) -> dict[str, str]:
    """The whole environment of the rehearsed daemon: of the operator's own only the time zone and the language."""
    kept = {name: environ[name] for name in ("TZ", "LANG", "LC_ALL") if name in environ}
    return {
        **kept,
        "HOME": str(folders.home),
        "PATH": os.defpath,
        "PYTHONPATH": str(Path(standin.__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LOCUM_STATE": str(folders.state),
        "LOCUM_SOCKET": str(folders.socket),
    }
