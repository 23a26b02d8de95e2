"""From what a run wrote to what its end meant."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.rounds import median, told
from bench.subject import Found, Limit, Subject
from locum.agents.base import End
from locum.agents.registry import AGENTS, agents
from locum.agents.replay import RECORDED_MS, STREAMS, TAIL, TRANSCRIPT, Case, Held, cases
from locum.agents.rules import parse_rules

FILES = (*(name for _, name in STREAMS), TRANSCRIPT)
WORST = {"id": "worst", "agent": "claude-code", "kind": "unknown", "pattern": r"(?:\w?\s?){120}!"}
"""A rule on which a backtracking engine would not end, about as large as a rule may be."""


def measure(_folder: Path, rounds: int = 20, most: int = 10_000) -> Found:
    """Read and judge every recorded run, one after the other, and then all of them again."""
    known = cases()[:most]
    _round(known, _classify)
    times = [_round(known, _classify) for _ in range(rounds)]
    each = {case.name: median([found[case.name] for found in times]) for case in known}
    judged = [median(list(_round(known, _judge).values())) for _ in range(rounds)]
    slowest = max(each, key=lambda name: each[name])
    prose = ("The quick brown fox jumps over the lazy dog and says so. " * TAIL)[:TAIL]
    odd, bad = (_prose(text, rounds) for text in (prose, "a " * (TAIL // 2)))
    return Found(
        (median(list(each.values())),),
        (
            (f"each of {len(known)} recorded runs, read and judged", told(list(each.values()), "ms")),
            (f"the slowest of them, {slowest}", f"{each[slowest]:.2f} ms"),
            ("judging alone", told(judged, "ms")),
            ("two tails of 16 KiB of prose that no rule fits, judged", told(odd, "ms")),
            (
                "two tails of short words, with a rule that a backtracking engine would never be done with",
                told(bad, "ms"),
            ),
        ),
    )


def _round(known: tuple[Case, ...], work: Callable[[Case], float]) -> dict[str, float]:
    return {case.name: work(case) for case in known}


def _classify(case: Case) -> float:
    """Milliseconds from its files in memory to its verdict."""
    held = Held(case.folder, case.meta, case.expected, {name: case.text(name) for name in FILES})
    end = held.end
    began = time.perf_counter_ns()
    held.replay().verdict(end)
    return (time.perf_counter_ns() - began) / 1e6


def _judge(case: Case) -> float:
    """Milliseconds from what was told to its verdict."""
    reading = case.replay()
    began = time.perf_counter_ns()
    reading.verdict(case.end)
    return (time.perf_counter_ns() - began) / 1e6


def _prose(text: str, rounds: int) -> list[float]:
    """Milliseconds to judge a failure of which only that is known, with the worst rule too unless it is prose."""
    known = AGENTS if "fox" in text else agents(parse_rules([WORST]))
    end, times = End(1, RECORDED_MS, text, text), []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        known["claude-code"].verdict(end, ())
        times.append((time.perf_counter_ns() - began) / 1e6)
    return times


SUBJECT = Subject(
    name="classify",
    limits=(Limit("classify one run, p50 over all recorded ones", 1, "ms"),),
    how=(
        "Every recorded run of the corpus: all lines that it wrote, and those of its transcript, read by its adapter, "
        "and its end judged with all rules, in this process, the files in memory. Each run's figure is its median over "
        "20 rounds; the line in the table is the median of those."
    ),
    measure=measure,
    tiny={"rounds": 2, "most": 12},
)
