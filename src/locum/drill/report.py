"""What a rehearsal found, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Any

from locum.drill.director import Played
from locum.drill.evidence import Evidence, Held
from locum.drill.promises import Breach
from locum.words import iso, span

SCHEMA = 1


class Verdict(StrEnum):
    """What is said of a scenario; `NOT_REHEARSED`: what it is about could not be played, so that nothing is known."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    NOT_REHEARSED = "not rehearsed"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a timeline: `after_ms` rehearsed milliseconds after the beginning."""

    after_ms: int
    chain: str
    tier: str | None
    what: str


@dataclass(frozen=True)
class Result:
    """What came of one scenario, which took `seconds` of real time.

    `rehearsed`: what it is about was played.
    `failovers` are the real seconds from the end of a failed run to the beginning of the next, move by move.
    """

    name: str
    says: str
    began_ms: int
    seconds: float = 0.0
    rehearsed: bool = True
    breaches: Sequence[Breach] = ()
    notes: Sequence[str] = ()
    unrehearsed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    runs: int = 0
    tokens: int = 0
    failovers: Sequence[float] = ()
    holds: Sequence[Held] = ()
    timeline: Sequence[Happening] = ()
    log: str = ""

    @property
    def passed(self) -> bool:
        """Whether no promise was broken."""
        return not self.breaches

    @property
    def verdict(self) -> Verdict:
        """What is said of it: a broken promise outweighs all."""
        if self.breaches:
            return Verdict.FAIL
        return Verdict.PASS if self.rehearsed else Verdict.NOT_REHEARSED


def failovers(evidence: Evidence) -> list[float]:
    """How long each move to another tier took, where nothing but the move was waited for."""
    found = []
    for task in evidence.tasks:
        played = [each for run in task["runs"] for each in evidence.of_run(run["id"])]
        for one, other in pairwise(played):
            if one.tier != other.tier and one.ended is not None and not _leapt(evidence, one, other):
                found.append(max(0.0, other.began - one.ended))
    return found


def _leapt(evidence: Evidence, one: Played, other: Played) -> bool:
    return any((one.ended_ms or 0) <= begin <= other.at_ms for begin, _ in evidence.leaps)


def timeline(evidence: Evidence, began_ms: int) -> list[Happening]:
    """What happened, in order."""
    told = (*_runs(evidence), *_switches(evidence))
    lines = [Happening(at_ms - began_ms, chain, tier, what) for at_ms, chain, tier, what in told]
    return sorted(lines, key=lambda each: each.after_ms)


def _runs(evidence: Evidence) -> Iterator[tuple[int, str, str | None, str]]:
    for each in evidence.played:
        again = " again in its session" if each.resumed else ""
        yield each.at_ms, each.chain, each.tier, f"runs task {each.task}{again}"
        if each.ended_ms:
            how = f"fails: {each.kind}" if each.kind else "succeeds"
            yield each.ended_ms, each.chain, each.tier, f"{how} ({each.recording.name}, {each.tokens.total:,} tokens)"


def _switches(evidence: Evidence) -> Iterator[tuple[int, str, str | None, str]]:
    for hold in evidence.holds:
        until = f"until {iso(hold.until_ms)}" if hold.until_ms else "until released"
        yield hold.since_ms, hold.chain, hold.tier, f"{hold.target} is held for {hold.kind} {until}"
        if hold.ended_ms:
            length = span(hold.ended_ms - hold.since_ms)
            yield hold.ended_ms, hold.chain, hold.tier, f"{hold.target} is back from {hold.kind} after {length}"


def as_json(config: str, results: Sequence[Result]) -> dict[str, Any]:
    """The whole of a drill, for programs."""
    return {
        "schema": SCHEMA,
        "config": config,
        "passed": all(each.passed for each in results),
        "scenarios": [_scenario(each) for each in results],
    }


def _scenario(each: Result) -> dict[str, Any]:
    return {
        "name": each.name,
        "says": each.says,
        "verdict": each.verdict,
        "passed": each.passed,
        "seconds": round(each.seconds, 2),
        "broken": [{"promise": breach.promise, "what": breach.what} for breach in each.breaches],
        "failover": {
            "moves": len(each.failovers),
            "median_ms": _ms(median(each.failovers)) if each.failovers else None,
            "slowest_ms": _ms(max(each.failovers)) if each.failovers else None,
        },
        "runs": each.runs,
        "tokens": each.tokens,
        "holds": [_hold(hold) for hold in each.holds],
        "not_rehearsed": [
            {"tier": tier, "fault": fault, "why": why} for (tier, fault), why in each.unrehearsed.items()
        ],
        "notes": list(each.notes),
        "timeline": [
            {"after_ms": line.after_ms, "chain": line.chain, "tier": line.tier, "what": line.what}
            for line in each.timeline
        ],
        "log": each.log or None,
    }


def _hold(hold: Held) -> dict[str, Any]:
    return {
        "target": hold.target,
        "kind": hold.kind,
        "chain": hold.chain,
        "tier": hold.tier,
        "since": iso(hold.since_ms),
        "until": iso(hold.until_ms),
        "ended": iso(hold.ended_ms),
        "reason": hold.reason,
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def summary(results: Sequence[Result]) -> str:
    """What came of all of them, in a sentence for people."""
    counted = Counter(each.verdict for each in results)
    if broken := [each.name for each in results if each.verdict is Verdict.FAIL]:
        said = f"promises are broken in {len(broken)} of {_scenarios(len(results))}: {', '.join(broken)}"
    else:
        said = f"every promise holds in {_scenarios(counted[Verdict.PASS])}"
    return f"{said}, {counted[Verdict.NOT_REHEARSED]} not rehearsed" if counted[Verdict.NOT_REHEARSED] else said


def _scenarios(count: int) -> str:
    return f"{count} scenario{'' if count == 1 else 's'}"


def lines(each: Result, *, whole: bool) -> Iterator[str]:
    """One scenario for people; `whole` with its timeline, which one that fails has always."""
    moves = ""
    if each.failovers:
        slowest = max(each.failovers)
        count = len(each.failovers)
        moves = (
            f", {count} {'move' if count == 1 else 'moves'} in {median(each.failovers):.2f} s (at most {slowest:.2f} s)"
        )
    verdict = "FAIL" if each.verdict is Verdict.FAIL else each.verdict
    yield f"{verdict}  {each.name:<15} {each.says}: {each.runs} runs, {each.tokens:,} tokens{moves}"
    for breach in each.breaches:
        yield f"      broken: {breach.promise}: {breach.what}"
    for hold in each.holds:
        until = iso(hold.until_ms) or "released"
        length = f" ({span(hold.until_ms - hold.since_ms)})" if hold.until_ms else ""
        yield f"      held: {hold.target} for {hold.kind} until {until}{length}"
    for note in each.notes:
        yield f"      note: {note}"
    for (tier, fault), why in each.unrehearsed.items():
        yield f"      not rehearsed: {fault} on {tier}: {why}"
    if whole or not each.passed:
        for line in each.timeline:
            seconds = max(0, line.after_ms) // 1000
            at = f"{seconds // 86400}d {seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            yield f"      {at:>13}  {line.chain}  {line.tier or '-'}  {line.what}"
    if each.log:
        yield "      the daemon's log:"
        yield from (f"        {line}" for line in each.log.splitlines()[-30:])
