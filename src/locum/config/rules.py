"""What the models cannot see: rules between several places of service.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from locum.config.model import Budgeted, Route, Service, TierEntry
from locum.config.notify import WebhookChannel
from locum.config.problem import At, Issue, Severity, plain, suggest
from locum.policy.address import AddressError, Allowed, url_of
from locum.policy.failure import FailureKind

DEFAULT_CHAIN = "default"


def routes_of(service: Service) -> dict[str, tuple[Budgeted, Route]]:
    """Every chain by name: what it may spend, and its tiers and triggers."""
    more = {name: (chain, chain) for name, chain in service.chains.items()}
    return {DEFAULT_CHAIN: (service, service.failover), **more}


def errors(value: Any) -> Iterator[Issue]:
    """What is wrong with the plain values of a file, whether or not the models take them: all is told at once."""
    tiers = list(_tiers(value))
    yield from _names(tiers)
    for at, tier in tiers:
        if isinstance(tier, dict):
            yield from _command(at, tier)
    if DEFAULT_CHAIN in _get(value, "chains", dict):
        remedy = "give this one another name"
        yield Issue(("chains", DEFAULT_CHAIN), "a second chain `default`", "`failover` is the first", remedy, key=True)
    yield from _channels(value)
    seen = Counter[str]()
    for index, rule in enumerate(_get(value, "signals", list)):
        name = _get(rule, "id", str)
        seen[name] += 1
        if name and seen[name] == 2:
            yield Issue(
                ("signals", index, "id"),
                f"a second rule `{plain(name)}`",
                "rules are told apart by id",
                "give it another id",
            )


def _channels(value: Any) -> Iterator[Issue]:
    """What is wrong between the parts of `notify`, and with what its filters name."""
    chains = [DEFAULT_CHAIN, *_get(value, "chains", dict)]
    seen = Counter[str]()
    for index, entry in enumerate(_get(value, "notify", list)):
        at: At = ("notify", index)
        name = _get(entry, "name", str)
        seen[name] += 1
        if name and seen[name] == 2:
            why = "channels are told apart by name"
            yield Issue((*at, "name"), f"a second channel `{plain(name)}`", why, "give it another name")
        for place, chain in enumerate(_get(entry, "chains", list)):
            if isinstance(chain, str) and chain not in chains:
                what = f"no chain is called `{plain(chain)}`"
                yield Issue(
                    (*at, "chains", place), what, "the channel would wait for it for ever", suggest(chain, chains)
                )
        if _get(entry, "old_secret", dict) and not _get(entry, "secret", dict):
            why = "nothing is signed with an old secret alone"
            yield Issue((*at, "old_secret"), "`old_secret` is given without `secret`", why, "add `secret`", key=True)
        if nowhere := _unreachable(entry):
            remedy = "name it in `allow_private` if it shall be sent to"
            yield Issue((*at, "url"), "this address is never sent to", nowhere, remedy)


def _unreachable(entry: Any) -> str | None:
    """Why a literal address in a channel's URL would be refused; None for what can only be seen when it is sent."""
    try:
        url = url_of(_get(entry, "url", str))
        allowed = Allowed.of(each for each in _get(entry, "allow_private", list) if isinstance(each, str))
    except AddressError:
        return None  # the models tell it
    return allowed.refusal(url.host, url.host) if url.is_address else None


def _notices(service: Service) -> Iterator[Issue]:
    """Channels that tell more people than they are meant to."""
    for index, channel in enumerate(service.notify):
        if not isinstance(channel, WebhookChannel):
            continue
        at: At = ("notify", index)
        if channel.format == "standard" and channel.secret is None:
            why = "whoever knows its address can send it notices of their own"
            remedy = "add `secret`, a reference to `whsec_` and random base64"
            yield Issue(at, f"channel `{channel.name}` is not signed", why, remedy, severity=Severity.WARNING)
        if isinstance(channel.url, str) and channel.url.lower().startswith("http:") and not channel.allow_private:
            what, why = f"channel `{channel.name}` is not encrypted", "whoever is on the way can read every notice"
            yield Issue((*at, "url"), what, why, "write https://", severity=Severity.WARNING)


def warnings(service: Service) -> Iterator[Issue]:
    """What a valid file asks for and does not get."""
    yield from _notices(service)
    for name, (budgeted, route) in routes_of(service).items():
        top: At = () if name == DEFAULT_CHAIN else ("chains", name)
        routed: At = ("failover",) if name == DEFAULT_CHAIN else top
        yield from _idle_alerts(name, top, budgeted, route)
        if strips_token_budget(route) and _asks_for_budget(budgeted, route):
            at = (*routed, "triggers") if "triggers" in route.model_fields_set else (*routed, "tiers")
            yield Issue(
                at,
                f"`token_budget` does nothing in chain `{name}`",
                "a chain of one tier has nowhere to go",
                "add a tier, or stop at a limit with `usage_halt_tokens`",
                severity=Severity.WARNING,
            )
        if budgeted.usage_threshold_tokens and budgeted.usage_reset == "all":
            yield Issue(
                (*top, "usage_threshold_tokens"),
                f"the threshold of chain `{name}` never moves it",
                'with `usage_reset` "all" a tier held once would never come back',
                "choose a window that ends, or use `usage_halt_tokens`",
                severity=Severity.WARNING,
            )


def _idle_alerts(name: str, top: At, budgeted: Budgeted, route: Route) -> Iterator[Issue]:
    """Percentages that somebody asks to be told of, and that are of nothing."""
    described = [(index, tier) for index, tier in enumerate(route.tiers) if not isinstance(tier, str)]
    routed: At = ("failover",) if name == DEFAULT_CHAIN else top
    asked: list[tuple[At, str, Budgeted | TierEntry, bool]] = [
        ((*routed, "tiers", index), f"tier `{tier.name}`", tier, bool(tier.usage_threshold_tokens))
        for index, tier in described
    ]
    any_limit = budgeted.usage_threshold_tokens or budgeted.usage_halt_tokens or any(each[3] for each in asked)
    asked.append((top, f"chain `{name}`", budgeted, bool(any_limit)))
    for at, what, entry, limited in asked:
        if entry.alerts.at_percent and not limited:
            yield Issue(
                (*at, "alerts", "at_percent"),
                f"the percentages of {what} are of nothing",
                "it has no limit",
                "give it `usage_threshold_tokens`, or ask for `at_tokens`",
                severity=Severity.WARNING,
            )


def strips_token_budget(route: Route) -> bool:
    """Whether `token_budget` is taken out of the triggers: a chain of one tier has nowhere to go."""
    return len(route.tiers) == 1 and FailureKind.TOKEN_BUDGET in route.triggers


def _asks_for_budget(budgeted: Budgeted, route: Route) -> bool:
    thresholds = [budgeted.usage_threshold_tokens]
    thresholds += [tier.usage_threshold_tokens for tier in route.tiers if not isinstance(tier, str)]
    return "triggers" in route.model_fields_set or any(thresholds)


def _names(tiers: list[tuple[At, Any]]) -> Iterator[Issue]:
    described = {_get(tier, "name", str): at for at, tier in reversed(tiers) if isinstance(tier, dict)}
    listed: set[tuple[At, str]] = set()
    for at, tier in tiers:
        name = tier if isinstance(tier, str) else _get(tier, "name", str)
        if not name:
            continue
        place = at if isinstance(tier, str) else (*at, "name")
        if isinstance(tier, str) and name not in described:
            known = [other for other in reversed(described) if other]
            yield Issue(
                place,
                f"no tier is called `{plain(name)}`",
                "a name alone stands for a tier described elsewhere",
                suggest(name, known),
            )
        elif (at[:-1], name) in listed:
            yield Issue(
                place, f"tier `{plain(name)}` stands twice in this chain", "a chain tries each tier once", "remove one"
            )
        elif isinstance(tier, dict) and described[name] != at:
            why = "a tier's name is its identity and unique in the file"
            yield Issue(
                place,
                f"a second tier `{plain(name)}`",
                why,
                "give it another name, or list the first by its name alone",
            )
        listed.add((at[:-1], name))


def _command(at: At, tier: dict[str, Any]) -> Iterator[Issue]:
    agent, command = tier.get("agent"), tier.get("command")
    if agent == "command" and command is None:
        yield Issue(
            at,
            "`command` is missing",
            "the agent `command` has no program of its own",
            'add such as "command": ["./my-agent"]',
        )
    if isinstance(agent, str) and agent != "command" and command is not None:
        remedy = 'remove it, or write "agent": "command"; `program` and `args` change how an agent is started'
        yield Issue((*at, "command"), "`command` is given", f"the agent `{plain(agent)}` has its own", remedy, key=True)
    if agent == "command" and tier.get("program") is not None:
        yield Issue((*at, "program"), "`program` is given", "`command` names the program", "remove it", key=True)


def _tiers(value: Any) -> Iterator[tuple[At, Any]]:
    places: list[tuple[At, Any]] = [(("failover",), _get(value, "failover", dict))]
    places += [(("chains", name), chain) for name, chain in _get(value, "chains", dict).items()]
    for at, route in places:
        for index, tier in enumerate(_get(route, "tiers", list)):
            yield (*at, "tiers", index), tier


def _get(value: Any, key: str, kind: type[Any]) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else kind()
