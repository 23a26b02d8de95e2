"""What a valid configuration means here: what was understood, and what this host lacks for it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from locum.agents.base import Seat
from locum.agents.own import own_rules
from locum.agents.registry import AGENTS
from locum.config.added import FOLDER
from locum.config.load import Loaded
from locum.config.logins import HOMES
from locum.config.model import TierEntry
from locum.config.notify import AppriseChannel, CommandChannel, NotifyChannel
from locum.config.problem import Problem
from locum.config.secrets import SecretError, resolve
from locum.engine.inventory import login_of
from locum.engine.seats import Seats
from locum.errors import ConfigError
from locum.notify.by_apprise import MISSING, is_there
from locum.policy.failure import ALWAYS_ACT, DEFAULT_TRIGGERS, FailureKind
from locum.policy.notice import Severity
from locum.policy.plan import Brake, Budget, Chain, Plan
from locum.policy.window import describe
from locum.words import span

_WHAT = {
    Brake.CHAIN: "then the tier in use is held",
    Brake.TIER: "then the tier is held",
    Brake.HALT: "then every tier is held",
}


def doubts(loaded: Loaded, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What would keep tiers, post_task or channels from working: programs, logins or secrets that cannot be had."""
    seats = Seats(loaded, AGENTS, environ)
    tiers = tuple(
        f"tier {name}: {doubt}"
        for name, entry in loaded.service.tier_entries.items()
        for doubt in (*(_agent(entry, seats) or _login(name, seats)), *_secrets(entry, loaded, environ))
    )
    after = loaded.service.post_task
    missing = _program(str(_from_place(after.command[0], loaded)), "command", environ) if after else ()
    after_tasks = (f"post_task: {doubt}" for doubt in missing)
    channels = (
        f"channel {each.name}: {doubt}" for each in loaded.service.notify for doubt in _channel(each, loaded, environ)
    )
    return (*tiers, *_shared(loaded), *_sources(seats), *after_tasks, *channels, *_rules(loaded))


def _channel(channel: NotifyChannel, loaded: Loaded, environ: Mapping[str, str]) -> Iterator[str]:
    if isinstance(channel, CommandChannel):
        yield from _program(str(_from_place(channel.command[0], loaded)), "command", environ)
    if isinstance(channel, AppriseChannel) and not is_there():
        yield MISSING
    for value in channel.references:
        try:
            resolve(value, environ, loaded.place.folder)
        except SecretError as error:
            yield str(error)


def _rules(loaded: Loaded) -> Iterator[str]:
    """What the user's own rules tell wrongly: they were proved if they were added, and not if they were written."""
    own = own_rules(loaded)
    if not own:
        return
    from locum.agents.proof import faults, proofs, prove
    from locum.engine.kept import cases_of

    try:
        wrong = proofs(prove(own, cases_of(loaded.path)))
    except ConfigError as error:
        yield f"rules of your own cannot be tried: {error}"
        return
    yield from (f"{fault}; `locum signals test` tells all that is wrong" for fault in faults(wrong, own))


def _sources(seats: Seats) -> Iterator[str]:
    """Homes that `usage_sources` names, and where nothing will ever be seen."""
    service, place = seats.loaded.service, seats.loaded.place
    for each in service.usage_sources if isinstance(service.usage_sources, tuple) else ():
        folder = place.path(each.home)
        if not AGENTS[each.agent].histories(Seat("", home=folder), {}):
            yield f"usage_sources: {each.agent} keeps no transcripts that could be read; count its tasks or report them"
        elif not folder.is_dir():
            yield f"usage_sources: {folder} is no folder yet; see whether {each.agent} keeps its sessions there"


def _agent(entry: TierEntry, seats: Seats) -> list[str]:
    seat = seats.plain(entry.name)
    name = seat.command[0] if seat.command else seat.program or AGENTS[entry.agent].program
    whose = "the PATH that the tier sets" if "PATH" in seat.env else "PATH"
    return list(_program(name, "command" if seat.command else "program", seats.environment(seat), whose))


def _login(tier: str, seats: Seats) -> list[str]:
    login, entry = login_of(tier, seats, seats.environ), seats.entry(tier)
    if login.there is not False:
        return []
    agent = AGENTS[entry.agent]
    named = f" with {HOMES[agent.name]} set to its home" if agent.name in HOMES else " in its home"
    where = named if entry.home else ""
    once = "" if agent.name == "aider" else f"log in once with `{entry.program or agent.program}`{where}, or "
    return [f"no login of {agent.name} was found ({login.why}); {once}give it one of these variables in `env`"]


def _program(name: str, key: str, env: Mapping[str, str], whose: str = "PATH") -> Iterator[str]:
    if shutil.which(name, path=env.get("PATH", os.defpath)) is None:
        where = "is not a program" if "/" in name else f"is not on {whose}"
        yield f"{name} {where}; install it, or say where it is with `{key}`"


def _from_place(name: str, loaded: Loaded) -> Path | str:
    """A path starts at the folder of service.json; a bare name is looked up."""
    return loaded.place.path(name) if "/" in name else name


def _shared(loaded: Loaded) -> Iterator[str]:
    """Tiers that are taken for one account, though a secret differs that may be a login nobody knows of."""
    firsts: dict[str, TierEntry] = {}
    for entry in loaded.service.tier_entries.values():
        account = loaded.plan.tiers[entry.name].account
        if entry.account is not None:
            continue
        first = firsts.setdefault(account, entry)
        secret = [name for name, value in entry.env.items() if not isinstance(value, str)]
        differing = [name for name in secret if first.env.get(name, entry.env[name]) != entry.env[name]]
        if differing:
            told = f"tiers {first.name} and {entry.name} are taken for one account ({account}), but differ in"
            yield f"{told} {', '.join(differing)}; if that is a login, give each an `account` of its own"


def _secrets(entry: TierEntry, loaded: Loaded, environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in entry.env.items():
        try:
            resolve(value, environ, loaded.place.folder)
        except SecretError as error:
            yield f"{name}: {error}"


def understood(loaded: Loaded) -> Iterator[str]:
    """Every chain with its tiers and budgets, in words."""
    plan = loaded.plan
    payers = Counter(tier.account for tier in plan.tiers.values())
    for chain in plan.chains.values():
        yield f"chain {chain.name}: {' → '.join(tier.name for tier in chain.tiers)}"
        for tier in chain.tiers:
            model = f", model {tier.model}" if tier.model else ""
            shared = f", account {tier.account}, which it shares" if payers[tier.account] > 1 else ""
            yield f"  tier {tier.name}: {tier.agent}{model}{shared}"
        budgets = _budgets(plan, chain)
        yield from (f"  {_budget(each)}" for each in budgets)
        if not budgets:
            yield f"  no budget; tokens are shown for {describe(plan.meters[f'chain:{chain.name}'].window)}"
        # Without a budget that moves the chain there is nothing to ignore; a halt holds whatever triggers say.
        idle = (
            frozenset()
            if any(each.brake is not Brake.HALT for each in budgets)
            else frozenset({FailureKind.TOKEN_BUDGET})
        )
        if ignored := sorted(DEFAULT_TRIGGERS - ALWAYS_ACT - chain.triggers - idle):
            yield f"  does not move for: {', '.join(ignored)}"
    if loaded.service.signals or loaded.added:
        yield f"rules of your own: {len(loaded.service.signals)} in service.json, {len(loaded.added)} in {FOLDER}/"
    if after := loaded.service.post_task:
        yield f"after each task: {after.command[0]}, for {span(after.time_limit_ms)} at most"
    for channel in loaded.service.notify:
        kinds = "notices" if channel.kinds is None else ", ".join(channel.kinds)
        about = f" about {', '.join(channel.chains)}" if channel.chains is not None else ""
        least = "" if channel.severity is Severity.INFO else f", {channel.severity} or graver"
        yield f"channel {channel.name}: {kinds}{about}{least}, by {channel.type}"


def _budgets(plan: Plan, chain: Chain) -> list[Budget]:
    names = {tier.name for tier in chain.tiers}
    return [
        each for each in plan.budgets if (each.owner in names if each.brake is Brake.TIER else each.owner == chain.name)
    ]


def _budget(budget: Budget) -> str:
    whose = f"tier {budget.owner}" if budget.brake is Brake.TIER else f"chain {budget.owner}"
    then = _WHAT[budget.brake] if budget.acts else "then it is told, and nothing is held"
    return f"budget of {whose}: {budget.limit:,} tokens in {describe(budget.window)}; {then}"


def report(
    path: Path, why: str, problems: Iterable[Problem], loaded: Loaded | None, doubts: Iterable[str]
) -> dict[str, Any]:
    """The same for programs. `loaded` None: the file cannot be used."""
    return {
        "schema": 1,
        "path": str(path),
        "chosen": why,
        "valid": loaded is not None,
        "problems": [
            {
                "path": str(each.path),
                "line": each.line,
                "column": each.column,
                "severity": each.severity,
                "what": each.what,
                "why": each.why,
                "remedy": each.remedy,
            }
            for each in problems
        ],
        "doubts": list(doubts),
        "understood": list(understood(loaded)) if loaded else [],
    }
