"""Recorded runs of real agents: the parts that stand-ins play."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from locum.agents.replay import CORPUS, RECORDED_MS
from locum.agents.rules import rules_for
from locum.policy.failure import FailureKind
from locum.policy.usage import NO_TOKENS, Tokens
from locum.words import from_iso

OWN = Path(__file__).parent / "cases"
"""Runs of a `command` agent: its protocol is locum's own, so that there is no vendor to record."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded run, and what a person read from it.

    `exit` is its exit code; `kind` the failure it was, None for a success, `rule` what it is read by; `hangs`: it had
    to be stopped, for it said nothing more; `reset_ms` (epoch milliseconds) and `window` what it told of its limit;
    `ended_ms` when it ended, from where a person counted the spans that it told.
    """

    agent: str
    name: str
    exit: int
    kind: FailureKind | None
    hangs: bool
    rule: str
    reset_ms: int | None
    ended_ms: int
    window: str | None
    session: str
    tokens: Tokens
    out: str
    err: str
    transcript: str


Choice = Callable[[Recording], bool]


@lru_cache(maxsize=32)
def recordings(agent: str) -> tuple[Recording, ...]:
    """Every recorded run of an agent, the most telling first; but none that met a limit of one model only.

    What such a limit holds is not the account, which is what the drill's judge looks for.
    """
    of_models = {rule.id for rule in rules_for(agent) if rule.model}
    folders = (path.parent for root in (CORPUS, OWN) for path in (root / agent).glob("*/expected.json"))
    found = sorted(
        (each for each in (_recording(agent, path) for path in folders) if each.rule not in of_models), key=_rank
    )
    well = next(filter(_went_well, found), None)
    if well:
        found += [made for name, made in _broken_off(well).items() if not any(map(FAULTS[name], found))]
    return tuple(found)


def _broken_off(well: Recording) -> Mapping[str, Recording]:
    """What needs no words of the vendor's: a run that begins as this one did, and falls silent or ends with 0."""
    first = "".join(well.out.splitlines(keepends=True)[:1])
    begun = replace(well, out=first, err="", transcript="", tokens=NO_TOKENS)
    return {
        "hang": replace(begun, name=f"silent.{well.name}", exit=-15, kind=FailureKind.CRASH, hangs=True),
        "lie": replace(begun, name=f"short.{well.name}", kind=FailureKind.NO_RESULT),
    }


def _rank(each: Recording) -> tuple[bool, bool, bool, int, str]:
    """Ended by itself first, as locum starts it (telling JSON by lines), stopped by no hook; then what tells most."""
    first = each.out.partition("\n")[0]
    by_lines = first.startswith("{") and first.endswith("}")
    return each.hangs, not by_lines, each.name.startswith("hook."), -each.out.count("\n"), each.name


def choose(agent: str, fits: Choice) -> Recording | None:
    """The run of `agent` that fits, None when none was recorded."""
    return next(filter(fits, recordings(agent)), None)


_SPENT = (FailureKind.USAGE_LIMIT, FailureKind.CREDIT_EXHAUSTED)
_SOFT = (FailureKind.CRASH, FailureKind.NO_RESULT)


FAULTS: Mapping[str, Choice] = {
    "auth": lambda each: each.kind is FailureKind.AUTH_ERROR,
    "throttle": lambda each: each.kind is FailureKind.RATE_LIMIT,
    "quota": lambda each: each.kind is FailureKind.USAGE_LIMIT and each.reset_ms is not None,
    "quota-no-reset": lambda each: each.kind in _SPENT and each.reset_ms is None,
    "hang": lambda each: each.hangs and each.kind in _SOFT,
    "lie": lambda each: each.exit == 0 and each.kind is FailureKind.NO_RESULT and not each.hangs,
    "cut": lambda each: _is_cut(each) and each.kind is not None and not each.hangs,
    "overload": lambda each: each.kind in (FailureKind.OVERLOADED, FailureKind.SERVER_ERROR),
}
"""What can be wrong with a tier, and the recorded runs that show it."""


def success(agent: str) -> Recording | None:
    """A run of `agent` that went well and told what it spent, if one was recorded."""
    return choose(agent, lambda each: _went_well(each) and bool(each.tokens)) or choose(agent, _went_well)


def why_not(agent: str, fault: str) -> str:
    """Why a fault that no recorded run of `agent` shows cannot be played."""
    over = choose(agent, lambda each: _is_cut(each) and each.kind is None) if fault == "cut" else None
    return f"{agent} gets over it by itself ({over.name})" if over else f"no run of {agent} was recorded that shows it"


def _went_well(each: Recording) -> bool:
    return each.kind is None and each.exit == 0 and not each.hangs and each.name.startswith("ok")


def _is_cut(each: Recording) -> bool:
    return "cut" in each.name.replace("_", ".").split(".")


def _recording(agent: str, folder: Path) -> Recording:
    meta = json.loads((folder / "meta.json").read_text())
    told = json.loads((folder / "expected.json").read_text())

    def text(name: str) -> str:
        path = folder / name
        return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""

    return Recording(
        agent=agent,
        name=folder.name,
        exit=meta["exit"] if meta["exit"] is not None else -9,
        kind=FailureKind(told["kind"]) if told["kind"] else None,
        hangs=bool(told.get("stopped")),
        rule=told.get("rule") or "",
        reset_ms=from_iso(told.get("reset")),
        ended_ms=meta.get("ended_ms", RECORDED_MS),
        window=told.get("window"),
        session=told.get("session") or meta.get("transcript_session") or "",
        tokens=Tokens(**told["usage"]) if told.get("usage") else NO_TOKENS,
        out=text("stdout"),
        err=text("stderr"),
        transcript=text("transcript.jsonl"),
    )
