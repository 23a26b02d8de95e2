"""What was measured, as the page docs/benchmarks.md and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.rounds import short
from bench.subject import Found, Limit, Subject

HEAD = """\
# Benchmarks

How fast locum is, held against what it is meant to be. `make bench` measures all of it again and writes this page;
`make bench ONLY=record` measures one subject and only prints. No test asserts any of it: a figure belongs to the
machine and the moment it was taken on. What is compared was measured side by side in one run, the order turning from
round to round; figures are medians (p50) of the rounds after a warm-up.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One subject with what was found, and what others did to the machine meanwhile."""

    subject: Subject
    found: Found
    noise: str

    @property
    def rows(self) -> list[tuple[Limit, float]]:
        """Its limits, each with its figure."""
        return list(zip(self.subject.limits, self.found.figures, strict=True))


def page(results: Sequence[Measured], machine: Sequence[tuple[str, str]], day: str) -> str:
    """The whole page. `machine` tells in lines what was measured on."""
    where = _table(("", f"measured {day}"), machine)
    figures = _table(
        ("subject", "what", "target", "measured", ""),
        [
            (
                f"[{each.subject.name}](#{each.subject.name})",
                limit.what,
                limit.target,
                _figure(limit, figure),
                _verdict(limit, figure),
            )
            for each in results
            for limit, figure in each.rows
        ],
    )
    return "\n".join(
        [HEAD, *figures, "", *_missed(results), "", *where, *(line for each in results for line in _section(each)), ""]
    )


def lines(results: Sequence[Measured]) -> list[str]:
    """The figures for a terminal, what was missed at the end."""
    told = []
    for each in results:
        for limit, figure in each.rows:
            figures = f"{_figure(limit, figure):>10}  {limit.target:>10}"
            told.append(f"{_verdict(limit, figure):10}  {figures}  {each.subject.name}: {limit.what}")
    return [*told, *_missed(results)]


def details(each: Measured) -> list[str]:
    """Everything that was found about one subject, for a terminal."""
    told = [f"  {what}: {figure}" for what, figure in each.found.details]
    return [*told, f"  {each.noise}"]


def _section(each: Measured) -> list[str]:
    known = [f"Why it is missed: {each.subject.known_miss}", ""] if each.subject.known_miss and _misses(each) else []
    return [
        "",
        f"## {each.subject.name}",
        "",
        each.subject.how,
        "",
        *known,
        *(_table(("what", "p50 (spread)"), each.found.details) if each.found.details else []),
        "",
        f"Meanwhile {each.noise}. Again: `make bench ONLY={each.subject.name}`.",
    ]


def _missed(results: Sequence[Measured]) -> list[str]:
    misses = [
        f"{each.subject.name} ({_figure(limit, figure)}, {limit.target})"
        for each in results
        for limit, figure in _misses(each)
    ]
    return [f"Missed: {'; '.join(misses)}." if misses else "No target is missed."]


def _misses(each: Measured) -> list[tuple[Limit, float]]:
    return [(limit, figure) for limit, figure in each.rows if not limit.kept(figure)]


def _figure(limit: Limit, figure: float) -> str:
    return f"{short(figure)} {limit.unit}"


def _verdict(limit: Limit, figure: float) -> str:
    return "kept" if limit.kept(figure) else "**missed**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
