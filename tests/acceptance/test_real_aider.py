"""The real aider under the real daemon: code 0 whatever happens, and every token of its one log counted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage
from tests.harness import until

pytestmark = [pytest.mark.agents, pytest.mark.timeout(500)]
AGENT, SECOND = "aider", "claude-code"
# It tries again nine times in 64 seconds, and nothing of its own bounds that: here its time is up before. What it
# retried is then what it failed of.
SOON = {"time_limit": "45s"}
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, exit=0, hold=(30 * MINUTE,) * 2, on="account"),
    Case("toolong", (Step("too_long"),), FailureKind.CONTEXT_OVERFLOW, exit=0, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, exit=0, hold=(6 * HOUR,) * 2),
    Case(
        "forbidden",
        (Step("forbidden"),),
        FailureKind.AUTH_ERROR,
        exit=143,
        hold=(30 * MINUTE,) * 2,
        on="account",
        more=SOON,
    ),
    Case(
        "credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, exit=143, hold=(HOUR,) * 2, on="account", more=SOON
    ),
    # A tier without limits: a minute of retrying is enough.
    Case("throttle", (Step("throttle"),), FailureKind.RATE_LIMIT, exit=143, hold=(MINUTE,) * 2),
    # The reset is in the provider's answer, and aider does not pass it on: the hold is a guess.
    Case(
        "limit",
        (Step("usage_limit", reset_in_s=2 * HOUR),),
        FailureKind.USAGE_LIMIT,
        exit=143,
        hold=(30 * MINUTE,) * 2,
        on="account",
        more=SOON,
    ),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, exit=143, runs=3, hold=(MINUTE,) * 2, more=SOON),
    Case("refused", (Step(),), FailureKind.NETWORK, exit=143, runs=3, hold=(30,) * 2, refused=True, more=SOON),
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=143, more={"stall_after": "20s"}),
)


def plain(tokens: Tokens) -> Tokens:
    """As aider tells them: what was cached is in the input."""
    return Tokens(tokens.input + tokens.cache_read, tokens.output)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("aider"), CASES, AGENT, SECOND, wait=False) as begun:
        yield begun


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


def test_what_it_edits_is_all_that_it_leaves_in_a_folder(made: Stage) -> None:
    """An answer in its edit format is applied; the folder is no repository before and none after."""
    made.world.chain_of("edit", [made.tier("edit-first", AGENT, Step(text="fence.txt\n```\ngreen\n```\n"))])
    place = made.world.place()
    task = made.world.do("edit", "paint the fence green", cwd=place)
    assert real.path_of(task) == [("edit-first", None, 0)]
    assert (place / "fence.txt").read_text() == "green\n"
    assert [path.name for path in place.iterdir()] == ["fence.txt"]
    assert real.known(task) == made.counted("edit-first") == plain(made.issued("edit-first")) != Tokens()
    made.audit()


def test_a_repository_is_not_committed_to_and_gets_no_name(made: Stage) -> None:
    """No commit, no .gitignore, no user.name in its settings; the map of it is all that lies there."""
    made.world.chain_of("tree", [made.tier("tree-first", AGENT, Step(text="fence.txt\n```\ngreen\n```\n"))])
    place = made.world.place()
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    before = (place / ".git" / "config").read_text()
    assert real.path_of(made.world.do("tree", cwd=place)) == [("tree-first", None, 0)]
    left = {path.name for path in place.iterdir()} - {".aider.tags.cache.v4"}
    assert left == {".git", "fence.txt"}
    assert (place / ".git" / "config").read_text() == before
    assert not list((place / ".git" / "refs" / "heads").iterdir())


def test_it_begins_anew_when_it_was_stopped(tmp_path: Path) -> None:
    """It has no sessions: after a clean stop in mid-run the whole prompt is asked again, and counted as it was."""
    with real.stage(tmp_path) as made:
        made.world.chain_of("again", [made.tier("again-first", AGENT, Step("hang"), Step())])
        task = made.world.begin("again", "paint the fence green")
        assert made.provider.wait_for(lambda each: each.hanging == 1, 60)
        assert made.world.stop() == 0
        made.world.start()
        ended = made.world.ended(task)
        assert real.path_of(ended) == [("again-first", None, 143), ("again-first", None, 0)]
        assert [run["session"] for run in ended["runs"]] == [None, None]
        assert "paint the fence green" in made.told("again-first")[-1]
        assert made.counted("again-first") == plain(made.issued("again-first"))
        made.audit()


def test_a_killed_daemon_finds_its_log_again(tmp_path: Path) -> None:
    """Kill -9 while it waits for its answer: the next daemon knows the log by what was kept of the environment."""
    with real.stage(tmp_path) as made:
        made.world.chain_of("kill", [made.tier("kill-first", AGENT, Step("hang"))])
        task = made.world.begin("kill")
        assert made.provider.wait_for(lambda each: each.hanging == 1, 60)
        made.world.kill()
        made.provider.release()
        until(lambda: any((made.world.state / "runs").glob("*/exit")), "the agent ends", 60)
        made.world.start()
        ended = made.world.ended(task)
        assert real.path_of(ended) == [("kill-first", None, 0)]
        assert real.known(ended) == made.counted("kill-first") == plain(made.issued("kill-first")) != Tokens()
        made.audit()


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget costs that task nothing, and the next one runs on the next tier."""
    tiers = [made.tier("budget-first", AGENT), made.tier("budget-second", SECOND)]
    made.world.chain_of("budget", tiers, usage_threshold_tokens=1_000, usage_reset="day")
    tasks = [made.world.do("budget", f"task {number}") for number in range(2)]
    assert [real.path_of(task) for task in tasks] == [[("budget-first", None, 0)], [("budget-second", None, 0)]]
    assert made.world.status("budget")["last_failure_kind"] == "token_budget"


def test_claude_code_takes_over(made: Stage) -> None:
    """Aider's work is handed over to Claude Code with a note."""
    made.world.chain_of("over", [made.tier("over-first", AGENT, Step("auth")), made.tier("over-second", SECOND)])
    task = made.world.do("over", "paint the fence green")
    assert real.path_of(task) == [("over-first", "auth_error", 0), ("over-second", None, 0)]
    (asked,) = made.told("over-second")
    assert "paint the fence green" in asked
    assert "auth_error" in asked


def test_the_command_line_tells_how_it_went(made: Stage) -> None:
    """What a person sees is its words, and what a script sees is 0 or 1."""
    for name, step, code in (("cli", Step(), 0), ("clibad", Step("too_long"), 1)):
        made.world.chain_of(name, [made.tier(f"{name}-first", AGENT, step)])
        shown = made.world.run("run", "--chain", name, "--cwd", str(made.world.place()), "say done")
        assert shown.returncode == code, shown.stderr
        assert ("done" in shown.stdout) is (code == 0)
        assert ("context_overflow" in shown.stdout + shown.stderr) is (code == 1)
