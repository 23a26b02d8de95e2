"""The benchmarks run, and their page names every target. How fast anything is, is measured and never asserted."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from bench import run
from bench.old_ledger import DAY, HOUR, Past, audited, build
from bench.page import Measured, lines, page
from bench.rounds import interleaved, quantile, short
from bench.subject import Found, Limit, Subject

ROOT = Path(__file__).resolve().parents[2]
SPEED = Limit("how long it takes", 10, "ms")
RATE = Limit("how much it does", 0.4, "x", at_least=True)


@pytest.mark.slow
@pytest.mark.parametrize("subject", run.SUBJECTS, ids=lambda subject: subject.name)
def test_a_benchmark_works(subject: Subject, tmp_path: Path) -> None:
    """Each benchmark does all of its work at a tiny size, and yields figures that can be ones."""
    if why := subject.cannot():
        pytest.skip(why)
    found = subject.at_tiny_size(tmp_path)
    assert all(0 < figure < math.inf for figure in found.figures)
    assert all(what and told for what, told in found.details)


@pytest.mark.parametrize("entries", [1_000, 2_345])
def test_a_ledger_made_in_bulk_is_a_real_one(tmp_path: Path, entries: int) -> None:
    """What is measured on is a ledger in which the audit finds every entry and nothing wrong."""
    past = Past(entries, 800, 3 * DAY, 20_000 * DAY + 9 * HOUR + 7)
    build(tmp_path / "made.db", past)
    assert audited(tmp_path / "made.db", past.end_ms) == (entries, ())


def test_the_page_tells_every_target() -> None:
    """docs/benchmarks.md has a line with target and figure for each limit there is, and a section for each subject."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for subject in run.SUBJECTS:
        assert f"\n## {subject.name}\n" in text
        assert subject.how in text
        for limit in subject.limits:
            row = re.escape(f"| [{subject.name}](#{subject.name}) | {limit.what} | {limit.target} | ")
            assert re.search(row + r"[\d.,]+ \S+ \| (kept|\*\*missed\*\*) \|$", text, re.MULTILINE)


def test_a_miss_is_named() -> None:
    """A figure beyond its bound is told as missed, on the page and in the terminal, with the reason that is known."""
    subject = Subject("speed", (SPEED, RATE), "Looked at it.", lambda _: Found(()), known_miss="It rains.")

    def told(*figures: float) -> tuple[str, str]:
        measured = Measured(subject, Found(figures), "nobody else was there")
        return page([measured], [("disk", "round")], "today"), lines([measured])[-1]

    assert told(10, 0.4)[1] == "No target is missed."
    whole, last = told(10.1, 0.39)
    assert last == "Missed: speed (10.1 ms, ≤ 10 ms); speed (0.390 x, ≥ 0.4 x)."
    assert "| 10.1 ms | **missed** |" in whole
    assert "It rains." in whole
    assert "It rains." not in told(0.1, 7)[0]


def test_arms_take_turns() -> None:
    """Every arm is measured once a round, none always first, and what was measured to warm up is thrown away."""
    order: list[str] = []

    def arm(name: str) -> float:
        order.append(name)
        return len(order)

    found = interleaved({name: lambda name=name: arm(name) for name in "abc"}, rounds=2, warm_up=1)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"
    assert found == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}


def test_figures_keep_the_digits_that_matter() -> None:
    """Three digits, never more; quantiles are figures that were measured."""
    assert [short(each) for each in (0.012345, 4.5678, 78.95, 12_345.6)] == ["0.0123", "4.57", "79.0", "12,346"]
    assert [quantile(range(1, 101), part) for part in (0.1, 0.5, 0.99)] == [10, 50, 99]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt benchmark is told with the names there are, before anything is measured."""
    assert run.main(["bumb"]) == 2
    assert "bumb" in capsys.readouterr().err
