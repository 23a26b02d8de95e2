"""Text rules: sentences that tell a failure, kept as data and anchored at the start of a line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from locum.errors import ConfigError
from locum.patterns import REMEDY, Pattern, PatternError
from locum.patterns import pattern as compiled
from locum.policy.failure import HAPPENING, WINDOW_MS, FailureKind

Where = Literal["message", "out", "err", "answer"]
_PLACES: tuple[Where, ...] = ("message", "out", "err")
_ALL_PLACES: tuple[Where, ...] = (*_PLACES, "answer")
_LIMITS = frozenset({FailureKind.RATE_LIMIT, FailureKind.USAGE_LIMIT})
_KEYS = frozenset({"id", "agent", "kind", "pattern", "where", "window", "model", "reset", "lost_session", "remedy"})
_PROOF = frozenset({"case", "said", "twins"})
SHIPPED = "shipped"
SERVICE = "service.json"
ADDED = "added"
"""Where rules come from: with locum, from `signals` in service.json, from a file of its own beside that."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence and what it means.

    `pattern` is tried at the start of each line; a group named `model` names the one model limited. `where` says
    what is searched: "message" (the text of a typed error), "out" and "err" (the tails of the streams, and only
    when nothing typed told how the run ended), "answer" (all that a run said that ended well, when that is one line and
    it used no tool). `reset`: the sentence tells when it is over. `remedy`: what to do,
    where the sentence itself does not say it.
    `case` (a recorded run of the corpus) or `said` (sentences that somebody was told) is what it was made for,
    `twins` are sentences near to it that it must not fit. `origin` is where it comes from.
    """

    id: str
    kind: FailureKind
    pattern: Pattern
    agent: str = "*"
    where: tuple[Where, ...] = _PLACES
    window: str | None = None
    model: str | None = None
    reset: bool = False
    lost_session: bool = False
    remedy: str = ""
    case: str = ""
    said: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    origin: str = SHIPPED


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that fits: the `line` it fitted and the `model` that line or the rule names."""

    rule: Rule
    line: str
    model: str | None = None


def parse_rules(tables: Iterable[Mapping[str, Any]], agent: str = "*", origin: str = SERVICE) -> tuple[Rule, ...]:
    """Rules from their tables; `agent` is whose they are unless a table says so. Raises ConfigError."""
    return tuple(_rule(table, agent, origin) for table in tables)


@cache
def _file(name: str, agent: str) -> tuple[Rule, ...]:
    source = files("locum.agents") / "signals" / f"{name}.toml"
    if not source.is_file():
        return ()
    return parse_rules(tomllib.loads(source.read_text("utf-8"))["rule"], agent, SHIPPED)


def shipped(agent: str) -> tuple[Rule, ...]:
    """The rules that come with locum for `agent`: its own, and those of every agent."""
    return _file(agent, agent) + _file("any", "*")


def rules_for(agent: str, own: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    """The rules to judge `agent` by: the user's `own` first, so that they can correct the shipped ones."""
    return tuple(rule for rule in own if rule.agent in ("*", agent)) + shipped(agent)


def first_match(rules: Iterable[Rule], where: Where, text: str, *, veto_limits: bool = False) -> Match | None:
    """The first rule that fits `text` of `where`. `veto_limits`: something typed said the server itself failed,
    so a sentence about limits (which such servers also send) is not believed.
    """
    data = text.encode("utf-8", "replace")
    for rule in rules:
        if where not in rule.where or (veto_limits and rule.kind in _LIMITS):
            continue
        found = rule.pattern.find(data)
        if found:
            named = found.named.get("model")
            return Match(rule, found.line, named.lower() if named else rule.model)
    return None


def _rule(table: Mapping[str, Any], agent: str, origin: str) -> Rule:
    name = str(table.get("id") or "a rule without an id")
    unknown = sorted(set(table) - _KEYS - _PROOF)
    if unknown:
        raise ConfigError(f"signal rule {name}: unknown key {unknown[0]}", remedy=f"Use {', '.join(sorted(_KEYS))}")
    if not table.get("id") or not isinstance(table.get("pattern"), str) or not table["pattern"]:
        raise ConfigError(f"signal rule {name}: it needs an id, a kind and a pattern")
    if table.get("kind") not in HAPPENING:
        remedy = f"Use {', '.join(HAPPENING)}"
        raise ConfigError(f"signal rule {name}: {table.get('kind')!r} is no kind that an agent can tell", remedy=remedy)
    where = tuple(table.get("where", _PLACES))
    if not where or not set(where) <= set(_ALL_PLACES):
        raise ConfigError(f"signal rule {name}: where must be some of {', '.join(_ALL_PLACES)}")
    if table.get("window") not in (None, *WINDOW_MS):
        raise ConfigError(f"signal rule {name}: unknown window", remedy=f"Use {', '.join(WINDOW_MS)}")
    try:
        pattern = compiled(table["pattern"])
    except PatternError as error:
        raise ConfigError(
            f"signal rule {name}: the pattern cannot be used: {error}", remedy=f"Mend it: {REMEDY}"
        ) from error
    return Rule(
        id=name,
        kind=FailureKind(table["kind"]),
        pattern=pattern,
        agent=str(table.get("agent", agent)),
        where=where,
        window=table.get("window"),
        model=table.get("model"),
        reset=bool(table.get("reset", False)),
        lost_session=bool(table.get("lost_session", False)),
        remedy=str(table.get("remedy", "")),
        case=str(table.get("case", "")),
        said=_sentences(table, "said"),
        twins=_sentences(table, "twins"),
        origin=origin,
    )


def _sentences(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """One sentence or a list of them."""
    told = table.get(key, ())
    return (told,) if isinstance(told, str) else tuple(map(str, told))
