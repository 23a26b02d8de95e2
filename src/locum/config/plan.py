"""From service.json to the plan that policy follows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from locum.config.model import Budgeted, CredentialRef, EnvRef, FileRef, Route, Secret, Service, SourceEntry, TierEntry
from locum.config.place import Place
from locum.config.reset import window_of
from locum.config.rules import routes_of, strips_token_budget
from locum.policy.failure import FailureKind
from locum.policy.plan import Brake, Budget, Chain, Meter, Plan, Tier
from locum.policy.window import Block, Lifetime, Rolling

_LOGIN = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|AUTH|CREDENTIALS?|PROFILE|BASE_URL|CONFIG_DIR)$|^CODEX_HOME$")
"""Environment variables that decide whose login an agent uses, even when they are plain text."""


def plan_of(service: Service, place: Place) -> Plan:
    """The plan of a valid configuration; `place` gives relative paths and missing time zones their meaning."""
    routes = routes_of(service)
    tiers = {name: _tier(entry, place) for name, entry in service.tier_entries.items()}
    chains = {name: _chain(name, route, tiers) for name, (_, route) in routes.items()}
    budgets: list[Budget] = []
    meters: dict[str, Meter] = {}
    for name, (budgeted, route) in routes.items():
        meters[f"chain:{name}"] = meter = _meter(budgeted, place)
        budgets += _chain_budgets(chains[name], budgeted, meter)
        for entry in route.tiers:
            if isinstance(entry, TierEntry):
                meters[f"tier:{entry.name}"] = own = _tier_meter(entry, meter, place)
                budgets += _tier_budgets(entry, own, tuple(chains.values()))
    meters |= _account_meters(service, place, chains, meters)
    limits = service.limits
    tokens = limits.task_tokens or None
    return Plan(chains, tuple(budgets), meters, limits.attempts, tokens, post_task=service.post_task is not None)


def account_of(entry: TierEntry, place: Place) -> str:
    """Whose login pays: the account given, else agent, home and credentials. Plain secrets show only as a digest."""
    if entry.account is not None:
        return entry.account
    # Nobody knows what login an unknown program uses, so that its failures must not hold other tiers.
    text = f"command:{entry.name}" if entry.agent == "command" else entry.agent
    if entry.home is not None:
        text += f"@{place.path(entry.home)}"
    logins = sorted(name for name, value in entry.env.items() if not isinstance(value, str) or _LOGIN.search(name))
    return text + "".join(f"+{name}={_reference(entry.env[name], place)}" for name in logins)


def account_at(source: SourceEntry, place: Place) -> str:
    """Whose login pays in a home that no tier has: as if a tier had it."""
    return account_of(TierEntry(name="home", agent=source.agent, home=source.home), place)


def guard_of(entry: TierEntry, account: str) -> str:
    """A short digest that changes when the login, model or way of starting a tier does, not with its budgets."""
    told = entry.model_dump_json(include={"agent", "model", "program", "command", "args", "env", "home"})
    return hashlib.sha256(f"{account}\n{told}".encode()).hexdigest()[:12]


def _tier(entry: TierEntry, place: Place) -> Tier:
    account = account_of(entry, place)
    return Tier(entry.name, entry.agent, account, entry.model, guard_of(entry, account))


def _chain(name: str, route: Route, tiers: dict[str, Tier]) -> Chain:
    listed = tuple(tiers[entry if isinstance(entry, str) else entry.name] for entry in route.tiers)
    stripped = {FailureKind.TOKEN_BUDGET} if strips_token_budget(route) else set()
    return Chain(name, listed, route.triggers - stripped)


def _meter(budgeted: Budgeted, place: Place) -> Meter:
    window = window_of(budgeted.usage_reset, place.timezone)
    return Meter(window, budgeted.weights, budgeted.usage_threshold_tokens or None)


def _tier_meter(entry: TierEntry, chain: Meter, place: Place) -> Meter:
    window = chain.window if entry.usage_reset is None else window_of(entry.usage_reset, place.timezone)
    return Meter(window, chain.weights, entry.usage_threshold_tokens or None)


def _account_meters(
    service: Service, place: Place, chains: dict[str, Chain], meters: dict[str, Meter]
) -> dict[str, Meter]:
    """How each account's usage is shown: over the window of the first chain that it pays for, else of the first of all.

    Blocks begin with a chain's own use: an account's window is then the last so many hours.
    """
    payers = [(tier.account, name) for name, chain in chains.items() for tier in chain.tiers]
    more = service.usage_sources if isinstance(service.usage_sources, tuple) else ()
    payers += [(account_at(each, place), next(iter(chains))) for each in more]
    found: dict[str, Meter] = {}
    for account, chain in payers:
        meter = meters[f"chain:{chain}"]
        window = Rolling(meter.window.length_ms) if isinstance(meter.window, Block) else meter.window
        found.setdefault(f"account:{account}", Meter(window, meter.weights))
    return found


def _chain_budgets(chain: Chain, budgeted: Budgeted, meter: Meter) -> Iterator[Budget]:
    if meter.limit:
        acts = FailureKind.TOKEN_BUDGET in chain.triggers and not isinstance(meter.window, Lifetime)
        yield Budget(Brake.CHAIN, chain.name, meter.limit, meter.window, meter.weights, acts)
    if budgeted.usage_halt_tokens:
        yield Budget(Brake.HALT, chain.name, budgeted.usage_halt_tokens, meter.window, meter.weights)


def _tier_budgets(entry: TierEntry, meter: Meter, chains: tuple[Chain, ...]) -> Iterator[Budget]:
    if meter.limit:
        listing = [chain for chain in chains if chain.tier(entry.name) is not None]
        acts = any(FailureKind.TOKEN_BUDGET in chain.triggers for chain in listing)
        yield Budget(Brake.TIER, entry.name, meter.limit, meter.window, meter.weights, acts)


def _reference(secret: Secret, place: Place) -> str:
    match secret:
        case CredentialRef():
            return f"credential:{secret.credential}"
        case FileRef():
            return f"file:{place.path(secret.file)}"
        case EnvRef():
            return f"env:{secret.env}"
        case text:
            return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}"
