"""What people are told when a threshold is reached: the more is used, the sterner."""

from __future__ import annotations

from dataclasses import dataclass

from locum.policy.budget import percent
from locum.policy.notice import Datum, Notice, NoticeKind, Severity, chain_link, moment, notice, when
from locum.policy.plan import Brake, Budget, Threshold
from locum.policy.usage import Tokens
from locum.policy.window import Lifetime, Rolling, Window, describe, kind

_SOON, _FULL = 90, 100


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold that was reached: how much was used by then, over which window.

    `chain` is where the usage that reached it belongs; `limit` what the chain or tier may use, None without a budget;
    `until_ms` when there is room again below that limit, None where that is never, or it was not reached.
    """

    threshold: Threshold
    window: Window
    used: Tokens
    chain: str
    at_ms: int
    limit: int | None = None
    until_ms: int | None = None

    @property
    def whole(self) -> int:
        """What was used, weighed, in whole tokens."""
        return self.threshold.weights.whole(self.used)

    @property
    def percent(self) -> float | None:
        """The same in percent of the limit, rounded down to a tenth."""
        return percent(self.threshold.weights, self.used, self.limit)


def told(crossing: Crossing) -> Notice:
    """The notice of a crossing."""
    threshold = crossing.threshold
    budget = threshold.budget
    severity, title, message = _counted(crossing) if budget is None else _of_budget(crossing, budget)
    scope, _, owner = threshold.scope.partition(":")
    return notice(
        NoticeKind.TOKEN_THRESHOLD_CROSSED,
        severity,
        crossing.at_ms,
        crossing.chain,
        title,
        message,
        _data(crossing),
        chain_link(crossing.chain),
        tier=owner if scope == "tier" else None,
    )


def _of_budget(crossing: Crossing, budget: Budget) -> tuple[Severity, str, str]:
    """How grave, and in which words, for so many percent of a budget."""
    at, limit = crossing.threshold.at, budget.limit
    numbers = f"{crossing.whole:,} of {limit:,} tokens ({crossing.percent} %, {describe(budget.window)})"
    what = f"{_WHAT[budget.brake]} {budget.owner}"
    name = f"{_NAME[budget.brake]} {budget.owner}"
    if at < _FULL and crossing.whole >= limit:
        message = f"The {what} has passed {at} %, and is used up already: {numbers}. {_anew(crossing.until_ms)}"
        return _grave(at), f"{name}: {at} % of its budget is passed", message
    if at < _SOON:
        advice = f"There is time: raise {_KEY[budget.brake]} in service.json, or spend the rest on what matters most."
        message = f"The {what} has reached {at} %: {numbers}. At 100 % {_then(budget)}. {advice}"
        return _grave(at), f"{name}: {at} % of its budget is used", message
    if at < _FULL:
        left = max(0, limit - crossing.whole)
        advice = f"Raise {_KEY[budget.brake]} in service.json now if that must not happen."
        message = f"The {what} is nearly used up: {numbers}. Only {left:,} are left. At 100 % {_then(budget)}. {advice}"
        return _grave(at), f"{name}: {at} % of its budget is used, {left:,} tokens are left", message
    held = "" if budget.acts else " Nothing is held because of it."
    anew = _anew(crossing.until_ms)
    if at == _FULL:
        message = f"The {what} is used up: {numbers}. {anew}{held} Raise the limit in service.json to go on sooner."
        return _grave(at), f"{name}: its budget is used up ({crossing.whole:,} of {limit:,} tokens)", message
    over = crossing.whole - limit
    stop = _STOP[budget.brake] if budget.acts else "locum pause CHAIN stops it, or a usage_halt_tokens"
    message = f"The {what} is overspent by {over:,}: {numbers}. {anew}{held} See with locum usage who spends; {stop}."
    return _grave(at), f"{name}: {at} % of its budget is used, {over:,} tokens too much", message


def _counted(crossing: Crossing) -> tuple[Severity, str, str]:
    """How grave, and in which words, for a plain number of tokens: it holds nothing, and is as grave as its budget."""
    threshold, full = crossing.threshold, crossing.percent
    scope, _, owner = threshold.scope.partition(":")
    of = "" if full is None or crossing.limit is None else f", {full} % of its limit of {crossing.limit:,}"
    message = (
        f"{scope.capitalize()} {owner} has used {crossing.whole:,} tokens ({describe(threshold.window)}){of}. "
        f"Nothing is held because of that: alerts.at_tokens in service.json asks to be told at {threshold.at:,}. "
        "See with locum usage what spends them."
    )
    grave = Severity.WARNING if full is None else _grave(full)
    return grave, f"{scope.capitalize()} {owner}: {threshold.at:,} tokens used", message


def _grave(at: float) -> Severity:
    """How soon somebody should look when so many percent are used."""
    return Severity.INFO if at < _SOON else Severity.WARNING if at < _FULL else Severity.CRITICAL


_WHAT = {Brake.CHAIN: "budget of chain", Brake.TIER: "budget of tier", Brake.HALT: "halting budget of chain"}
_NAME = {Brake.CHAIN: "Chain", Brake.TIER: "Tier", Brake.HALT: "The halt of chain"}
_KEY = {
    Brake.CHAIN: "usage_threshold_tokens",
    Brake.TIER: "the tier's usage_threshold_tokens",
    Brake.HALT: "usage_halt_tokens",
}
_STOP = {
    Brake.CHAIN: "the next tiers go on, and usage_halt_tokens would stop them",
    Brake.TIER: "sessions that people run themselves go on, unless they have hooks",
    Brake.HALT: "what was running finishes, and nothing new begins",
}


def _then(budget: Budget) -> str:
    """What happens when a budget is used up."""
    if not budget.acts:
        return "nothing is held because of it"
    who = {
        Brake.CHAIN: "the tier in use is held, and the chain goes on with its next one,",
        Brake.TIER: "the tier is held in every chain",
        Brake.HALT: "every tier of the chain is held",
    }[budget.brake]
    match budget.window:
        case Rolling():
            return f"{who} until enough of it is longer ago"
        case Lifetime():
            return f"{who} until the limit is raised"
        case _:
            return f"{who} until the window ends"


def _anew(until_ms: int | None) -> str:
    return "It never starts anew." if until_ms is None else f"There is room again from {moment(until_ms)} on."


def _data(crossing: Crossing) -> dict[str, Datum]:
    threshold, window = crossing.threshold, crossing.window
    return {
        "budget": threshold.owner,
        "threshold": threshold.at,
        "threshold_unit": str(threshold.unit),
        "threshold_tokens": -(-threshold.thousandths // 1000),
        "total_tokens": crossing.whole,
        "used": crossing.whole,
        "limit": crossing.limit,
        "percent": crossing.percent,
        "window": kind(threshold.window),
        "window_start": when(window.start_ms),
        "window_end": when(window.end_ms),
        "window_start_ms": window.start_ms,
        "until": when(crossing.until_ms),
        "until_ms": crossing.until_ms,
    }
