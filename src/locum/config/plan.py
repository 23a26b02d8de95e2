"""From service.json to the plan that policy follows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from locum.config.logins import HOMES, PLACES, logins
from locum.config.model import Budgeted, Route, Service, SourceEntry, TierEntry
from locum.config.place import Place
from locum.config.reference import CredentialRef, EnvRef, FileRef, Secret
from locum.config.reset import window_of
from locum.config.rules import routes_of, strips_token_budget
from locum.policy.failure import FailureKind
from locum.policy.plan import Brake, Budget, Chain, Meter, Plan, Threshold, Tier
from locum.policy.window import Block, Lifetime, Rolling

_PERCENTS = (80, 90, 100)
"""What is told of every budget unless `at_percent` says otherwise."""


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
    alerts = _alerts(service, meters, budgets)
    meters |= _account_meters(service, place, chains, meters)
    limits = service.limits
    tokens, after = limits.task_tokens or None, service.post_task is not None
    channels = {each.name: _short(each.model_dump_json()) for each in service.notify}
    return Plan(
        chains,
        tuple(budgets),
        meters,
        limits.attempts,
        tokens,
        post_task=after,
        alerts=alerts,
        channels=channels,
    )


def account_of(entry: TierEntry, place: Place) -> str:
    """Whose login pays: the account given, else the agent, its home and what is its login in the environment.

    What else is secret there is for the tools that the agent uses. No secret shows, nor where one lies: plain text and
    the paths of files are told apart by a digest.
    """
    if entry.account is not None:
        return entry.account
    if entry.agent == "command":  # nobody knows what login it uses, so its failures must not hold other tiers
        return f"command:{entry.name}"
    plain = {name: value for name, value in entry.env.items() if isinstance(value, str)}
    variable = HOMES.get(entry.agent, "")
    named = plain.get(variable)
    home = named or (str(place.path(entry.home)) if entry.home is not None else "")
    told = "\n".join((*entry.args, *plain.values()))
    moot = {variable if named else "", "HOME" if home else ""}
    found = logins(entry.agent, entry.env.keys() - moot, told)
    return entry.agent + (f"@{home}" if home else "") + "".join(f"+{_login(name, entry, place)}" for name in found)


def _login(name: str, entry: TierEntry, place: Place) -> str:
    value = entry.env[name]
    return f"{name}={value if name in PLACES and isinstance(value, str) else _reference(value, place)}"


def account_at(source: SourceEntry, place: Place) -> str:
    """Whose login pays in a home that no tier has: as if a tier had it."""
    return account_of(TierEntry(name="home", agent=source.agent, home=source.home), place)


def guard_of(entry: TierEntry, account: str) -> str:
    """A short digest that changes when the login, model or way of starting a tier does, not with its budgets."""
    told = entry.model_dump_json(include={"agent", "model", "program", "command", "args", "env", "home"})
    return _short(f"{account}\n{told}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


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


def _alerts(service: Service, meters: dict[str, Meter], budgets: Iterable[Budget]) -> dict[str, tuple[Threshold, ...]]:
    """Of how much usage people are told, by whose it is, the lowest first; who is told of nothing is left out."""
    asked: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name, (budgeted, route) in routes_of(service).items():
        alerts = budgeted.alerts
        percents = _PERCENTS if alerts.at_percent is None else alerts.at_percent
        asked[f"chain:{name}"] = percents, alerts.at_tokens
        for entry in route.tiers:
            if isinstance(entry, TierEntry):
                own = entry.alerts
                asked[f"tier:{entry.name}"] = percents if own.at_percent is None else own.at_percent, own.at_tokens
    found: dict[str, set[Threshold]] = {}
    for scope, (_, amounts) in asked.items():
        meter = meters[scope]
        found[scope] = {Threshold(at, scope, meter.window, meter.weights) for at in amounts}
    for budget in budgets:
        percents, _ = asked[budget.scope]
        found[budget.scope] |= {Threshold(at, budget.scope, budget.window, budget.weights, budget) for at in percents}
    return {scope: tuple(sorted(each, key=_lowest)) for scope, each in found.items() if each}


def _lowest(threshold: Threshold) -> tuple[int, str, str]:
    return threshold.thousandths, threshold.unit, threshold.owner


def _reference(secret: Secret, place: Place) -> str:
    match secret:
        case CredentialRef():
            return f"credential:{secret.credential}"
        case FileRef():
            return f"file:{_digest(str(place.path(secret.file)))}"
        case EnvRef():
            return f"env:{secret.env}"
        case text:
            return f"sha256:{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
