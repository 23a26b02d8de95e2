"""Pass or fail: each promise against what the daemon recorded and what the stand-ins really did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from locum.drill.ask import Json
from locum.drill.evidence import Evidence, Held
from locum.drill.holding import holds, read_as
from locum.drill.promises import (
    NO_CASCADE,
    NO_SILENT_SWITCH,
    NO_TASK_LOST,
    NO_TOKEN_LOST,
    ONE_PATH,
    OUTLIVE,
    TRUST,
    Breach,
)
from locum.drill.spending import budgets
from locum.policy.failure import FailureKind
from locum.policy.usage import NO_TOKENS, Tokens
from locum.words import from_iso, iso

_NOTICES = {
    "bumped": "tier_bumped",
    "exhausted": "chain_exhausted",
    "returned": "tier_returned",
    "released": "tier_returned",
}
_JUSTIFIED = frozenset({"attempts", "every_tier", "no_tier", "task_tokens"})


def judge(evidence: Evidence) -> list[Breach]:
    """Every promise that does not hold; none: it passes."""
    found = [
        *_runs(evidence),
        *_tokens(evidence),
        *_tasks(evidence),
        *holds(evidence),
        *(Breach(NO_CASCADE, what) for what in budgets(evidence)),
        *_switches_are_told(evidence),
        *_exhaustion_is_told(evidence),
        *_last_failures(evidence),
    ]
    return list(dict.fromkeys(found))


def _runs(evidence: Evidence) -> Iterator[Breach]:
    """Each attempt was started once, and judged to be what its recording shows."""
    counts = Counter(each.run for each in evidence.played)
    known = {run["id"] for _, run in evidence.runs}
    for each in evidence.played:
        if each.run not in known:
            yield Breach(NO_TOKEN_LOST, f"the run {each.run} on {each.tier} is on no record")
        if counts[each.run] > 1:
            yield Breach(OUTLIVE, f"the run {each.run} on {each.tier} was started {counts[each.run]} times")
    for _, run in evidence.runs:
        if run["state"] == "lost":
            continue
        if not counts[run["id"]]:
            yield Breach(TRUST, f"the run {run['id']} on {run['tier']} never started its program: {run['reason']}")
        for each in evidence.of_run(run["id"]):
            if run["failure"] != each.kind and run["rule"] not in evidence.own_rules:
                was, named = each.kind or "a success", run["failure"] or run["state"]
                what = f"a run on {each.tier} was taken for {named}, and was {was} ({each.recording.name})"
                yield Breach(TRUST, what)


def _tokens(evidence: Evidence) -> Iterator[Breach]:
    """The ledger holds what the stand-ins said, run by run and in all, and adds up."""
    for _, run in evidence.runs:
        for each in evidence.of_run(run["id"]):
            counted = _counted(run)
            if counted != each.tokens:
                what = f"run {each.run} on {each.tier} told {_words(each.tokens)}, and {_words(counted)} are on record"
                yield Breach(NO_TOKEN_LOST, what)
    told = sum((each.tokens for each in evidence.played), NO_TOKENS)
    entered = evidence.audit["tokens"]
    in_all = Tokens(*(entered[name] for name in ("input", "output", "cache_read", "cache_write")))
    if in_all != told:
        yield Breach(NO_TOKEN_LOST, f"{_words(told)} were told in all, and {_words(in_all)} are in the ledger")
    for problem in evidence.audit["problems"]:
        yield Breach(NO_TOKEN_LOST, f"the audit says: {problem}")


def _counted(run: Json) -> Tokens:
    told = run["tokens"] or {}
    return Tokens(*(told.get(name, 0) for name in ("input", "output", "cache_read", "cache_write")))


def _words(tokens: Tokens) -> str:
    return f"{tokens.total:,} tokens ({' + '.join(map(str, tokens))})"


def _tasks(evidence: Evidence) -> Iterator[Breach]:
    """Each task has ended, done or for a reason that the configuration gives."""
    limits = evidence.loaded.service.limits
    for task in evidence.tasks:
        runs, code, chain = task["runs"], task["reason_code"], evidence.loaded.plan.chains[task["chain"]]
        failed = {run["tier"] for run in runs if run["failure"]}
        if task["state"] == "done" or (task["state"] == "cancelled" and task["id"] in evidence.cancelled):
            continue
        name = f"task {task['id']} of {chain.name}"
        if task["state"] != "failed":
            yield Breach(NO_TASK_LOST, f"{name} has not ended: it is {task['state']}")
        elif code == "attempts" and len(runs) < limits.attempts:
            yield Breach(NO_TASK_LOST, f"{name} failed after {len(runs)} of {limits.attempts} attempts")
        elif code == "every_tier" and failed != {tier.name for tier in chain.tiers}:
            yield Breach(NO_TASK_LOST, f"{name} failed for want of a tier, and tried {sorted(failed)} only")
        elif code not in _JUSTIFIED and not _is_final(evidence, task):
            yield Breach(NO_TASK_LOST, f"{name} failed ({code}: {task['reason']}), and could have gone on")


def _is_final(evidence: Evidence, task: Json) -> bool:
    """Whether the last failure of a task is one that the chain does not move for."""
    last = task["runs"][-1]["failure"] if task["runs"] else None
    chain = evidence.loaded.plan.chains[task["chain"]]
    return last is not None and last == task["reason_code"] and not chain.acts_on(FailureKind(last))


def _switches_are_told(evidence: Evidence) -> Iterator[Breach]:
    """Each bump, return and exhaustion has its notice, and no notice is without one."""
    told = Counter((each["kind"], each["chain"], each["at"]) for each in evidence.notices)
    kinds = _NOTICES
    happened: Counter[tuple[str, str, str]] = Counter()
    for event in evidence.events:
        if event["kind"] in kinds and not _still_held(evidence, event):
            happened[kinds[event["kind"]], event["chain"], event["at"]] += 1
    for key in happened.keys() | {each for each in told if each[0] in kinds.values()}:
        if told[key] < happened[key] or told[key] > happened[key] + _quiet(evidence, key):
            kind, chain, at = key
            what = f"{happened[key]} times {kind} in {chain} at {at}, and {told[key]} notices of it"
            yield Breach(NO_SILENT_SWITCH, what)


def _exhaustion_is_told(evidence: Evidence) -> Iterator[Breach]:
    """Each time the last tier of a chain is held, that is on record."""
    told = [(each["chain"], from_iso(each["at"]) or 0) for each in evidence.events if each["kind"] == "exhausted"]
    for name, chain in evidence.loaded.plan.chains.items():
        was = False
        for at_ms in sorted(
            {hold.since_ms for hold in evidence.holds} | {hold.ended_ms or 0 for hold in evidence.holds}
        ):
            standing = [hold for hold in evidence.holds if hold.since_ms <= at_ms < (hold.ended_ms or at_ms + 1)]
            now = all(any(evidence.covers(hold, chain, tier.name) for hold in standing) for tier in chain.tiers)
            if now and not was and (name, at_ms) not in told:
                yield Breach(
                    NO_SILENT_SWITCH, f"the last tier of {name} was held at {iso(at_ms)}, and that is on no record"
                )
            was = now


def _still_held(evidence: Evidence, event: Json) -> bool:
    """Whether the end of a hold changed nothing, because another hold is still on that tier."""
    if event["kind"] not in ("returned", "released") or event["tier"] is None:
        return False
    at_ms, chain = from_iso(event["at"]) or 0, evidence.loaded.plan.chains[event["chain"]]
    return any(
        hold.since_ms <= at_ms
        and (hold.ended_ms is None or hold.ended_ms >= at_ms)
        and (hold.target, hold.kind) != (event["hold"]["target"], event["hold"]["kind"])
        and evidence.covers(hold, chain, event["tier"])
        for hold in evidence.holds
    )


def _quiet(evidence: Evidence, key: tuple[str, str, str]) -> int:
    """How many ends of holds at that moment may be told, or not, for another hold ended in the same moment."""
    return sum(1 for each in evidence.events if each["at"] == key[2] and each["chain"] == key[1])


def _last_failures(evidence: Evidence) -> Iterator[Breach]:
    """`last_failure_kind` of each chain is the kind of the last failure there was."""
    for name, chain in evidence.chains.items():
        last = _last_failure(evidence, name)
        if chain["last_failure_kind"] not in last:
            told, real = chain["last_failure_kind"], " or ".join(sorted(map(str, last)))
            yield Breach(ONE_PATH, f"last_failure_kind of {name} is {told}, and {real} was last")


def _last_failure(evidence: Evidence, chain: str) -> set[str | None]:
    """The kinds that may be told as last: of the chain's last failed run, and of what was held in it since.

    A hold that another chain has placed is this one's failure too, if it was taken off a tier by it.
    """
    failed = [each for each in evidence.played if each.chain == chain and each.kind and each.ended_ms]
    own = evidence.loaded.plan.chains[chain]
    last = max(failed, key=lambda each: each.ended_ms or 0, default=None)
    since_ms = (last.ended_ms or 0) if last else 0
    later = {hold.kind for hold in evidence.holds if hold.since_ms >= since_ms and _touches(own.name, own.tiers, hold)}
    kind = read_as(evidence, last) if last else None
    own_holds = {hold.kind for hold in evidence.holds if hold.since_ms >= since_ms and hold.chain == chain}
    if kind is None and own_holds:
        return {*later}
    return {*later, str(kind) if kind else None}


def _touches(chain: str, tiers: Iterable[object], hold: Held) -> bool:
    names = {getattr(each, "name", "") for each in tiers} | {getattr(each, "account", "") for each in tiers}
    return hold.chain == chain or hold.target.partition(":")[2] in names
