"""The harness itself: it tries what it says, and sees what it is for."""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.crash import driver as module
from tests.crash.broken import BREAK
from tests.crash.driver import DYING, Driver, Kill, first_starts, kills_of, plan
from tests.crash.field import STIRS, Field
from tests.crash.oracle import examine
from tests.crash.points import BY_NAME, FIRST_STARTS, KILLS, POINTS, SHARES, TIMES, Lead, Point, When
from tests.crash.serve_and_die import NoSuchPointError, check
from tests.harness import PYTHON

PAGE = Path(__file__).resolve().parents[2] / "docs" / "specs" / "reliability.md"
AT_WORK = Kill(None, delay=0.1, before=Lead.RUNNING)
SOON = Kill(None, delay=1.2)
# Of every broken daemon: the kills that it gets, and what must be said of it.
CAUGHT: dict[str, tuple[list[Kill], str]] = {
    "doubled": ([AT_WORK] * 2, "tokens counted twice"),
    "forgetful": ([AT_WORK] * 2, r"is lost, and its agent began 1 times"),
    "abandoning": ([AT_WORK], "was never accounted for"),
    "hasty": ([SOON] * 2, "was acknowledged and is lost"),
    "halving": ([SOON] * 2, "does not end"),
    "eager": ([SOON] * 2, "of which the ledger knows nothing"),
    "careless": ([Kill(None, delay=1.2, stir="session")] * 2, "people-a: .* tokens lost"),
    "boastful": ([Kill(BY_NAME["message-marked"], stir="tell")] * 2, "was never delivered"),
    "blaming": ([Kill(BY_NAME["shutdown-term-sent"], stir="stop")] * 2, "went the wrong way: steady:crash"),
}


@pytest.mark.parametrize("point", BY_NAME.values(), ids=BY_NAME)
def test_every_point_is_there(point: Point) -> None:
    """A function that was renamed takes its point along, or this fails: no kill is made at nothing."""
    check(point)
    assert 1 <= point.first <= point.most
    assert point.stir in (*STIRS, "idle", "stop")


@pytest.mark.parametrize(
    ("path", "when"),
    [
        ("locum.store.ledger.Ledger.no_such", When.BEFORE),
        ("locum.store.no_such.Ledger.submit", When.AFTER),
        ("no_such.thing", When.AFTER),
        ("locum.store.sqlite.Database.no_such", When.SET),
        ("locum.store.sqlite.BUSY_MS", When.AFTER),
    ],
)
def test_a_point_that_names_nothing_is_refused(path: str, when: When) -> None:
    """What is gone is told, not passed over."""
    with pytest.raises(NoSuchPointError):
        check(Point("gone", path, when))


def test_a_daemon_with_an_unknown_point_does_not_serve() -> None:
    """A mistyped point ends the launcher at once."""
    done = subprocess.run([PYTHON, DYING, "no-such-point", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no-such-point" in done.stderr


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_plan_makes_every_kill_and_tries_every_point(seed: int) -> None:
    """300 kills in all, each point several times, the same again for the same seed."""
    shares = [plan(share, seed) for share in range(SHARES)]
    firsts = [first_starts(seed, turn) for turn in range(TIMES)]
    kills = [kill for part in (*shares, *firsts) for kill in part]
    assert len(kills) == KILLS == 300
    assert [len(share) for share in shares] == [kills_of(share) for share in range(SHARES)]
    tried = Counter(kill.point for kill in kills)
    assert tried.pop(None) >= 30, "enough are left for random moments"
    assert set(tried) == {*POINTS, *FIRST_STARTS}
    assert min(tried.values()) >= TIMES >= 2
    assert shares == [plan(share, seed) for share in range(SHARES)]


def test_the_page_tells_of_every_point() -> None:
    """docs/specs/reliability.md says of each point what it lies between, and of none that is gone."""
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(BY_NAME)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", BREAK)
def test_a_broken_daemon_is_caught(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is wrong in one thing is found out, by just that."""
    monkeypatch.setattr(module, "DRAIN", 5.0)
    kills, said = CAUGHT[broken]
    driver = Driver(Field(tmp_path, random.Random(0)), broken)
    try:
        for kill in kills:
            driver.live(kill)
        problems, _ = examine(driver)
    finally:
        driver.clear()
    assert any(re.search(said, problem) for problem in problems), problems


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_point_that_is_never_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill that never comes is no kill that was survived."""
    monkeypatch.setattr(module, "BOUND", 3.0)
    driver = Driver(Field(tmp_path, random.Random(0)))
    try:
        with pytest.raises(AssertionError, match="never reached: given-up-before"):
            driver.live(Kill(BY_NAME["given-up-before"], stir="idle"))
    finally:
        driver.clear()
